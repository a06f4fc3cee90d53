"""Kernels that fuse the trace update, its use and its write-back into one pass."""

from rtrl.kernels._api import diagonal_trace as diagonal_trace
from rtrl.kernels._api import diagonal_trace_split as diagonal_trace_split
from rtrl.kernels._api import kernel_pays as kernel_pays
from rtrl.kernels._planes import from_planes as from_planes
from rtrl.kernels._planes import to_planes as to_planes
