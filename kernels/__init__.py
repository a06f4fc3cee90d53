"""How is the trace updated on a GPU? Kernels that advance, read and write it back in one pass."""

from rtrl.kernels._api import diagonal_trace as diagonal_trace
from rtrl.kernels._api import kernel_pays as kernel_pays
from rtrl.kernels._api import serves as serves
