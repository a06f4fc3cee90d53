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


BYTES_IN_FLIGHT = 4 << 20  # an H100 moves 2.3 MB within a latency of 0.7 microseconds
LARGEST_GRID_YZ = 65535


def _ceil_power(n: int) -> int:
    return 1 << (n - 1).bit_length()


def choose(shape: Shape) -> Tile:
    """Cut a launch: by what fits the registers, then finer until memory has enough to do.

    One warp a program: with several, the inputs would pass through shared memory and a barrier
    every timestep, and most loads would be narrow. Each thread holds 16 real numbers of the trace,
    which takes 50 to 80 registers and spills nothing in any compiler we have (twice as many would
    fit most of them: ``make verify-gpu-kernels``). At least two modules a tile, so that their
    coefficients are loaded together.

    A program has one tile in flight, so a small layer needs more programs to keep the memory busy:
    they take fewer modules each, and then share the batch, as long as the additional gradients
    stay below an eighth of the trace.
    """
    planes = shape.d * shape.P
    columns = min(128, 256 // planes, _ceil_power(shape.H))
    rows = min(512 // planes // columns, _ceil_power(shape.N))

    def enough(rows: int, splits: int) -> bool:
        programs = -(-shape.N // rows) * -(-shape.H // columns) * splits
        return programs * rows * columns * planes * 4 >= BYTES_IN_FLIGHT

    if not enough(rows, 1) and rows * columns > 256:
        rows //= 2
    splits = 1
    while (
        not enough(rows, splits)
        and shape.B % (2 * splits) == 0
        and 8 * (2 * splits) <= shape.B * shape.d
    ):
        splits *= 2
    return Tile(rows, columns, splits, warps=1)


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
    "complex, one input, N = 1024, B = 16, K = 8": Shape(8, 16, 1, 2, 1024, 1),
    "real, 33 inputs, N = 500, B = 8, K = 4": Shape(4, 8, 1, 1, 500, 33),
}
