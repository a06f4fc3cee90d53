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
## What agrees with the thesis, and what does not

Agrees:

- Sensitivities through RTRL traces grow as the closed forms say (3.1).
- For the same number of batches dense students fall behind as the teacher remembers longer: after
  1,000 by BPTT from 3 times the LRU's error at ν0 = 0.5 to 300 times at 0.99 (3.3.A). At 0.99 all
  of the gap goes with the step from dense to blocks of two; every later change moves the error
  by less, up or down (3.3.B).
- At one optimum that four networks share (3.4, A.4) all have curvatures of 10^6 and more. In the
  dense one they lie in all of A, and Adam's rates there end a factor of 15 lower than in the
  diagonal ones; the LRU's are almost all in the angle, S4D's in the step, never in the modulus.
- Deep stacks (3.5): the complex diagonal explodes, its recurrent parameters most; in the LRU the
  gradient of the angle alone grows, in the GRU none.

Does not, or only in part:

- The dense student is slower, not stuck: after 10,000 batches it too is near 10^-5 (one seed, begun
  at ν0 = 0; begun at the teacher's moduli it diverges at most rates). The thesis trains as long
  with batches of 128; here they are of 16.
- The LRU is not the best of the chain. The gain alone does better than gain and exponential
  together, and the exponential alone is the worst of the modular ones.
- Online (chunks of 10) the LRU stays behind the complex diagonal, and blocks of two learn to the
  end on some seeds and next to nothing in 600 batches on another. A dense student under SnAp-1
  learns where memory is short, and hardly at ν0 = 0.97 and 0.99; begun at the teacher's moduli it
  diverges at every rate that was tried.
- Eigenvectors of the complex diagonal's Hessian lie on hardly fewer parameters than those of the
  dense one: its eigenvalues are conjugate pairs here, which share every direction.
- Layer norm slows the explosion of the complex diagonal and does not stop it; S4D has none,
  because its step, which is also its gain, shrinks as its memory grows.

Not done: the thesis's ten seeds, and the seeds and students that say so above.
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
