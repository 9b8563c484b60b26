"""Records of certificates: read by people as text and HTML, kept in files as .npz.

An archive holds arrays by name, the rest as JSON, and a digest over both: what was changed since
is refused, never read as other certificates.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from cert_core.channels import noise_from_dict
from cert_core.errors import BackendMissing, fail
from cert_core.lattice import Lattice
from cert_core.provenance import Drawn
from cert_core.rounding import in_full, lower, reach

SHOWN = 10  # rows of a table
COLUMNS = ("input", "label", "radius", "p_lower")
REST, DIGEST = "record", "sha256"
UNREADABLE = (
    ValueError, KeyError, TypeError, AttributeError, EOFError, NotImplementedError,
    zipfile.BadZipFile, zlib.error, pickle.UnpicklingError,
)  # fmt: skip


def _heading(record: Any) -> str:
    words = [
        f"{type(record).__name__} of {len(record)} inputs", f"{record.attack} attack",
        repr(record.noise), f"alpha {in_full(record.alpha)} each", f"n0 {record.n0}, n {record.n}",
    ]  # fmt: skip
    noises = getattr(record, "noises", ())
    words += [f"routed to {' | '.join(map(repr, noises))}"] if noises else []
    words += [] if record.tight else ["not tight"]
    words += [] if record.sound is None else [f"sound on {record.sound!r}"]
    return ", ".join(words)


def _rows(record: Any) -> list[tuple[str, ...]]:
    return [
        (
            str(index),
            "abstains" if record.label[i] < 0 else str(record.label[i]),
            reach(record.attack, record.radius[i]),
            lower(record.p_lower[i]),
        )
        for i, index in enumerate(record._places[:SHOWN])
    ]


def _rest(record: Any) -> str:
    abstained = f"{int((record.label < 0).sum())} abstain; radii are rounded down"
    more = len(record) - SHOWN
    return f"and {more} more; {abstained}" if more > 0 else abstained


def as_text(record: Any) -> str:
    """The certificates as a table, the first of them only."""
    table = [COLUMNS, *_rows(record)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(map(str.rjust, row, widths)) for row in table]
    return "\n".join([_heading(record), *lines, _rest(record)])


def as_html(record: Any) -> str:
    """The same for notebooks."""
    head, *body = (
        "<tr>" + "".join(f"<{cell}>{escape(word)}</{cell}>" for word in row) + "</tr>"
        for cell, row in (("th", COLUMNS), *(("td", row) for row in _rows(record)))
    )
    table = f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"
    return f"<p>{escape(_heading(record))}</p>{table}<p>{escape(_rest(record))}</p>"


def chosen_rows(rows: Any, count: int) -> Any:
    """Which of `count` rows an index chooses, each once."""
    try:
        masked = isinstance(rows, np.ma.MaskedArray) and np.ma.is_masked(rows)
        found = np.atleast_1d(np.arange(count)[None if masked else rows])
    except (IndexError, TypeError, ValueError, OverflowError):
        found = np.zeros((0, 0), dtype=np.int64)
    if found.ndim != 1 or len(np.unique(found)) < len(found):
        rule = f"places in [0, {count}), each once, a slice or a mask"
        remedy = "choose inputs that there are"
        raise IndexError(str(fail("rows", rule, rows, remedy)))
    return found


def places(found: Sequence[tuple[Drawn, ...]], count: int) -> list[int]:
    """The inputs' places in their data set, where the samples say; else 0, 1, ..."""
    if not found or any(each.indices != same[0].indices for same in found for each in same):
        return list(range(count))
    return [index for same in found for index in same[0].indices]


def as_pandas(record: Any, index: Sequence[int]) -> Any:
    """The certificates as a table of pandas, what is said of all of them in its attrs."""
    try:
        import pandas as pd
    except ImportError as error:
        raise BackendMissing(
            "pandas must be installed for to_pandas, got none: pip install pandas"
        ) from error
    values = {each.name: getattr(record, each.name) for each in fields(record)}
    columns = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    frame = pd.DataFrame(columns, index=pd.Index(index, name="input"))
    frame.attrs = {
        name: _plain(value)
        for name, value in values.items()
        if name not in columns and name != "drawn"
    }
    return frame


def _plain(value: Any) -> Any:
    """value as JSON takes it."""
    if isinstance(value, Drawn):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.to_dict() if hasattr(value, "to_dict") else value


def _lattice(value: Any) -> Lattice | None:
    return None if value is None else Lattice(**value)


def _as_it_was(value: Any) -> Any:
    """JSON's lists were tuples."""
    return tuple(map(_as_it_was, value)) if isinstance(value, list) else value


def _drawn(values: Any) -> tuple[Drawn, ...]:
    read: Mapping[str, Callable[[Any], Any]] = {"noise": noise_from_dict, "sound": _lattice}
    return tuple(
        Drawn(**{name: read.get(name, _as_it_was)(value) for name, value in each.items()})
        for each in values
    )


READ: Mapping[str, Callable[[Any], Any]] = {
    "noise": noise_from_dict, "sound": _lattice, "drawn": _drawn,
}  # fmt: skip


def _digest(rest: str, arrays: Mapping[str, Any]) -> str:
    found = hashlib.sha256(rest.encode())
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {value.dtype.str} {value.shape}".encode())
        found.update(value.tobytes())
    return found.hexdigest()


def save(record: Any, path: Any) -> None:
    """Write a record to a new file."""
    values = {each.name: getattr(record, each.name) for each in fields(record)}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    others = {name: _plain(value) for name, value in values.items() if name not in arrays}
    rest = json.dumps({"kind": type(record).__name__, **others})
    buffer = io.BytesIO()
    entries: dict[str, Any] = {REST: rest, DIGEST: _digest(rest, arrays), **arrays}
    np.savez(buffer, **entries)
    try:
        with open(path, "xb") as file:
            try:
                file.write(buffer.getvalue())
                file.flush()
            except BaseException:  # a full disk: half a file is none, and would be in the way
                Path(path).unlink()
                raise
    except FileExistsError as error:
        rule = "a file that does not exist yet"
        raise fail("path", rule, str(path), "choose another") from error


def load(kind: Any, path: Any, read: Mapping[str, Callable[[Any], Any]] = READ) -> Any:
    """Read a record of this kind, whose entries that are no arrays are made by `read`."""
    content = Path(path).read_bytes()
    rule, remedy = "a file that save wrote, as it wrote it", "restore it, or certify again"
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        rest = str(arrays.pop(REST))
        if str(arrays.pop(DIGEST)) != _digest(rest, arrays):
            raise ValueError("its digest is of other contents")
        others = json.loads(rest)
        name = others.pop("kind")
        values = {key: read.get(key, _as_it_was)(value) for key, value in others.items()}
    except UNREADABLE as error:
        raise fail("path", rule, str(path), remedy) from error
    if name != kind.__name__:
        raise fail("path", f"one of {kind.__name__}", name, f"read it by {name}.load")
    try:
        return kind(**values, **arrays)
    except TypeError as error:  # a field that is none here, or one that is missing
        rule = "a file of this version of cert_core"
        raise fail("path", rule, f"{path} ({error})", "read it by the one that wrote it") from error
