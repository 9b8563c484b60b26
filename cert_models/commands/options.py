"""Options that subcommands share, made from the noises' own fields."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cert_core as cc
from cert_core.rounding import in_full
from cert_models.files.names import plain
from cert_models.files.outputs import refused, written
from cert_models.logs import BRANCH, Row
from cert_models.parsing import noise_fields

FAMILIES: dict[str, type[cc.Noise]] = {**cc.NOISES, **cc.CHANNELS}
SCALES = {"b", "sigma", "scale"}  # the field of a noise that is one
ATTACKS = (*cc.ATTACKS, cc.threats.COUNT)


class UsageError(Exception):
    """Wrong arguments: one line on stderr, exit status 2."""


def add_noise(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """--noise, one option for every field of every noise, and --rms, which noise_of reads."""
    parser.add_argument("--noise", required=required, choices=sorted(FAMILIES), help="noise family")
    helps = {
        "dim": "number of input coordinates",
        "k": "exponent of the singularity, 0 <= k < dim (default 0)",
        "norm": "1, 2 or inf",
        "power": "of the norm in the density",
        "categories": "values that an entry takes",
        "keep": "of flips: probability that an entry stays; of ablation: how many entries are seen",
        "p_plus": "probability that a zero becomes one",
        "p_minus": "probability that a one becomes zero",
        "null": "what a hidden entry shows (default -1)",
        "levels": "steps of an input from 0 to 1 (default 255)",
    }
    for name in sorted(noise_fields()):
        kind = int if name == "dim" else float
        text = helps.get(name, "scale, input units")
        if name not in ("dim", "keep"):
            families = (each for each in sorted(FAMILIES) if name in fields_of(FAMILIES[each]))
            text = f"of {', '.join(families)}: {text}"
        parser.add_argument(option(name), type=kind, dest=name, help=text)
    parser.add_argument(
        "--rms", type=float, help="in place of a scale: root mean square of a coordinate of the "
        "noise, which makes families comparable",
    )  # fmt: skip


def option(name: str) -> str:
    """The option of a field."""
    return f"--{name.replace('_', '-')}"


def fields_of(family: type[cc.Noise]) -> dict[str, dataclasses.Field[Any]]:
    """The parameters of a family by name, in their order."""
    return {field.name: field for field in dataclasses.fields(family)}  # type: ignore[arg-type]


def noise_names() -> list[str]:
    """The options that describe a noise."""
    return ["noise", "rms", *sorted(noise_fields())]


def described(options: argparse.Namespace) -> list[str]:
    """The options that describe a noise; its parameters are refused where none is named."""
    given = [name for name in (*noise_names(), "scales") if getattr(options, name) is not None]
    if given and options.noise is None:
        raise UsageError(
            f"--noise must be given with {option(given[0])}, got none: name the family, or drop "
            f"{option(given[0])}"
        )
    return given


def in_kind(field: dataclasses.Field[Any], value: float) -> float:
    """A number as the field has it: as an integer where it is a whole one of these."""
    whole = isinstance(value, float) and value.is_integer()
    return int(value) if field.type == "int" and whole else value


def add_scales(parser: argparse.ArgumentParser) -> None:
    """--scales, which noise_of reads."""
    parser.add_argument(
        "--scales", metavar="FILE|std",
        help="stretch the noise a coordinate: numbers of a file, or the deviations of the data's "
        "features; radii are then norms of delta/scales",
    )  # fmt: skip


def _scales(given: str, x: Any) -> Any:
    from cert_models.data.scales import deviations, read_scales

    if given != "std":
        return read_scales(given)
    if x is None:
        raise UsageError("--scales std must come with --data: pass it, or a file of the scales")
    return deviations(x)


def noise_of(options: argparse.Namespace, dim: int | None = None, x: Any = None) -> cc.Noise:
    """The noise that the options describe; dim from the data x where they are given."""
    noise = _unscaled(options, dim)
    scales = getattr(options, "scales", None)
    return noise if scales is None else noise.scaled(_scales(scales, x))


def _unscaled(options: argparse.Namespace, dim: int | None) -> cc.Noise:
    fields, rms = fields_of(FAMILIES[options.noise]), getattr(options, "rms", None)
    values: dict[str, Any] = {"noise": options.noise}
    if rms is not None:
        fields = _without_scale(fields, options)
    for name, field in fields.items():
        given = getattr(options, name)
        if name == "dim" and dim is not None:
            if given not in (None, dim):
                raise UsageError(
                    f"--dim must be {dim}, the size of one input, got {given}: drop it"
                )
            given = dim
        if given is not None:
            values[name] = in_kind(field, given)
        elif field.default is dataclasses.MISSING:
            raise UsageError(f"{option(name)} must be given for --noise {options.noise}: add it")
    for name in sorted(noise_fields() - set(fields)):
        if getattr(options, name, None) is not None:
            raise UsageError(
                f"{option(name)} must not be given for --noise {options.noise}: drop it"
            )
    if rms is not None:
        del values["noise"]
        return FAMILIES[options.noise].with_rms(rms=rms, **values)
    return cc.noise_from_dict(values)


def _without_scale(
    fields: dict[str, dataclasses.Field[Any]], options: argparse.Namespace
) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a noise but the one that --rms is in place of."""
    if issubclass(FAMILIES[options.noise], cc.channels.Channel):
        raise UsageError(
            f"--rms must not be given for --noise {options.noise}, which adds nothing: drop it"
        )
    for name in SCALES & set(fields):
        if (given := getattr(options, name)) is not None:
            raise UsageError(
                f"--rms must come without {option(name)}, got {options.rms} and {given}: drop one"
            )
    return {name: field for name, field in fields.items() if name not in SCALES}


