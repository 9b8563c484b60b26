"""The command `cert`."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

import cert_core as cc
from cert_models.commands import (
    certify,
    compare,
    demo,
    figures,
    numbers,
    prove,
    report,
    store,
    train,
)
from cert_models.commands.options import Help, UsageError

GROUPS = (numbers, compare, figures, certify, store, prove, train, report, demo)
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
    print(f"cert: warning: {message}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `cert`; returns the exit status: 2 for wrong usage, 130 when interrupted."""
    options = parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            return int(options.run(options))
    except OSError as error:
        named = f"{str(error.filename)!r} cannot be used ({error.strerror}): check its path"
        print(f"cert: error: {named if error.filename else error}", file=sys.stderr)
        return 2
    except USAGE as error:
        print(f"cert: error: {error}", file=sys.stderr)
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
