"""Certificates from as many samples as an input needs: tests, plans, votes, certificates."""

from cert_core.sequential.certificates import (
    SequentialCertificates,
    certify_by,
    gather,
    outcomes,
)
from cert_core.sequential.plans import RadiiPlan, WidthPlan, plan_at, plan_from_dict, plan_until
from cert_core.sequential.tests import (
    Boundaries,
    FixedSequence,
    boundaries,
    geometric_looks,
    mixture_lower,
    mixture_upper,
)
from cert_core.sequential.votes import votes_until

__all__ = [
    "Boundaries",
    "FixedSequence",
    "RadiiPlan",
    "SequentialCertificates",
    "WidthPlan",
    "boundaries",
    "certify_by",
    "gather",
    "geometric_looks",
    "mixture_lower",
    "mixture_upper",
    "outcomes",
    "plan_at",
    "plan_from_dict",
    "plan_until",
    "votes_until",
]
