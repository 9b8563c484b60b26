import numpy as np

NODES: np.ndarray[tuple[int], np.dtype[np.float64]]
RULE: np.ndarray[tuple[int], np.dtype[np.float64]]
RULE_GAUSS: np.ndarray[tuple[int], np.dtype[np.float64]]

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
