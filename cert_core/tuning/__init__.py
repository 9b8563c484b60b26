"""A noise chosen for a classifier on one part of the data, and certified on another.

More noise buys robustness for accuracy (the paper's Eq. 9); which noise is best hangs on the
classifier and on the radius.  Candidates are judged by sequential tests, an input after the
other, and at each radius by itself the worse half leaves after every round (successive halving:
Karnin, Koren and Somekh 2013; Jamieson and Talwalkar 2016).

The best of many estimates is the one that luck helped most, so its own number is too high.  What
is reported of a winner is therefore certified afresh, on inputs that no choice has seen.
"""

from cert_core.tuning.halving import Round, Search, checked_budget, search
from cert_core.tuning.parts import (
    AVERAGE,
    STEPS,
    Objective,
    most_passes,
    objectives_of,
    plans_of,
    split,
)
from cert_core.tuning.winners import Fresh, Tuned, fresh_number, judged, tune

__all__ = [
    "AVERAGE",
    "STEPS",
    "Fresh",
    "Objective",
    "Round",
    "Search",
    "Tuned",
    "checked_budget",
    "fresh_number",
    "judged",
    "most_passes",
    "objectives_of",
    "plans_of",
    "search",
    "split",
    "tune",
]
