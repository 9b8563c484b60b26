"""Two equations in two unknowns, by Broyden's method."""

from __future__ import annotations

Pair = tuple[float, float]


class Broyden:
    """The Jacobian of two functions, learnt from their values on the way.

    jacobian : ((df/dx, df/dy), (dg/dx, dg/dy)), a guess of it
    """

    def __init__(self, jacobian: tuple[Pair, Pair]) -> None:
        self.jacobian = jacobian
        self._before: tuple[Pair, Pair] | None = None

    def learn(self, at: Pair, values: Pair) -> None:
        """The least change of the Jacobian that tells the last two values apart."""
        if self._before is not None:
            (x, y), old = self._before
            dx, dy = at[0] - x, at[1] - y
            square = dx * dx + dy * dy
            if square > 0.0:
                rows = []
                for (a, b), now, last in zip(self.jacobian, values, old, strict=True):
                    share = (now - last - a * dx - b * dy) / square
                    rows.append((a + share * dx, b + share * dy))
                self.jacobian = rows[0], rows[1]
        self._before = at, values

    def step(self, values: Pair) -> Pair:
        """Where both are 0 by the Jacobian, from here; infinite where it is singular."""
        (a, b), (c, d) = self.jacobian
        f, g = values
        size = a * d - b * c
        if size == 0.0:
            return float("inf"), float("inf")
        return (b * g - d * f) / size, (c * f - a * g) / size
