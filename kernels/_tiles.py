"""How a launch is cut into programs, and the shapes that tests and benchmarks share."""

from typing import NamedTuple


class Shape(NamedTuple):
    """Sizes of one launch.

    Attributes:
        K: timesteps.
        B: samples.
        d: numbers per module.
        P: planes of a number: 1 for real, 2 for real and imaginary part.
        N: modules.
        H: inputs.
    """

    K: int
    B: int
    d: int
    P: int
    N: int
    H: int


class Tile(NamedTuple):
    """One program's share.

    Attributes:
        N: modules, a power of two.
        H: inputs, a power of two.
        splits: programs that share the batch; each sums its own part of the gradient.
        warps: warps of 32 threads.
    """

    N: int
    H: int
    splits: int
    warps: int


ELEMENTS_PER_THREAD = 8  # of each array: two 128-bit loads
PROGRAMS_WANTED = 4 * 132  # four for each core of the largest GPU we know of, an H100
LARGEST_GRID_YZ = 65535


def _floor_power(n: int) -> int:
    return 1 << (n.bit_length() - 1)


def _ceil_power(n: int) -> int:
    return 1 << (n - 1).bit_length()


def choose(shape: Shape) -> Tile:
    """Cut a launch: by what fits the registers, then finer until the device has enough to do.

    A program holds ``d P`` planes of the trace and ``P`` of the gradient, a row of the tile in
    128 inputs if there are as many. `ELEMENTS_PER_THREAD` elements of every plane stay below 128
    registers a thread up to four planes of the trace (``make verify-gpu-kernels``). Small layers
    give few programs: then a program takes fewer modules, and the batch is split as long as the
    extra gradients stay below an eighth of the trace.
    """
    columns = min(128, _ceil_power(shape.H))
    planes = shape.d * shape.P
    elements = 1024 if planes <= 2 else 512
    rows = min(max(1, elements // columns), _ceil_power(shape.N))

    def programs(rows: int) -> int:
        return -(-shape.N // rows) * -(-shape.H // columns)

    while programs(rows) < PROGRAMS_WANTED and rows * columns > 256 and rows > 1:
        rows //= 2
    splits = 1
    while (
        programs(rows) * splits < PROGRAMS_WANTED
        and shape.B % (2 * splits) == 0
        and 8 * (2 * splits) <= shape.B * shape.d
    ):
        splits *= 2
    per_thread = ELEMENTS_PER_THREAD if planes <= 2 else ELEMENTS_PER_THREAD // 2
    warps = max(1, min(4, _floor_power(max(1, rows * columns // (32 * per_thread)))))
    return Tile(rows, columns, splits, warps)


# What the tests and the benchmarks run. Small: values, in the interpreters. Large: compilers only.
SMALL = {
    "one real number, K = 1": Shape(1, 3, 1, 1, 5, 7),
    "one real number, K = 3": Shape(3, 2, 1, 1, 9, 4),
    "one complex number, K = 1": Shape(1, 2, 1, 2, 6, 5),
    "one complex number, K = 4": Shape(4, 3, 1, 2, 3, 9),
    "two real numbers, K = 1": Shape(1, 2, 2, 1, 4, 6),
    "two real numbers, K = 3": Shape(3, 2, 2, 1, 5, 3),
    "two complex numbers, K = 2": Shape(2, 1, 2, 2, 3, 5),
    "one module, one input": Shape(2, 1, 1, 1, 1, 1),
    "one input": Shape(2, 2, 1, 2, 11, 1),
    "several tiles": Shape(2, 2, 1, 1, 17, 130),
    "a split batch": Shape(2, 32, 1, 1, 2, 3),
}
LARGE = {
    "real, N = H = 256, B = 16, K = 1": Shape(1, 16, 1, 1, 256, 256),
    "real, N = H = 1024, B = 16, K = 1": Shape(1, 16, 1, 1, 1024, 1024),
    "real, N = H = 1024, B = 16, K = 16": Shape(16, 16, 1, 1, 1024, 1024),
    "complex, N = H = 256, B = 16, K = 1": Shape(1, 16, 1, 2, 256, 256),
    "complex, N = H = 256, B = 256, K = 16": Shape(16, 256, 1, 2, 256, 256),
    "complex, N = H = 1024, B = 16, K = 1": Shape(1, 16, 1, 2, 1024, 1024),
    "complex, N = H = 1024, B = 16, K = 16": Shape(16, 16, 1, 2, 1024, 1024),
    "complex, ragged, N = 1000, H = 500, B = 1, K = 8": Shape(8, 1, 1, 2, 1000, 500),
    "two real numbers, N = H = 1024, B = 16, K = 1": Shape(1, 16, 2, 1, 1024, 1024),
    "two real numbers, N = H = 1024, B = 16, K = 16": Shape(16, 16, 2, 1, 1024, 1024),
    "two complex numbers, N = H = 512, B = 16, K = 8": Shape(8, 16, 2, 2, 512, 512),
}
