"""Every kernel of the GPU backend, at sizes for compute-sanitizer."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

import cert_core as cc
from cert_core import kernels

gpu: Any = kernels.backend("gpu")
for dim in (64, 5000):
    for family in ("gaussian", "laplace", "l1", "l2", "linf", "mixed"):
        noise = cc.NOISES[family].with_rms(
            dim, 1.0, 0.0 if family in ("gaussian", "laplace") else dim / 3
        )
        for dtype in kernels.DTYPES:
            z = gpu.draw(noise, 70, 1, center=cupy.ones(dim, dtype), dtype=dtype)
            for attack in ("l1", "linf"):
                shift = cc.worst_shift(noise, attack, 0.5)
                gpu.log_ratio(noise, z, shift)
                gpu.draw_log_ratio(noise, shift, 70, 1)
        gpu.draw_lattice(noise, 70, 1, cc.Lattice("1/255"), center=np.zeros(dim, np.int64))
    for channel in (
        cc.Flips(dim, 5, 0.6), cc.SparseFlips(dim, 0.1, 0.2), cc.Ablation(dim, dim // 3),
        cc.Splitting(dim, 0.2), cc.Uniform(dim, 0.4),
    ):  # fmt: skip
        for dtype in kernels.DTYPES:
            gpu.draw(channel, 70, 1, center=np.zeros(dim, np.int64), dtype=dtype)
gpu.module.PROBES = 64
gpu.hinge_bound(cupy.linspace(-1, 1, 70_001), 0.9, 0.01)
cupy.cuda.Device().synchronize()
