"""Parsers of the command: options in sections, whole names only, an example in every help."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

# An option stands in the same section of every command; noises' own fields in theirs.
SECTIONS = {
    "what is certified": "data model arch normalize weights classes attack p radius task share "
    "mean max skip indices log votes",
    "noise": "noise noises rms route scales sound quantize dims ks",
    "votes": "n0 n seed at until shells runner-up",
    "search": "budget average n-max tuning fresh",
    "statistics": "alpha bound method confidence allow rho jointly proved common lam",
    "training": "train train-data train-batch-size epochs learning-rate augment held-out "
    "check-every resume",
    "files and output": "store run out picture plot html title images format json force "
    "save-config",
    "running": "device batch-size on workers backend autocast channels-last compile quiet "
    "progress config",
}
FILES = {"store", "out", "picture", "html", "log", "data", "model", "config", "save_config"}
SECTION_OF = {name: title for title, names in SECTIONS.items() for name in names.split()}


class Help(argparse.RawDescriptionHelpFormatter):
    """Help that tells the defaults."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        told = "default" in text or not action.option_strings
        default = action.default
        if told or default is None or default is False or default in (argparse.SUPPRESS, [], ""):
            return text
        return f"{text} (default: %(default)s)".strip()


class Parser(argparse.ArgumentParser):
    """A command's parser.

    Parameters
    ----------
    example : str
        A whole command line, shown in the help.
    """

    source = ""  # of what is parsed, before every error

    def __init__(self, *, example: str = "", **settings: Any) -> None:
        self.sections: dict[str, argparse._ArgumentGroup] = {}
        self.example = example
        if example:
            settings["epilog"] = f"example:\n  {example}"
        super().__init__(allow_abbrev=False, formatter_class=Help, **settings)
        titles = SECTIONS if example else ()  # of a leaf
        self.sections |= {title: self.add_argument_group(title) for title in titles}

    def _add_action(self, action: Any) -> Any:
        """Every option to its section, also one of a group of which one alone is taken."""
        if action.option_strings and action.help is None:
            action.help = ""  # else its default is not told
        section = self.sections.get(section_of(action)) if self.sections else None
        return super()._add_action(action) if section is None else section._add_action(action)

    def error(self, message: str) -> Any:
        """End with one line."""
        self.exit(2, f"{self.prog}: error: {self.source}{message} (see {self.prog} --help)\n")

    def parse_args(  # type: ignore[override]
        self, args: Any = None, namespace: Any = None
    ) -> argparse.Namespace:
        """The options of a line; one that there is not is told by its command, with the nearest."""
        options: argparse.Namespace
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            leaf, _ = self.leaf(args or ())
            shown = (a.option_strings for a in leaf._actions if a.help != argparse.SUPPRESS)
            name = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(name, [n for names in shown for n in names], 1)
            told = f": perhaps {near[0]}" if near else ""
            leaf.error(f"unrecognized arguments: {' '.join(unknown)}{told}")
        return options

    def leaf(self, given: Sequence[str]) -> tuple[Parser, list[str]]:
        """The parser of the command that a line names, and the words that name it."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction) and given:
                below = action.choices.get(given[0])
                if isinstance(below, Parser):
                    leaf, words = below.leaf(given[1:])
                    return leaf, [given[0], *words]
        return self, []

    def leaves(self) -> Iterator[Parser]:
        """The parsers of all commands, each told what it is for."""
        below = [a for a in self._actions if isinstance(a, argparse._SubParsersAction)]
        if not below:
            yield self
        for action in below:
            for choice in action._choices_actions:
                found = action.choices[choice.dest]
                found.description = found.description or choice.help
                yield from found.leaves()


def noise_fields() -> set[str]:
    """The parameters of all noises."""
    import cert_core as cc

    families: list[Any] = [*cc.NOISES.values(), *cc.CHANNELS.values()]
    return {field.name for family in families for field in dataclasses.fields(family)}


def section_of(action: argparse.Action) -> str:
    """The title of the section that an option stands in, "" for none."""
    names = [name.removeprefix("--").removeprefix("no-") for name in action.option_strings]
    title = next((SECTION_OF[name] for name in names if name in SECTION_OF), "")
    return title or ("noise" if names and action.dest in noise_fields() else "")


class RenamedOption(DeprecationWarning):
    """An option has another name now; the old one goes with the next minor release."""


class Renamed(argparse.Action):
    """An old name of an option, which tells what to pass in its place: a mixin."""

    now: str

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        name = self.now.partition(" ")[0]
        warnings.warn(f"{option_string} is called {name} now: pass {self.now}", RenamedOption, 2)
        super().__call__(parser, namespace, values, option_string)


class Plot(Renamed, argparse._AppendAction):
    """--plot, of cert report."""

    now = "--picture"


class RunnerUp(Renamed, argparse._StoreTrueAction):
    """--runner-up, of cert certify and cert export."""

    now = "--bound runner-up"


class HardOrSoft(Renamed, argparse._StoreAction):
    """--votes, of cert certify."""

    now = "--bound betting for soft, nothing for hard"


class Completion(argparse.Action):
    """Print a shell's completion of the whole command line, and end."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        import shtab

        assert isinstance(parser, Parser)
        for leaf in parser.leaves():
            for action in leaf._actions:
                if action.dest in FILES or not action.option_strings:
                    action.complete = shtab.FILE  # type: ignore[attr-defined]
        print(shtab.complete(parser, shell=values))
        parser.exit()
