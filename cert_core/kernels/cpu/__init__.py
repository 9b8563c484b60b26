"""The CPU backend: Numba kernels, in tiles that vectorise."""
