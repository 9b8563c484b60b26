"""--config and --save-config: a command's options in a TOML file, by their names.

What the command line says wins over the file.  A saved file holds what was run, defaults too,
so that it says the same when a default changes; but never --force or --resume.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cert_core as cc
from cert_models.commands.options import UsageError
from cert_models.files.outputs import written
from cert_models.files.reading import reading
from cert_models.parsing import Parser

ANEW = {"force", "resume"}  # never in a file: said anew each time
COMMAND = "command"  # the key that names the command; all others are options of it
OWN = {"config", "save_config", "help", *ANEW}


class Unset(argparse._StoreConstAction):
    """--no-SWITCH: the switch as if the file did not set it."""


def add(parser: Parser) -> None:
    """The two options, and what unsets a switch."""
    for action in parser._actions.copy():
        if action.nargs in (0, "?") and action.dest not in OWN and action.help != argparse.SUPPRESS:
            parser.add_argument(
                f"--no-{action.option_strings[0].removeprefix('--')}", action=Unset,
                dest=action.dest, const=action.default, default=argparse.SUPPRESS,
                help=argparse.SUPPRESS,
            )  # fmt: skip
    parser.add_argument(
        "--config", metavar="FILE", help="TOML file of options, as --save-config writes it; the "
        "command line wins over it (--no-SWITCH over a switch)",
    )  # fmt: skip
    parser.add_argument(
        "--save-config", metavar="FILE", help="write the options of this run to a TOML file"
    )


def parse(parser: Parser, given: Sequence[str]) -> argparse.Namespace:
    """The options of a command line, with those of the file that its --config names."""
    leaf, words = parser.leaf(given)
    if not any(word.partition("=")[0] in ("--config", "--save-config") for word in given):
        return parser.parse_args(given)
    own_words = list(given[len(words) :])
    own = _said(leaf, own_words)
    file = _read(own["config"], leaf, " ".join(words)) if "config" in own else {}
    taken = set(own).union(*(group for group in _alone(leaf) if group & set(own)))
    file = {name: value for name, value in file.items() if _named(leaf)[name].dest not in taken}
    from_file = _words(leaf, file)
    options = parser.parse_args([*words, *from_file, *own_words])
    if options.save_config is not None:
        own |= {_named(leaf)[name].dest: value for name, value in file.items()}
        options.saved = _text(leaf, " ".join(words), own, options)
        _check_place(options)
    return options


@contextlib.contextmanager
def saving(options: argparse.Namespace) -> Iterator[None]:
    """Write the file that --save-config names once the run has ended, or was interrupted: of what
    was refused nothing is kept."""
    if getattr(options, "save_config", None) is None:
        yield
        return
    place = Path(options.save_config).resolve()  # a model may change the folder
    try:
        yield
    except KeyboardInterrupt:
        _write(place, options)
        raise
    _write(place, options)


def _write(place: Path, options: argparse.Namespace) -> None:
    with written(place, over=_same(place, options)) as new:
        new.write_text(options.saved, encoding="utf-8")


def _same(place: Path, options: argparse.Namespace) -> bool:
    """Whether a file says already what would be written."""
    with contextlib.suppress(OSError, UnicodeError):
        # what is no file, a pipe or a device, might never end
        return place.is_file() and place.read_text(encoding="utf-8") == str(options.saved)
    return False


def _check_place(options: argparse.Namespace) -> None:
    """Refuse, before anything is computed, to write in another file's place."""
    path = options.save_config
    place = Path(path).resolve()
    others = [v for k, v in vars(options).items() if isinstance(v, str) and k != "save_config"]
    others += [v for vs in vars(options).values() if isinstance(vs, list) for v in vs]
    rule = "a file that does not exist yet, in a folder that does"
    if any(Path(str(other)).resolve() == place for other in others if other != path) or (
        path in others and not _same(place, options)
    ):
        rule = "a file of its own"
    elif (place.parent.is_dir() and not place.exists()) or _same(place, options):
        return
    raise UsageError(f"--save-config must be {rule}, got {path!r}: choose another name")


def _named(leaf: Parser) -> dict[str, argparse.Action]:
    """The options and arguments of a command by the names that a file has for them."""
    found = {}
    for action in leaf._actions:
        for name in [] if isinstance(action, Unset) else action.option_strings or [action.dest]:
            if name.startswith("--") or not action.option_strings:
                found[name.removeprefix("--")] = action
    return {name: action for name, action in found.items() if action.dest not in OWN}


def _alone(leaf: Parser) -> list[set[str]]:
    """Options of which one alone is taken: one of the command line is in place of the file's."""
    return [{a.dest for a in group._group_actions} for group in leaf._mutually_exclusive_groups]


