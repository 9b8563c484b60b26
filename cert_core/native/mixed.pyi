import numpy as np

class MixedNode:
    """P(l <= t | rho) for one rho (see mixed.pyx)."""

    def __init__(
        self,
        dim: float,
        k: float,
        rho: float,
        span: float,
        window: float,
        table: np.ndarray[tuple[int, int], np.dtype[np.float64]],
        degree: int,
    ) -> None: ...
    def conditional(self, t: float, r: float, tolerance: float) -> tuple[float, float]: ...
