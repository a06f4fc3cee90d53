"""Kernels that fuse the trace update, its use and its write-back into one pass."""

from rtrl.kernels._api import diagonal_trace as diagonal_trace
from rtrl.kernels._api import kernel_pays as kernel_pays
from rtrl.kernels._api import serves as serves
