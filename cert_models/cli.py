"""The command `cert`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Sequence

import cert_core as cc
from cert_models.commands import certify, compare, demo, figures, numbers, report, store, train
from cert_models.commands.options import Help, UsageError
from cert_models.names import plain

GROUPS = (numbers, compare, figures, certify, store, train, report, demo)
USAGE = (UsageError, ValueError, cc.UnsupportedPair, cc.BackendMissing, cc.NoBracket)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="cert", description="Certify classifiers by randomized smoothing."
    )
    top.add_argument("--version", action="version", version=f"cert {cc.__version__}")
    commands = top.add_subparsers(required=True, metavar="command")
    for group in GROUPS:
        group.add(commands)
    _tell_defaults(top)
    return top


def _tell_defaults(parser: argparse.ArgumentParser) -> None:
    """In the help of the parser and of those under it, for every option that has one."""
    parser.formatter_class = Help
    for action in parser._actions:
        if action.option_strings and action.help is None:
            action.help = ""
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _tell_defaults(below)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    print(f"cert: warning: {plain(str(message))}", file=sys.stderr)


def _unread() -> None:
    """Let what standard output would not take go nowhere."""
    with contextlib.suppress(OSError, AttributeError), open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `cert`; returns the exit status: 2 for wrong usage; 130 when interrupted and 141 when
    nobody reads on, as of tools that these signals end."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            try:
                options = parser().parse_args(arguments)
                return int(options.run(options))
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()  # else the interpreter does, and its errors are its own
    except BrokenPipeError:
        _unread()
        return 141
    except OSError as error:
        if error.filename is None:
            _unread()
        named = f"{str(error.filename)!r} cannot be used ({error.strerror}): check its path"
        print(f"cert: error: {plain(named if error.filename else str(error))}", file=sys.stderr)
        return 2
    except USAGE as error:
        print(f"cert: error: {plain(str(error))}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(
            f"cert: error: this command needs {error.name or error}, which is not installed: "
            "pip install 'cert-core[models]'",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("cert: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
