"""An independent oracle: laws of the log ratio in mpmath, in plain geometry.

Nothing here is shared with the package.  Distances are formed and subtracted in 40
digits, thresholds come from root finding on the density, probabilities given |z| = s
from areas and overlaps of balls (below), integrals from tanh-sinh between all points
where a threshold crosses an end of the range of |z - delta|.

Given |z| = s, P(|z - delta| >= x):
  2-ball, |delta|_2 = r: the part of the sphere with cosine <= (s^2 + r^2 - x^2)/(2rs);
  1-ball, delta = (r, 0, ...): |z_1|/s ~ Beta(1, d-1), |z - delta|_1 = s - |z_1| + |z_1 - r|;
  max-ball: 1 - d/ds vol([-s, s]^d meets delta + [-x, x]^d) / d/ds (2s)^d.

`python tests/oracle.py` writes tests/oracle.json (slow: an hour or two).
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import mpmath as mp

mp.mp.dps = 40
TABLE = Path(__file__).with_name("oracle.json")


class Law:
    """The law of l = h(|z|) - h(|z - delta|), h(s) = k log s + s^power, scale 1."""

    def __init__(self, shape: str, dim: int, power: float, k: float, r: Any) -> None:
        self.shape, self.d = shape, dim
        self.power, self.k, self.r = mp.mpf(power), mp.mpf(k), mp.mpf(r)
        self.a = (dim - self.k) / self.power
        self.log_norm = mp.log(self.power) - mp.loggamma(self.a)

    def h(self, s: Any) -> Any:
        if s == 0:
            return -mp.inf if self.k > 0 else mp.mpf(0)
        return self.k * mp.log(s) + s**self.power

    def h_inverse(self, value: Any) -> Any:
        """x with h(x) = value (0 where h stays above it)."""
        if self.k == 0:
            return value ** (1 / self.power) if value > 0 else mp.mpf(0)
        # in y = log x: k y + exp(power y) = value, convex and increasing; Newton from the right
        y = value / self.k
        if value > 1:
            y = min(y, mp.log(value + 2 * self.k) / self.power + 1)
        for _ in range(500):
            e = mp.exp(self.power * y)
            step = (self.k * y + e - value) / (self.k + self.power * e)
            y -= step
            if abs(step) < mp.mpf(10) ** (-mp.mp.dps + 3) * (1 + abs(y)):
                break
        return mp.exp(y)

    def density(self, y: Any) -> Any:
        """Density of y = log |z|."""
        return mp.exp(self.log_norm + self.a * self.power * y - mp.exp(self.power * y))

    def beyond(self, x: Any, s: Any, strict: bool = False) -> Any:
        """P(|z - delta| >= x | |z| = s), or > x."""
        return getattr(self, "_" + self.shape)(x, s, strict)

    def _l2(self, x: Any, s: Any, strict: bool) -> Any:
        r, d = self.r, self.d
        if x <= abs(s - r):
            return mp.mpf(1)
        if x >= s + r:
            return mp.mpf(0)
        c = (s * s + r * r - x * x) / (2 * r * s)
        # 1 - c^2 by factors of the triangle's sides
        sin2 = (x - s + r) * (x + s - r) * (s + r - x) * (s + r + x) / (2 * r * s) ** 2
        a = mp.mpf(d - 1) / 2
        if d > 10000:
            return self._wide_cap(c, a)
        if c * c < mp.mpf(2) / (d + 2):
            half = mp.betainc(mp.mpf(1) / 2, a, 0, c * c, regularized=True) / 2
            return mp.mpf(1) / 2 + (half if c > 0 else -half)
        tail = mp.betainc(a, mp.mpf(1) / 2, 0, sin2, regularized=True) / 2
        return 1 - tail if c > 0 else tail

    @staticmethod
    def _wide_cap(c: Any, a: Any) -> Any:
        """P(cosine <= c) on a sphere of many dimensions, where mpmath's series gives up: a
        series of positive terms for P(0 < cosine < c), with digits to lose in 1/2 - that."""
        if c * c * a > 230:
            return mp.mpf(c > 0)
        with mp.workdps(160):
            y, term = c * c, mp.mpf(1)
            total, n = term, 0
            while term > total * mp.mpf(10) ** -150:
                term *= (a + mp.mpf(1) / 2 + n) / (mp.mpf(3) / 2 + n) * y
                total, n = total + term, n + 1
            return mp.mpf(1) / 2 + c * (1 - y) ** a * total / mp.beta(mp.mpf(1) / 2, a)

    def _l1(self, x: Any, s: Any, strict: bool) -> Any:
        r, d = self.r, self.d
        total = mp.mpf(0)
        # z_1 <= 0, where the distance is s + r
        total += mp.mpf(1) / 2 if (s + r > x if strict else s + r >= x) else 0
        # z_1 = y > 0: s + r - 2 min(y, r)
        if (s - min(r, s) + abs(r - min(r, s)) >= x and s - r >= x) or abs(s - r) >= x:
            return total + mp.mpf(1) / 2
        y = (s + r - x) / 2
        if y > 0:
            total += (1 - (1 - min(y / s, 1)) ** (d - 1)) / 2
        return total

    def _overlap(self, s: Any, x: Any) -> tuple[Any, int]:
        """Length of [-s, s] meets [r-x, r+x], and its derivative in s."""
        low, high = max(-s, self.r - x), min(s, self.r + x)
        if high <= low:
            return mp.mpf(0), 0
        return high - low, int(s < self.r + x) + int(-s > self.r - x)

    def _linf_linf(self, x: Any, s: Any, strict: bool) -> Any:
        length, change = self._overlap(s, x)
        return 1 - (length / (2 * s)) ** (self.d - 1) * change / 2

    def _linf_l1(self, x: Any, s: Any, strict: bool) -> Any:
        d = self.d
        length, change = self._overlap(s, x)
        wide = s < x or (strict and s == x)
        other = 2 * (s if wide else x)
        volume_change = change * other ** (d - 1)
        if wide:
            volume_change += length * (d - 1) * other ** (d - 2) * 2
        return 1 - volume_change / (2 * d * (2 * s) ** (d - 1))

    def cuts(self, t: Any) -> list[Any]:
        """Where the threshold for l = t meets s + r, |s - r|, and where s meets r, r/2."""
        low, high = self.range()
        t = mp.mpf(t)

        def outer(y: Any) -> Any:
            s = mp.exp(y)
            return self.h(s + self.r) - self.h(s) + t

        def inner(y: Any) -> Any:
            s = mp.exp(y)
            return self.h(abs(s - self.r)) - self.h(s) + t

        near = mp.log(self.r)
        points = [low + (high - low) * i / mp.mpf(1500) for i in range(1501)]
        for e in range(60):
            points += [near + sign * mp.mpf(2) ** -e for sign in (-1, 1)]
        points = sorted(p for p in points if low <= p <= high)
        found = [p for p in (near, near - mp.log(2)) if low < p < high]
        for function in (outer, inner):
            values = [function(p) for p in points]
            turns = [
                self._turn(function, points[i - 1], points[i + 1])
                for i in range(1, len(points) - 1)
                if (values[i] - values[i - 1]) * (values[i + 1] - values[i]) < 0
            ]
            marks = sorted([*zip(points, values, strict=True), *((p, function(p)) for p in turns)])
            for (low_p, low_v), (high_p, high_v) in pairwise(marks):
                if (low_v > 0) != (high_v > 0):
                    found.append(self._bisect(function, low_p, high_p))
        around = [near + sign * mp.mpf(2) ** e for e in range(-3, 4) for sign in (-1, 1)]
        found += [p for p in around if low < p < high]
        return sorted({low, high, *found, *self.quantiles(low, high)})

    @staticmethod
    def _turn(function: Any, low: Any, high: Any) -> Any:
        """The extremum of a function with one in (low, high), by golden section."""
        shrink = (mp.sqrt(5) - 1) / 2
        middle = (low + high) / 2
        sign = 1 if function(middle) > function(low) else -1
        a, b = high - shrink * (high - low), low + shrink * (high - low)
        at_a, at_b = sign * function(a), sign * function(b)
        for _ in range(110):
            if at_a > at_b:
                high, b, at_b = b, a, at_a
                a = high - shrink * (high - low)
                at_a = sign * function(a)
            else:
                low, a, at_a = a, b, at_b
                b = low + shrink * (high - low)
                at_b = sign * function(b)
        return (low + high) / 2

    @staticmethod
    def _bisect(function: Any, low: Any, high: Any) -> Any:
        sign = function(low) > 0
        for _ in range(150):
            middle = (low + high) / 2
            low, high = (middle, high) if (function(middle) > 0) == sign else (low, middle)
        return (low + high) / 2

    def range(self) -> tuple[Any, Any]:
        """log |z| between its quantiles at about 1e-45."""
        mode = mp.log(self.a) / self.power

        def end(sign: int) -> Any:
            step = mp.mpf(1)
            top = self.a * self.power * mode - mp.exp(self.power * mode)

            def drop(y: Any) -> Any:
                return top - self.a * self.power * y + mp.exp(self.power * y)

            while drop(mode + sign * step) < 105:
                step *= 2
            low, high = mp.mpf(0), step
            for _ in range(40):
                middle = (low + high) / 2
                low, high = (middle, high) if drop(mode + sign * middle) < 105 else (low, middle)
            return mode + sign * high

        return end(-1), end(1)

    def quantiles(self, low: Any, high: Any) -> list[Any]:
        """Interior points, about one standard deviation of log |z| apart."""
        mode = mp.log(self.a) / self.power
        inner = [mode + (high - mode) * i / 12 for i in range(12)]
        return inner + [mode + (low - mode) * i / 12 for i in range(1, 12)]

    def split(self, t: Any, strict: bool = False) -> tuple[Any, Any]:
        """P(l <= t) and P(l > t) (strict: < and >=), each integrated for itself."""
        t = mp.mpf(t)
        if self.shape != "l2" and (self.power, self.k) == (1, 0):
            t += mp.mpf(10) ** -30 * (-1 if strict else 1)  # atoms at -r and r: their sides

        def parts(y: Any) -> tuple[Any, Any]:
            s = mp.exp(y)
            p = self.beyond(self.h_inverse(self.h(s) - t) if t else s, s, strict)
            return p, 1 - p

        below = above = mp.mpf(0)
        cuts = self.cuts(t)
        for low, high in pairwise(cuts):
            below += mp.quad(lambda y: self.density(y) * parts(y)[0], [low, high], maxdegree=7)
            above += mp.quad(lambda y: self.density(y) * parts(y)[1], [low, high], maxdegree=7)
        return below, above

    def required(self, tau: Any) -> dict[str, Any]:
        """p_min - 1/2 and 1 - p_min at lam = exp(tau), which bound the truth for every tau
        and equal it where `residual` = P(l >= -tau) - 1/2 vanishes (or l has an atom)."""
        below, above = self.split(tau)
        under, over = self.split(-mp.mpf(tau), strict=True)
        lam = mp.exp(mp.mpf(tau))
        return {
            "excess": (below - mp.mpf(1) / 2) + (mp.mpf(1) / 2 - over) / lam,
            "deficit": above - (mp.mpf(1) / 2 - over) / lam,
            "residual": over - mp.mpf(1) / 2,
            "F": [below, under],
            "S": [above, over],
        }

    def lower(self, p: Any, tau: Any) -> Any:
        """lam p - D(lam) at lam = exp(tau); L(p) where P(l <= tau) = p."""
        p, lam = mp.mpf(p), mp.exp(mp.mpf(tau))
        below, above = self.split(tau)
        over = self.split(-mp.mpf(tau), strict=True)[1]
        gain = p - below if p < 0.5 else above - (1 - p)
        return over + lam * gain


def cases() -> list[tuple[str, int, float, float]]:
    """(shape, dim, power, k) of the table."""
    chosen = []
    for shape, power in (("l2", 2.0), ("l1", 1.0), ("linf_linf", 2.0), ("linf_l1", 2.0)):
        for dim in (1, 2, 3, 5, 12, 64, 784, 3072):
            if dim == 1 and shape in ("l2", "linf_l1"):
                continue
            for k in sorted({0.0, 0.3 * dim, dim - 0.5}):
                chosen.append((shape, dim, power, k))
    chosen += [("l2", 5, 0.5, 1.0), ("l2", 99, 3.0, 20.0), ("l2", 101, 1.0, 0.0)]
    chosen += [("l1", 9, 2.5, 4.0), ("linf_linf", 20, 0.7, 3.0), ("linf_l1", 6, 1.0, 0.0)]
    chosen += [("l2", 150528, 2.0, k) for k in (0.0, 1e5, 150527.5)]
    chosen += [("l1", 150528, 1.0, 1e5), ("linf_linf", 150528, 2.0, 1e3)]
    chosen += [("linf_l1", 150528, 2.0, 1e5)]
    return chosen


def package(shape: str, dim: int, power: float, k: float) -> tuple[Any, str]:
    """The package's noise and attack for a case, at scale 1."""
    from cert_core.noises import RadialNoise

    norm = {"l2": 2.0, "l1": 1.0}.get(shape, math.inf)
    attack = {"l2": "l2", "l1": "l1", "linf_linf": "linf", "linf_l1": "l1"}[shape]
    return RadialNoise(dim, norm, power, 1.0, k), attack


