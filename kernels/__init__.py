"""Kernels that fuse the trace update, its use and its write-back into one pass."""
