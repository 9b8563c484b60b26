"""Files that appear whole or not at all, in the place of none that is not to go."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = ".cert-"
SCRATCH = re.compile(re.escape(PREFIX) + r"[a-z0-9_]{8}")


def refused(path: str | Path, reason: str) -> ValueError:
    """The error for a file that cannot be written."""
    return ValueError(
        "out must be a file that does not exist yet, in a folder that does, "
        f"got {str(path)!r} ({reason}): choose another"
    )


def _lock(folder: Path) -> int:
    """A descriptor that holds the folder; the system lets go of it when the process ends."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(held)
        raise
    return held


def sweep(folder: Path) -> None:
    """Remove what killed processes left: folders of ours that nobody holds."""
    for left in folder.glob(f"{PREFIX}*"):
        if SCRATCH.fullmatch(left.name):
            with contextlib.suppress(OSError):
                held = _lock(left)
                if all(path.name.startswith("new") for path in left.iterdir()):
                    shutil.rmtree(left)
                os.close(held)


def _claim(folder: Path) -> tuple[Path, int]:
    """A new folder and what holds it."""
    while True:
        new = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            held = _lock(new)
            if new.exists():
                return new, held
            os.close(held)  # swept before it was held


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder within this one, so on its disk, for files called new..., gone at the end."""
    sweep(folder)
    new, held = _claim(folder)
    try:
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)
        os.close(held)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextlib.contextmanager
def written(path: str | Path, *, over: bool = False) -> Iterator[Path]:
    """A name to write to, which becomes path, on the disk, if the block ends well.

    Parameters
    ----------
    path : a symbolic link stands for the file that it names
    over : in the place of a file that is there

    Raises
    ------
    FileExistsError
        The file is there, and is not to be replaced: it is as it was.
    ValueError
        It cannot be written: what was there is as it was.
    """
    target = Path(path).resolve()
    try:
        with scratch(target.parent) as folder:
            new = folder / f"new{target.suffix}"
            yield new
            sync(new)
            (os.replace if over else os.link)(new, target)
            sync(target.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise refused(path, error.strerror or str(error)) from error