def write() -> None:
    """Add what the table lacks; radii and thresholds are suggested by the package, values
    are not.  Cases already in the table stay as they are: delete the file to start afresh."""
    from cert_core.bounds import search_radius
    from cert_core.laws import log_ratio_law

    rows: list[dict[str, Any]] = []
    if TABLE.exists():
        rows = json.loads(TABLE.read_text(encoding="utf-8"))
    there = {(r["shape"], r["dim"], r["power"], r["k"]) for r in rows}
    for shape, dim, power, k in cases():
        if (shape, dim, power, k) in there:
            continue
        noise, attack = package(shape, dim, power, k)
        targets = (0.6, 0.99, 1 - 1e-12) if dim < 100000 else (0.6, 1 - 1e-9)
        for r in [1e-6, *(search_radius(noise, attack, p) for p in targets)]:
            law = log_ratio_law(noise, attack, r)
            exact = Law(shape, dim, power, k, r)
            tau = max(-float(law.ppf(0.5)), 0.0)
            row: dict[str, Any] = {"shape": shape, "dim": dim, "power": power, "k": k, "r": r}
            row["tau"] = tau
            for name, value in exact.required(tau).items():
                listed = isinstance(value, list)
                row[name] = [mp.nstr(v, 22) for v in value] if listed else mp.nstr(value, 22)
            row["p"] = (0.2, 0.7, 0.999)[len(rows) % 3]
            row["tau_p"] = float(law.ppf(row["p"]))
            row["L"] = mp.nstr(exact.lower(row["p"], row["tau_p"]), 22)
            rows.append(row)
            print(len(rows), row, flush=True)
        order = {case: i for i, case in enumerate(cases())}
        rows.sort(key=lambda r: order[r["shape"], r["dim"], r["power"], r["k"]])
        text = ",\n".join(json.dumps(r) for r in rows)
        TABLE.write_text(f"[\n{text}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    write()
