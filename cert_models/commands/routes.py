"""--route: a TOML file of a router and its branches, each read as options of its own.

[router]                 # its labels are branches
model = "router.pth"     # left out: --model
labels = [0, 1, 1]       # where they are classes: the branch of each
noise = "gaussian"
sigma = 0.5

[[branch]]               # 0; the next one is 1, ...
noise = "gaussian"
sigma = 0.25
model = "weak.pth"       # left out: --model
n = 1000                 # left out: --n, as n0

[[branch]]
noise = "l2"
rms = 1.0
k = 12
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cert_core as cc
from cert_models.commands.options import FAMILIES, UsageError, noise_names, option
from cert_models.files.reading import reading

LOADING = ("arch", "normalize", "weights")  # options of a model that is a checkpoint
OWN = {"model": str, **dict.fromkeys(LOADING, str), "n0": int, "n": int}  # of every table
REMEDY = "write it as docs/guides/routing.md shows"


def add_route(parser: argparse.ArgumentParser) -> None:
    """--route, as read_route reads it."""
    parser.add_argument(
        "--route", metavar="FILE",
        help="TOML file of a router and of branches, each with its noise: the router's certified "
        "label chooses the noise of each input, in place of --noise",
    )  # fmt: skip


def check_noises(options: argparse.Namespace) -> None:
    """Refuse to be told no noise, or one beside those of --route."""
    if options.route is None and options.noise is None:
        raise UsageError("--noise must be given: add it, or --route with a file of several")
    given = [name for name in noise_names() if getattr(options, name) is not None]
    if options.route is not None and given:
        raise UsageError(
            f"{option(given[0])} must not be given with --route, which names the noises, got "
            f"{getattr(options, given[0])!r}: drop it"
        )
    if options.route is not None and options.task != "classification":
        raise UsageError(
            f"--route must come with --task classification, got {options.task!r}: drop one"
        )


def parts_of(options: argparse.Namespace) -> list[argparse.Namespace]:
    """The options of the one classifier, or of the router and of the branches that --route names,
    each at half of alpha."""
    if options.route is None:
        options.labels, options.where, options.router = (), "", False
        return [options]
    router, branches = _tables(options.route)
    told: dict[str, Any] = {"bound": None, "shells": None, "router": True}  # one number a branch
    return [
        _part(options, "[router]", router, told),
        *(_part(options, f"[[branch]] {i}", table, {}) for i, table in enumerate(branches)),
    ]


def categorical(parts: Sequence[argparse.Namespace]) -> bool:
    """Whether inputs are categories, for all noises or for none."""
    kinds = {FAMILIES[part.noise].categorical for part in parts}
    if len(kinds) > 1:
        got = ", ".join(part.noise for part in parts)
        raise UsageError(f"noises of --route must all be of categories, or none, got {got}")
    return kinds.pop()


def _tables(path: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The tables of the file."""
    with reading("--route", "a TOML file", path, REMEDY):
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    router, branches = values.pop("router", None), values.pop("branch", None)
    good = isinstance(router, dict) and isinstance(branches, list) and len(branches) > 1
    if values or not good or not all(isinstance(table, dict) for table in branches):
        rule = "of one [router] and two or more [[branch]]"
        raise cc.errors.fail("--route", rule, path, REMEDY)
    return router, branches


def _part(
    options: argparse.Namespace, where: str, table: Mapping[str, Any], more: Mapping[str, Any]
) -> argparse.Namespace:
    """The options that one of the tables describes."""
    known: dict[str, Any] = OWN | ({"labels": list} if where == "[router]" else {})
    given = {key.replace("-", "_"): value for key, value in table.items()}
    where = f"{where} of {options.route!r}"
    for name, value in given.items():
        if name not in known and (name == "dim" or name not in noise_names()):
            rule = f"keys of a noise or of {', '.join(known)}"
            raise cc.errors.fail(where, rule, name, "drop it, or correct its name")
        kind = known.get(name, str if name == "noise" else float)
        whole = kind is float and isinstance(value, int)
        if (not isinstance(value, kind) and not whole) or isinstance(value, bool):
            raise cc.errors.fail(f"{name} in {where}", f"a {kind.__name__}", value, "write one")
    if given.get("noise") not in FAMILIES:
        rule, got = f"one of {', '.join(sorted(FAMILIES))}", given.get("noise")
        raise cc.errors.fail(f"noise in {where}", rule, got, "name a family")
    loading = dict.fromkeys(LOADING) if "model" in given else {}
    labels = cc.errors.integers(f"labels in {where}", given.pop("labels", []), 0, remedy=REMEDY)
    level = cc.routing.halves(options.alpha)
    own = {"router": False, **loading, **more, **given, "alpha": level, "labels": tuple(labels)}
    return argparse.Namespace(**{**vars(options), **own, "where": where})
