"""What cert tune chooses from and for, checked before anything is trained or counted."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import cert_core as cc
from cert_core.rounding import in_full
from cert_core.tuning import Objective
from cert_models.commands.options import (
    FAMILIES,
    UsageError,
    check_targets,
    chosen_inputs,
    listed,
    listed_indices,
    noise_at,
    option,
)

if TYPE_CHECKING:
    from cert_models.data.datasets import Dataset

TRAINING: dict[str, Any] = {  # options of --train alone, and what they are unless told
    "train_data": None, "epochs": 90, "train_batch_size": 256, "learning_rate": 1e-3,
    "augment": False,
}  # fmt: skip
WRITTEN = ("store", "out", "picture")


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """What the options ask for, checked before anything is trained or counted."""

    data: Dataset
    classes: int
    names: list[str]
    noises: list[cc.Noise]
    objectives: tuple[Objective, ...]
    plans: dict[int, cc.sequential.RadiiPlan]
    parts: tuple[tuple[int, ...], tuple[int, ...]]
    n_max: int
    fingerprint: str  # of the data

    @property
    def most(self) -> list[int]:
        """The most passes of each candidate for an input."""
        return cc.tuning.most_passes(self.plans, len(self.noises))

    @property
    def tested(self) -> list[float]:
        """All radii of the search, ascending."""
        return sorted({r for plan in self.plans.values() for r in plan.radii})


def check_options(options: argparse.Namespace) -> None:
    """One way to a classifier, and the options of that one alone."""
    if (options.model is None) == (options.train is None):
        given = "neither" if options.model is None else "both"
        raise UsageError(f"one of --model and --train must be given, got {given}: choose one")
    for name, usual in TRAINING.items():
        given = getattr(options, name)
        if options.train is None and given not in (None, False):
            raise UsageError(f"{option(name)} must come with --train, got {given}: drop it")
        if given is None:
            setattr(options, name, usual)
    if options.train is not None:
        for name in ("arch", "weights"):
            if (given := getattr(options, name)) is not None:
                raise UsageError(
                    f"--{name} must be left out with --train, which names the network, got "
                    f"{given!r}: drop it"
                )
        if options.store is None:
            raise UsageError("--store must be given for --train: networks are kept beside it")
    if options.store is None and options.run_name is not None:
        raise UsageError("--store must be given for --run: name a file")
    check_targets(options)
    # meant from here: a model may change the folder
    options.places = {n: os.path.realpath(getattr(options, n) or "") for n in WRITTEN}
    for name in ("out", "picture"):
        if getattr(options, name) and options.places[name] == options.places["store"]:
            raise UsageError(
                f"--{name} must be another file than --store, got {getattr(options, name)!r}: "
                "name two"
            )


def asked_for(options: argparse.Namespace) -> Asked:
    from cert_models.data.datasets import load
    from cert_models.store.counts import CountStore
    from cert_models.store.fingerprints import data_fingerprint
    from cert_models.tuning import check_parts

    data = load(options.data, categorical=categorical(options.noises))
    names, noises = _candidates(options, int(np.prod(data.x.shape[1:])))
    objectives = cc.tuning.objectives_of(
        [] if options.at is None else listed("--at", options.at), options.average
    )
    n_max = options.n if options.n_max is None else options.n_max
    for noise in noises:
        cc.channels.check_independent(noise)
        data.check_known(noise)
        for n in (options.n, n_max):
            cc.certificates.check_sampling(noise, options.attack, n, options.alpha)
    plans = cc.tuning.plans_of(
        noises, options.attack, objectives, n_max, options.alpha, options.n0
    )  # fmt: skip
    tuning, fresh = (
        None if given is None else listed_indices(given, len(data), name)
        for name, given in (("--tuning", options.tuning), ("--fresh", options.fresh))
    )
    chosen = chosen_inputs(options, len(data))
    parts = cc.tuning.split(chosen, options.seed, tuning=tuning, fresh=fresh)
    classes = options.classes if options.classes is not None else data.num_classes
    data.check_classes(classes)
    asked = Asked(
        data=data, classes=classes, names=names, noises=noises, objectives=objectives,
        plans=plans, parts=parts, n_max=n_max, fingerprint=data_fingerprint(data),
    )  # fmt: skip
    cc.tuning.checked_budget(options.budget, asked.most)
    cc.errors.real("rho", options.rho, "in (0, 1)", lambda x: 0 < x < 1, remedy="e.g. 0.05")
    if options.store is not None and Path(options.places["store"]).exists():
        with CountStore(options.places["store"], readonly=True) as store:
            check_parts(store, parts, asked.fingerprint)
    return asked


def categorical(noises: str) -> bool:
    """Whether the families named are those of categories."""
    named = [
        FAMILIES[name] for item in noises.split(",") if (name := item.partition(":")[0]) in FAMILIES
    ]
    kinds = {family.categorical for family in named}
    if len(kinds) > 1:
        raise UsageError(
            f"--noises must all be of numbers, or all of categories, got {noises!r}: tune apart"
        )
    return kinds == {True}


def _candidates(options: argparse.Namespace, dim: int) -> tuple[list[str], list[cc.Noise]]:
    """Every family at every level, by name."""
    levels = [] if options.rms is None else listed("--rms", options.rms)
    found: dict[str, cc.Noise] = {}
    for item in options.noises.split(","):
        own = item.partition(":")[0] in cc.CHANNELS and item != "uniform"
        if not own and not levels:
            raise UsageError(f"--rms must be given for --noises {item}: list levels")
        for level in [1.0] if own else levels:
            label, noise = noise_at(item, dim, level)
            name = label if own else f"{label} rms={in_full(level)}"
            if noise in found.values():
                raise UsageError(f"--noises and --rms must list each once, got {name!r} twice")
            found[name] = noise
    if len(found) < 2:
        raise UsageError(
            f"--noises and --rms must give two candidates at least, got {len(found)}: add others, "
            "or run cert certify"
        )
    return list(found), list(found.values())
