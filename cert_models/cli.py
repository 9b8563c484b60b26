"""The command `cert`.

Only the standard library is imported before `main` is called, so that an interrupt while the
rest is imported ends as any other.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import sysconfig
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cert_models.files.names import plain

if TYPE_CHECKING:
    from cert_models.parsing import Parser

TRACEBACK = "CERT_TRACEBACK"  # of the environment: errors are told with where they came from
EXTRAS = {"matplotlib": "plots", "shtab": "completion", "onnxruntime": "onnx"}  # else torch
PACKAGES = [Path(__file__).parents[1] / name for name in ("cert_core", "cert_models")]


def _top() -> Parser:
    """What the command line knows before any of its commands is imported."""
    import cert_core as cc
    from cert_models.parsing import Completion, Parser

    top = Parser(
        prog="cert", description="Certify classifiers by randomized smoothing.",
        epilog="cert COMMAND --help: what a command takes, with an example",
    )  # fmt: skip
    top.add_argument("--version", action="version", version=f"cert {cc.__version__}")
    top.add_argument(
        "--completion", choices=("bash", "zsh", "tcsh"), action=Completion,
        help="print what completes commands and options in this shell",
    )  # fmt: skip
    return top


def parser() -> Parser:
    """The whole command line."""
    from cert_models.commands import (
        audit,
        certify,
        compare,
        config,
        demo,
        figures,
        numbers,
        prove,
        report,
        store,
        train,
        tune,
    )

    top = _top()
    commands = top.add_subparsers(required=True, metavar="command")
    groups = (numbers, compare, figures, certify, store, audit, prove, train, tune, report, demo)
    for group in groups:
        group.add(commands)
    for leaf in top.leaves():
        config.add(leaf)
    return top


def _say(kind: str, text: object) -> None:
    """A line on stderr, if anybody reads it."""
    with contextlib.suppress(OSError, ValueError):
        print(f"cert: {kind}{plain(str(text))}", file=sys.stderr)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    _say("warning: ", message)


def _unread() -> None:
    """Let what standard output would not take go nowhere."""
    with contextlib.suppress(OSError, AttributeError), open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())


def _open_standard() -> None:
    """Streams that were closed lead nowhere, and no file of ours gets their numbers; what an
    encoding has no letter for is written by its number."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    with contextlib.suppress(AttributeError):  # of another class
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


@contextlib.contextmanager
def _interruptible(last: bool) -> Iterator[None]:
    """The first Ctrl-C ends the work in order; the next, or the first when the last work is
    done, the process without a word."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler or (
        threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def first(*_: object) -> None:
        nonlocal last
        last = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    def unraisable(what: Any) -> None:
        """An interrupt that fell where nothing can be raised ends the process all the same."""
        if what.exc_type is KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
        told(what)

    told, sys.unraisablehook = sys.unraisablehook, unraisable
    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        sys.unraisablehook = told
        signal.signal(signal.SIGINT, signal.SIG_DFL if last else usual)


@contextlib.contextmanager
def _answer_alone(options: argparse.Namespace) -> Iterator[None]:
    """With --json the one object is all of standard output: what else is printed, by a model or
    what it starts, goes to stderr."""
    options.stdout = sys.stdout
    if not getattr(options, "json", False):
        yield
        return
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ValueError):  # streams of no file: of a test
            out, err = sys.stdout.fileno(), sys.stderr.fileno()
            sys.stdout.flush()
            kept = os.dup(out)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, out)
            options.stdout = stack.enter_context(open(os.dup(kept), "w", encoding="utf-8"))
            os.dup2(err, out)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def _installed(file: str) -> bool:
    """Whether code is ours, the interpreter's or of an installed package."""
    path = Path(file)
    places = [*PACKAGES, Path(sysconfig.get_paths()["stdlib"])]
    return (
        not path.is_file()  # "<frozen ...>", or compiled
        or bool({"site-packages", "dist-packages"} & set(path.parts))
        or any(path.resolve().is_relative_to(place) for place in places)
    )


def _complaint(error: BaseException) -> str:
    """What an error says, in one line; and where the user's own code, or code that no error was
    expected of, raised it."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    frames = traceback.extract_tb(cause.__traceback__)
    users = [frame for frame in frames if not _installed(frame.filename)]
    text = " ".join(str(error).split())
    last = Path(frames[-1].filename).resolve() if frames else Path()
    own = cause is not error or any(last.is_relative_to(place) for place in PACKAGES)
    ours = type(error).__module__.partition(".")[0] in {place.name for place in PACKAGES}
    expected = ours or (own and isinstance(error, ValueError))
    if isinstance(error, OSError):
        expected = True
        if error.filename is not None:
            text = f"{str(error.filename)!r} cannot be used ({error.strerror}): check its path"
    elif isinstance(error, ModuleNotFoundError) and not users:
        needs = f"this command needs {error.name or text}, which is not installed"
        name = str(error.name).partition(".")[0]
        extra = f"'smoothing-certificates[{EXTRAS.get(name, 'torch')}]'"
        return f"{needs}: pip install {'scikit-learn' if name == 'sklearn' else extra}"
    elif not expected:
        text = f"{type(error).__name__}: {text}"
    if expected and not users:
        return text
    place = (users or frames)[-1]
    file = Path(place.filename).resolve()
    near = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    return f"{text.removesuffix(': ')} (raised at {near}:{place.lineno})"


def _refused(error: BaseException) -> int:
    """Say what was wrong; the exit status."""
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    _say("error: ", _complaint(error))
    return 2


def _tell_renamed() -> None:
    """Options by old names are warned of, as of nothing else that is deprecated."""
    from cert_models.parsing import RenamedOption

    warnings.simplefilter("default", RenamedOption)


def _run(arguments: Sequence[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["--version"]:
        _top().parse_args(given)
    from cert_models.commands import config

    options = config.parse(parser(), given)
    try:
        with _answer_alone(options), config.saving(options):
            return int(options.run(options))
    except SystemExit as stop:
        raise RuntimeError(f"the run was ended from within, by exit({stop.code!r})") from stop


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `cert`; returns the exit status: 1 for a result that is not all that was asked for,
    2 for wrong usage; 130 when interrupted and 141 when nobody reads on, as of tools that these
    signals end."""
    _open_standard()
    try:
        with _interruptible(arguments is None), warnings.catch_warnings():
            warnings.showwarning = _warn
            _tell_renamed()
            try:
                return _run(arguments)
            finally:
                sys.stdout.flush()  # else the interpreter does, and its errors are its own
    except BrokenPipeError:
        _unread()
        return 141
    except KeyboardInterrupt as stop:
        _say("", str(stop) or "interrupted")
        return 130
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None:
            _unread()
        return _refused(error)


if __name__ == "__main__":
    sys.exit(main())
