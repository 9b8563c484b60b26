"""Samples: preset radii and soft votes beside a fixed number of samples, and what the
statistics themselves cost."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import cert_core as cc
from cert_core.sequential import tests as sequential
from cert_models.cli import main

INPUTS = "20"
COMMAND = [
    "certify", "--data", "digits", "--model", "digits-cnn", "--noise", "gaussian",
    "--sigma", "0.25", "--attack", "l2", "--skip", "25", "--max", INPUTS, "--quiet",
]  # fmt: skip


def certify(*options: str) -> None:
    """One run of the command."""
    assert main([*COMMAND, *options]) == 0


def test_preset_radii(race: Any, capsys: Any) -> None:
    """cert certify --at on the digits demo against fixed n = 1e5, wall clock, the same inputs."""
    race(
        f"{INPUTS} test digits, wall clock an input (alpha = .001, n_max = 1e5)",
        {
            "cert certify --at 0.25": lambda: certify("--n", "100000", "--at", "0.25"),
            "cert certify --at 0.25,0.5": lambda: certify("--n", "100000", "--at", "0.25,0.5"),
            "cert certify --n 100000": lambda: certify("--n", "100000"),
        },
        values=int(INPUTS),
        unit="ms/input",
        rounds=1,
        timer=time.perf_counter,
        own=True,
    )
    assert capsys.readouterr().out


def test_statistics(race: Any) -> None:
    """None of this is felt beside a forward pass."""
    looks = cc.sequential.geometric_looks(100_000)
    fresh = sequential._boundaries.__wrapped__
    votes = np.random.default_rng(0).integers(50_000, 100_001, size=10_000)
    scores = np.random.default_rng(0).beta(18, 2, size=100_000)
    race(
        "boundaries of a radius, 19 looks up to 1e5",
        {"boundaries": lambda: fresh(0.8413447460685429, 0.001, looks)},
        unit="ms",
    )
    race(
        "bounds of 10,000 inputs, n = 1e5",
        {
            "binomial_lower": lambda: cc.binomial_lower(votes, 100_000, 0.001),
            "mixture_lower": lambda: cc.sequential.mixture_lower(votes, 100_000, 0.001),
            "chernoff_lower": lambda: cc.confidence.chernoff_lower(votes / 100_000, 100_000, 0.001),
        },
        values=votes.size,
        unit="us/input",
        rounds=3,
        own=True,
    )
    race(
        "bound of 100,000 scores",
        {"betting_lower": lambda: cc.confidence.betting_lower(scores, 0.001)},
        unit="ms",
        rounds=3,
    )
