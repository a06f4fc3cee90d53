from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rtrl.tasks._data import as_generator, check_count
from rtrl.tasks._examples import Examples, Split, unequal_lengths
from rtrl.validate import require

OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
SYMBOLS = (*"0123456789", *OPERATORS, "X")  # the token of a symbol is its place here, plus 1
TOKENS = {symbol: token for token, symbol in enumerate(SYMBOLS, 1)}
TOKENS["]"] = TOKENS["X"]
END = TOKENS["X"]
MAX_DEPTH = 10
MAX_CHILDREN = 10
EXPAND = 0.25


def listops(
    train: int = 96_000,
    validation: int = 2_000,
    test: int = 2_000,
    *,
    rng: int | np.random.Generator = 0,
    shortest: int = 501,
    longest: int = 1999,
    data_dir: str | Path | None = None,
) -> Split:
    """Evaluate a nested expression of MIN, MAX, MED and SM (sum modulo 10) over digits.

        [MAX 2 9 [MIN 4 7 ] 0 ]  =  9

    Expressions are drawn from the generator of the Long Range Arena and are all different: a node
    (the root has depth 1) is expanded with probability 1/4 if its depth is below 10, else it is a
    uniform digit; an expanded node has 2 to 10 children, then a uniform operator. Only expressions
    of `shortest` .. `longest` tokens are kept. MED is the median without its fraction. The full
    size takes about two minutes; it is the same every time for the same seed and sizes. `data_dir`
    reads the benchmark's own basic_train.tsv, basic_val.tsv and basic_test.tsv instead (no hash is
    known for these).

    Args:
        train, validation, test: how many expressions for each, at least 1.
        rng: a seed, or a generator.
        shortest, longest: bounds on the tokens of an expression.
        data_dir: the folder with the benchmark's own files; `None` to draw expressions.

    Shapes of a batch, padded to T = the longest expression:
        xs: (T, batch) int32: 0 padding, 1 .. 10 the digits, 11 .. 14 MIN, MAX, MED and SM with
            their brackets, 15 the closing bracket. For an embedding of 16 tokens:
            `SequenceModel(in_size=None, encoder=...)`.
        ys: (T, batch) int32, the value, 0 .. 9, at every timestep.
        weights: (T, batch) float32, 1 / the expression's own timesteps, zero on padding.

    Loss: cross entropy with 10 logits; `sequence_accuracy` averages the logits over time.
    Floors, accuracy: largest class 0.173, the best answer to the root's operator alone (the first
    token, no further memory) 0.371; the paper's network learned without traces 0.320 (spatial) and
    0.319 (truncated), with RTRL 0.376, with BPTT 0.398.

    Raises:
        ValueError: an argument out of its range; there are not as many different expressions; a
            file is missing or is something else.

    Source: Nangia and Bowman, "ListOps", NAACL 2018; sizes: Tay et al., "Long Range Arena", ICLR
    2021.
    """
    if data_dir is not None:
        files = [Path(data_dir) / f"basic_{part}.tsv" for part in ("train", "test", "val")]
        return Split(*(read_listops(file) for file in files))
    check_count("train", train)
    check_count("validation", validation)
    check_count("test", test)
    check_count("shortest", shortest)
    ordered = isinstance(longest, (int, np.integer)) and longest >= max(shortest, 4)
    require(ordered, "longest", f"an integer of at least {max(shortest, 4)}", longest)
    source = expressions(as_generator(rng), shortest, longest)
    seen: set[bytes] = set()
    sequences, labels = [], []
    total, repeated = train + validation + test, 0
    while len(sequences) < total:
        tokens, value = next(source)
        repeated = repeated + 1 if tokens.tobytes() in seen else 0
        if repeated == 0:
            seen.add(tokens.tobytes())
            sequences.append(tokens)
            labels.append(value)
        few = f"room for {total} different expressions, of which {len(sequences)} were found"
        require(repeated < 10_000, "longest", few, longest)

    def part(start: int, count: int) -> Examples:
        chosen = slice(start, start + count)
        return unequal_lengths(sequences[chosen], labels[chosen], 10)

    return Split(part(0, train), part(train + validation, test), part(train, validation))


def expressions(
    rng: np.random.Generator, shortest: int = 501, longest: int = 1999
) -> Iterator[tuple[np.ndarray, int]]:
    """Expressions without end: the tokens, (length,) uint8, and the value."""
    draw = _Draws(rng)
    while True:
        tokens: list[int] = []
        value = _expression(draw, 1, tokens, longest)
        if value is not None and shortest <= len(tokens):
            yield np.array(tokens, np.uint8), value


def evaluate(operator: str, values: list[int]) -> int:
    """The value of an operator applied to digits."""
    if operator == "[MIN":
        return min(values)
    if operator == "[MAX":
        return max(values)
    if operator == "[SM":
        return sum(values) % 10
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) // 2


def read_listops(path: Path) -> Examples:
    """Read a file of the Long Range Arena: a header, then expression, tab, value."""
    require(path.is_file(), "data_dir", f"a folder with the file {path.name}", str(path.parent))
    sequences, labels = [], []
    with path.open(encoding="utf-8") as file:
        next(file, None)
        for number, line in enumerate(file, 2):
            where = f"{path.name} line {number}"
            expression, _, value = line.rstrip("\r\n").partition("\t")
            require(value in SYMBOLS[:10], where, "an expression, a tab and a digit", line[:60])
            symbols = [s for s in expression.split() if s not in "()"]
            unknown = [s for s in symbols if s not in TOKENS]
            require(bool(symbols) and not unknown, where, f"symbols of {SYMBOLS}", unknown[:5])
            sequences.append(np.array([TOKENS[s] for s in symbols], np.uint8))
            labels.append(int(value))
    require(bool(sequences), "data_dir", f"expressions in {path.name}", "none")
    return unequal_lengths(sequences, labels, 10)


def _expression(draw: "_Draws", depth: int, tokens: list[int], longest: int) -> int | None:
    """Draw a node, append its tokens, return its value; None once there are too many tokens."""
    if depth >= MAX_DEPTH or draw.uniform() > EXPAND:
        digit = draw.below(10)
        tokens.append(1 + digit)
        return digit
    place = len(tokens)
    tokens.append(0)
    values = []
    for _ in range(2 + draw.below(MAX_CHILDREN - 1)):
        value = _expression(draw, depth + 1, tokens, longest)
        if value is None or len(tokens) > longest:
            return None
        values.append(value)
    operator = OPERATORS[draw.below(4)]
    tokens[place] = TOKENS[operator]
    tokens.append(END)
    return None if len(tokens) > longest else evaluate(operator, values)


class _Draws:
    """Uniform numbers, drawn from the generator a block at a time: single draws are slow."""

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self._block: list[float] = []

    def uniform(self) -> float:
        if not self._block:
            self._block = self._rng.random(4096).tolist()
        return self._block.pop()

    def below(self, n: int) -> int:
        return int(self.uniform() * n)
