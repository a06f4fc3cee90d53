"""The curse of memory, from our own runs: figures 3.1, 3.3, 3.4 and 3.5 of Zucchet's thesis.

    python bench/curse.py     what is missing is computed; then the table and the pictures
    python bench/curse.py --table     the table and the pictures of what there is
    python bench/_curse_teachers.py LRU 0.99 BPTT 0     one setting and seed alone, for many cores

3.1: energies sampled through our cells and their RTRL traces, landscapes in closed form. 3.3:
teachers of 10 linear neurons whose eigenvalues have moduli near nu0; students of 64, the ends of
the chain for every nu0 and every change on the way from dense to LRU at nu0 = 0.99, by BPTT for
10,000 batches of 16 sequences of 300 timesteps (the thesis: batches of 128) and online in chunks of
10 for 2,000; the rate chosen on another seed with a tenth of the batches, then three seeds. 3.4:
the Hessian at the optimum of a dense, a complex diagonal, an LRU and an S4D student that compute
the same, how its top eigenvectors lie to the axes, and Adam's rates as they act. 3.5: four layers
as initialised, states and gradients by nu0; noise with the autocorrelation of sentences in their
place. 3.3 takes about an hour on one core; the rest two minutes.

Writes bench/results/analysis/curse_*.json and teachers/*.json, curse.md and curse_*.png.
"""

import argparse
from typing import Any

from _analysis_runs import RESULTS, kept
from _curse_deep import STACKS, deep
from _curse_energies import sampled_energies
from _curse_hessian import hessians
from _curse_pictures import draw
from _curse_tables import table
from _curse_teachers import COMMAND, settings, student_of

VERDICT = """\
"""


def measure(missing: bool) -> dict[str, Any]:
    """Everything that was measured, and, if asked, what is missing."""
    teachers = {}
    for kind, nu0, method in settings():
        teachers[kind, nu0, method] = student_of(kind, nu0, method, missing=missing)
    return {
        "energies": kept("curse_energies", sampled_energies, COMMAND),
        "hessian": kept("curse_hessian", hessians, COMMAND),
        "deep": {
            stack: kept(f"curse_deep_{stack.replace(' ', '_')}", lambda s=stack: deep(s), COMMAND)
            for stack in STACKS
        },
        "teachers": {k: v for k, v in teachers.items() if v is not None},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="train no student")
    found = measure(not parser.parse_args().table)
    (RESULTS / "curse.md").write_text(table(found, VERDICT))
    draw(found)


if __name__ == "__main__":
    main()
