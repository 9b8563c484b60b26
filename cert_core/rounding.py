"""Numbers as text: one function a quantity, each on its safe side.

| quantity | function | side |
| --- | --- | --- |
| what was asked for or stated: radii asked at, alpha, rho, parameters | in_full | exact |
| certified radii, and their averages | radius | down |
| certified radii, of any attack | reach | down; under l0 a whole number |
| bounds from below: p_lower, L(p), overlaps | lower | down |
| bounds from above: probabilities needed | upper | up |
| bounds from above that may be tiny: chances, costs of a lattice | least_above | up |
| the confidence 1 - rho | confidence | exact, never 1 |
| shares of inputs | percent | down, from whole numbers |
| samples an input, a cost | samples | up |
| what no statement hangs on: noise levels, sampled or tabulated values | nearest | nearest |
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

WIDE = Context(prec=1100)  # every double has its digits there, before and after the point
SMALLEST = 12  # decimals of the least radius that is told from 0


def in_full(value: float) -> str:
    """value as shortly as it can be read back."""
    number = float(value)
    text = f"{number:g}"
    return text if float(text) == number else repr(number).removesuffix(".0")


def rounded_down(value: float, digits: int) -> str:
    """value with this many decimals, never above it."""
    return _rounded(value, digits, ROUND_FLOOR)


def rounded_up(value: float, digits: int) -> str:
    """value with this many decimals, never below it."""
    return _rounded(value, digits, ROUND_CEILING)


def _rounded(value: float, digits: int, mode: str) -> str:
    if not math.isfinite(value):
        return str(float(value))
    unit = Decimal(1).scaleb(-digits)
    return format(Decimal(float(value)).quantize(unit, rounding=mode, context=WIDE), "f")


def radius(value: float, digits: int = 4) -> str:
    """A certified radius with this many decimals, or as many as show three figures of it."""
    if 0 < value < 1:
        digits = max(digits, min(2 - math.floor(math.log10(value)), SMALLEST))
    return rounded_down(value, digits)


def reach(attack: str, value: float, digits: int = 4) -> str:
    """A certified radius; under l0 a number of entries."""
    return rounded_down(value, 0) if attack == "l0" else radius(value, digits)


def lower(value: float, digits: int = 6) -> str:
    """A bound from below."""
    return rounded_down(value, digits)


def upper(value: float, digits: int = 6) -> str:
    """A bound from above."""
    return rounded_up(value, digits)


def least_above(value: float) -> str:
    """A bound from above that may be tiny: three figures."""
    return f"{Context(prec=3, rounding=ROUND_CEILING).create_decimal(float(value)):g}"


def confidence(rho: float) -> str:
    """1 - rho for rho in (0, 1), in full: "0.9999999"; as a difference where it is long."""
    if rho < 1e-9:
        return f"1 - {in_full(rho)}"
    return format(1 - Decimal(repr(float(rho))), "f")


def percent(count: int, total: int, digits: int = 1) -> str:
    """count of total inputs in percent; 100 only where it is all of them."""
    whole = Decimal(int(count) * 10 ** (digits + 2) // int(total))
    return format(whole.scaleb(-digits), "f") + "%"


def samples(value: float) -> str:
    """A mean number of samples, as a whole one."""
    return rounded_up(value, 0)


def nearest(value: float, figures: int = 6) -> str:
    """A number that no statement hangs on, to this many figures."""
    return f"{value:.{figures}g}"
