"""The GPU backend: CUDA text compiled and launched by CuPy."""
