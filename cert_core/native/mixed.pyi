import numpy as np

NODES: np.ndarray[tuple[int], np.dtype[np.float64]]
NODES_FEW: np.ndarray[tuple[int], np.dtype[np.float64]]

def panel_integral(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float]: ...

class MixedNode:
    """P(l <= t | rho) for one rho (see mixed.pyx)."""

    def __init__(
        self,
        dim: float,
        k: float,
        y: float,
        span: float,
        window: float,
        wide: float,
        table: np.ndarray[tuple[int, int], np.dtype[np.float64]],
        whole: np.ndarray[tuple[int], np.dtype[np.float64]],
        degree: int,
    ) -> None: ...
    def conditional(self, t: float, log_r: float, tolerance: float) -> tuple[float, float]: ...

def conditionals(
    nodes: list[MixedNode],
    t: float,
    log_r: float,
    tolerances: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> tuple[
    np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]]
]: ...