def noise_from(item: str, dim: int) -> cc.Noise:
    """The noise that NAME:VALUE:... describes, its parameters in their order after dim."""
    name, *texts = item.split(":")
    fields = [field for key, field in fields_of(FAMILIES[name]).items() if key != "dim"]
    needed = [field.name for field in fields if field.default is dataclasses.MISSING]
    try:
        values = [float(text) for text in texts]
        good = len(needed) <= len(values) <= len(fields)
    except ValueError:
        good = False
    if not good:
        form = ":".join([name, *(field.name.upper() for field in fields)])
        raise UsageError(f"--noises must have numbers as in {form}, got {item!r}: pass them")
    given = {f.name: in_kind(f, v) for f, v in zip(fields, values, strict=False)}
    return cc.noise_from_dict({"noise": name, "dim": dim, **given})


def noise_at(item: str, dim: int, rms: float) -> tuple[str, cc.Noise]:
    """What NAME or NAME:SHARE (k is SHARE of dim) names, at this level, and its label; a noise
    without a level by its own parameters."""
    name, colon, share = item.partition(":")
    if name not in FAMILIES or name == "radial":
        known = ", ".join(sorted(set(FAMILIES) - {"radial"}))
        raise UsageError(f"--noises must name families of {known}, got {name!r}: choose from them")
    if name in cc.CHANNELS and (colon or name != "uniform"):
        return item, noise_from(item, dim)
    try:
        k = float(share or 0) * dim
    except ValueError:
        raise UsageError(
            f"--noises must have a number after the colon, got {item!r}: pass k/dim"
        ) from None
    label = f"{name} k={in_full(k)}" if k else name
    return label, FAMILIES[name].with_rms(dim, rms, k)


def rms_of(noise: cc.Noise) -> float | None:
    """The root mean square of a coordinate of the noise; None where nothing is added."""
    try:
        return noise.rms
    except cc.errors.UnsupportedPair:
        return None


def numbers_of(noise: cc.Noise) -> dict[str, float]:
    """The parameters of a noise that are numbers, by name."""
    values = noise.base.to_dict() if isinstance(noise, cc.noises.Scaled) else noise.to_dict()
    return {k: v for k, v in values.items() if isinstance(v, int | float)}