def _said(leaf: Parser, words: Sequence[str]) -> dict[str, Any]:
    """What words of a command say by themselves, as they are: no default, nothing required."""
    kept = [(action, action.default, action.required, action.type) for action in leaf._actions]
    for action in leaf._actions:
        action.default, action.required, action.type = argparse.SUPPRESS, False, None
    defaults, leaf._defaults = leaf._defaults, {}
    try:
        return vars(leaf.parse_args(words))
    finally:
        leaf._defaults = defaults
        for action, *before in kept:
            action.default, action.required, action.type = before


def _read(path: str, leaf: Parser, command: str) -> dict[str, Any]:
    """The options of a file, each checked by itself."""
    with reading("--config", "a TOML file", path, "write it as --save-config does"):
        text = Path(path).read_text(encoding="utf-8")
        values = tomllib.loads(text)
    whose = values.pop(COMMAND, command)
    if whose != command:
        raise UsageError(
            f"--config must be of cert {command}, got {path!r}, which is of "
            f"cert {cc.errors.shown(whose)}: name another file"
        )
    names = _named(leaf)
    unknown = [name for name in values if name not in names]
    if unknown:
        raise UsageError(
            f"--config must have keys that are options of cert {command}, got "
            f"{', '.join(map(repr, unknown))} in {path!r}: {_nearest(unknown, names)}"
        )
    leaf.source = f"{path!r}: "
    try:
        words = _words(leaf, values)
        _checked(leaf, words)
    finally:
        leaf.source = ""
    return values


def _nearest(unknown: list[str], names: Mapping[str, Any]) -> str:
    """What these may have been meant to be."""
    if alone := sorted(ANEW & set(unknown)):
        return f"--{alone[0]} is of the command line alone"
    near = {name: difflib.get_close_matches(name.lower().replace("_", "-"), names, 1)
            for name in unknown}  # fmt: skip
    told = [f"{found[0]!r} for {name!r}" for name, found in near.items() if found]
    return f"perhaps {', '.join(told)}" if told else "see its --help"


def _checked(leaf: Parser, words: Sequence[str]) -> None:
    """Refuse values that the options of these words do not take."""
    required = [action for action in leaf._actions if action.required]
    for action in required:
        action.required = False
    try:
        leaf.parse_args(words)
    finally:
        for action in required:
            action.required = True


def _words(leaf: Parser, values: Mapping[str, Any]) -> list[str]:
    """The words of a command line that say what a file says, arguments first."""
    names, arguments, options = _named(leaf), list[str](), list[str]()
    for name, value in values.items():
        action = names[name]
        items = value if isinstance(value, list) else [value]
        if not items or not all(isinstance(item, str | int | float) for item in items):
            rule = "text, a number, true or false, or a list of these"
            leaf.error(f"{name} must be {rule}, got {cc.errors.shown(value)}")
        by_place = not action.option_strings or action.nargs == "+"
        if any(_no_word(item, by_place) for item in items):
            rule = "text without NUL" + " that begins with no -" * by_place
            leaf.error(f"{name} must be {rule}, got {cc.errors.shown(value)}")
        if not action.option_strings:
            arguments += map(str, items)
        elif action.nargs == 0:
            if not isinstance(value, bool):
                leaf.error(f"{name} must be true or false, got {cc.errors.shown(value)}")
            options += [f"--{name}"] * value
        elif action.nargs == "?" and value is True:
            options.append(f"--{name}={action.const}")
        elif any(isinstance(item, bool) for item in items):
            leaf.error(f"{name} must be text or a number, got {cc.errors.shown(value)}")
        elif action.nargs == "+":
            options += [f"--{name}", *map(str, items)]
        elif isinstance(action, argparse._AppendAction):
            options += [f"--{name}={item}" for item in items]
        else:
            options.append(f"--{name}={','.join(map(str, items))}")
    return arguments + options


def _no_word(item: Any, by_place: bool) -> bool:
    """Whether no command line could say this, or would take it for an option."""
    return isinstance(item, str) and ("\0" in item or (by_place and item.startswith("-")))


def _text(leaf: Parser, command: str, said: dict[str, Any], options: argparse.Namespace) -> str:
    """The file's text: what was said, and the defaults of the rest."""
    lines = [f"# written by cert {cc.__version__}", f"{COMMAND} = {_toml(command)}"]
    done = OWN.copy()
    for action in leaf._actions:
        name = next((n for n in action.option_strings if n.startswith("--")), action.dest)
        if action.dest in done:
            continue
        done.add(action.dest)
        value = said.get(action.dest, action.default)
        if action.type in (int, float):
            value = getattr(options, action.dest)
        if not (value is None or value is False or value in ([], argparse.SUPPRESS)):
            lines.append(f"{name.removeprefix('--')} = {_toml(value)}")
    text = "\n".join(lines) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"--save-config must be of options that are text, got {cc.errors.shown(text)}: rename "
            "what is named so"
        ) from None
    return text


def _toml(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):  # JSON's texts are TOML's but for one character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