def add_attack(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--attack", required=True, choices=ATTACKS,
        help="norm of the attack; l0: the number of changed entries",
    )  # fmt: skip


def add_bound(parser: argparse._ActionsContainer) -> None:
    """--bound, by the names of cc.BOUNDS."""
    told = ", ".join(f"{name} ({how.reads})" for name, how in cc.BOUNDS.items())
    parser.add_argument(
        "--bound", choices=list(cc.BOUNDS), metavar="NAME",
        help=f"what bounds the probability of a class: {told}; default: the first that reads what "
        "a run counts",
    )  # fmt: skip


def check_invertible(path: str, rows: Sequence[Row], remedy: str) -> None:
    """Refuse a log whose radii say nothing of the probability of a class by itself."""
    if any(BRANCH in row.extra for row in rows):
        raise UsageError(
            f"log must hold radii of one noise, got those of a routed run in {path!r}: {remedy}"
        )
    apart = {name for name, how in cc.BOUNDS.items() if how.reads in ("classes", "shells")}
    for name in sorted(apart & {row.extra.get("bound") for row in rows}):
        raise UsageError(
            f"log must hold radii from one bound a row, got those of the bound {name!r} in "
            f"{path!r}: {remedy}"
        )


def bound_of(options: argparse.Namespace) -> str | None:
    """The bound that --bound names, or an older option."""
    named = {options.bound, "runner-up" if options.runner_up else None}
    named |= {"betting" if getattr(options, "votes", None) == "soft" else None}
    given = sorted(named - {None})
    if len(given) > 1:
        raise UsageError(f"--bound must be one, got {' and '.join(given)}: choose one")
    return given[0] if given else None


def add_data(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """--data, by the names of cert_models.data.datasets.load."""
    parser.add_argument(
        "--data", required=required,
        help="digits, cifar10:DIR, cifar100:DIR, imagenet:DIR, mnist:DIR, FILE.npz (arrays x and "
        "y), or module:name of a torch data set",
    )  # fmt: skip


def add_model(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """--model, and what a checkpoint does not say of itself."""
    parser.add_argument(
        "--model", required=required,
        help="digits-cnn, a checkpoint (.pth, .pth.tar, .safetensors, ...), FILE.onnx, or "
        "module:name of a torch module or of a function from arrays to labels",
    )  # fmt: skip
    parser.add_argument(
        "--arch",
        help="of a checkpoint: cifar_resnet20, cifar_resnet110, resnet50, digits, mnist, "
        "timm:NAME, torchvision:NAME, module:function",
    )
    parser.add_argument(
        "--normalize", metavar="HOW",
        help="of a checkpoint: imagenet, cifar10, center, none, or mean,deviation",
    )  # fmt: skip
    parser.add_argument(
        "--weights", metavar="ENTRY", help="of a checkpoint with several: e.g. state_dict_ema"
    )
    parser.add_argument("--classes", type=int, help="number of classes (default: from the data)")


def listed_indices(text: str, count: int, name: str = "--indices") -> list[int]:
    """The distinct indices below count that text lists, like 0,7,100-199."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            ends = int(first), int(last) if dash else int(first)
        except ValueError:
            raise cc.errors.fail(name, "like 0,7,100-199", text, "list them") from None
        if not 0 <= ends[0] <= ends[1] < count:  # before an endless range is made a list
            found = []
            break
        found += range(ends[0], ends[1] + 1)
    if not found or len(set(found)) < len(found):
        raise cc.errors.fail(
            name, f"distinct and below {count}, the number of inputs", text, "list others"
        )
    return found


def chosen_inputs(options: argparse.Namespace, count: int) -> list[int]:
    """Indices that --indices, --skip and --max leave of count inputs."""
    if options.skip < 1 or (options.max is not None and options.max < 1):
        raise UsageError("--skip and --max must be at least 1: they count inputs")
    places = range(count) if options.indices is None else listed_indices(options.indices, count)
    return list(places[:: options.skip])[: options.max]


def listed(option: str, text: str, kind: type[float] | type[int] = float) -> list[Any]:
    """The numbers of a list with commas."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        example = "2,64" if kind is int else "0.25,0.5"
        rule = f"must be {what} with commas between, got {text!r}: e.g. {example}"
        raise UsageError(f"{option} {rule}") from None


def add_table(parser: argparse.ArgumentParser) -> None:
    """How a table is written."""
    parser.add_argument(
        "--format", choices=("text", "markdown", "latex", "csv"), default="text",
        help="of the table",
    )  # fmt: skip
    parser.add_argument("--out", help="file for the table")
    add_force(parser)
    add_output(parser)


def add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force", action="store_true", help="write in the place of files that exist"
    )


def write_text(path: str, text: str, options: argparse.Namespace) -> None:
    """Write a file that check_targets let pass."""
    with target(path, options) as new:
        new.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def target(path: str, options: argparse.Namespace) -> Iterator[Path]:
    """A name to write to, which becomes a path that check_targets let pass."""
    try:
        with written(path, over=options.force) as new:
            yield new
    except FileExistsError as error:
        raise UsageError(str(refused(path, "File exists"))) from error


def emit_table(
    options: argparse.Namespace, text: str, written: list[str], values: dict[str, Any]
) -> None:
    """Print the table or write it to --out, and say what has been written."""
    if options.out:
        write_text(options.out, text + "\n", options)
        written = [*written, options.out]
    shown = ([] if options.out else [text]) + [f"wrote {path}" for path in written]
    emit(options, values | {"written": written}, "\n\n".join(shown))


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


SQLITE = b"SQLite format 3\0"
DATA = (SQLITE, b"PK\x03\x04", b"idx\t")  # how stores, archives and logs begin


def _named(options: argparse.Namespace, *names: str) -> list[tuple[str, str]]:
    """The paths given to options of these names, with the names."""
    found = []
    for name in names:
        given = getattr(options, name, None) or []
        found += [(name, path) for path in ([given] if isinstance(given, str) else given)]
    return found


def check_targets(options: argparse.Namespace) -> None:
    """Refuse files to write that could not be, or are in another's place, before anything is
    computed: one that exists without --force; one that is read or written twice, or holds data,
    at all: what is made of data can be made again, data cannot."""
    read = [path for _, path in _named(options, "sources", "store", "data", "proved")]
    read += [path.rpartition("=")[2] for path in read]  # NAME=PATH
    taken = {Path(path).resolve(): path for path in read if Path(path).is_file()}
    for name, path in _named(options, "out", "picture", "html"):
        place = Path(path).resolve()
        if not place.parent.is_dir():
            raise UsageError(f"--{name} must be in a folder that exists, got {path!r}: make it")
        if place.is_file():
            with open(place, "rb") as file:
                held = file.read(16).startswith(DATA)
            if held:
                raise UsageError(
                    f"--{name} must not be a store, an archive or a log, got {path!r}: "
                    "choose another name"
                )
        if place in taken:
            raise UsageError(
                f"--{name} must be a file of its own, got {path!r} and {taken[place]!r}: choose "
                "another name"
            )
        taken[place] = path
        if place.exists() and not place.is_file():
            raise UsageError(f"--{name} must be a file, got {path!r}: choose another name")
        if place.exists() and not options.force:
            raise UsageError(
                f"--{name} must be a new file, got {path!r}, which exists: choose another name, "
                "or pass --force to write in its place"
            )
        if name == "picture" and place.suffix.lower() not in (".png", ".svg", ".pdf"):
            raise UsageError(f"--{name} must be a .png, .svg or .pdf file, got {path!r}: rename it")


def emit(options: argparse.Namespace, values: dict[str, Any], text: str) -> None:
    """Print the text, or the values as JSON."""
    if options.json:
        text = json.dumps(_standard(values), allow_nan=False)
    print(text if options.json else plain(text, keep="\n\t"), file=options.stdout)


def _standard(value: Any) -> Any:
    """value with the floats that JSON has no word for as words: "inf", "nan"."""
    if isinstance(value, dict):
        return {key: _standard(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_standard(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
