"""Text of others, such as the names of runs and logs, as text in each kind of output.

A name may hold anything.  None of it is to end a line, steer a terminal, be a formula of a
spreadsheet, markup, or a command of TeX.
"""

from __future__ import annotations

import html
import re
import unicodedata

# Control and format characters (newlines, ESC, marks of direction), halves of characters that
# stand for bytes of no encoding, and ends of lines and paragraphs.
STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
FORMULA = "=+-@"  # how a cell begins that a spreadsheet computes

LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "[": "{[}", "]": "{]}", "*": "{*}",  # which \\ and \midrule would take for their own
}  # fmt: skip


def plain(text: str, keep: str = "") -> str:
    """The text with every character that steers its reader, but for those kept, as an escape:
    for a terminal, a picture, a comment."""
    return "".join(
        c if c in keep or unicodedata.category(c) not in STEERING
        else c.encode("unicode_escape").decode()
        for c in text
    )  # fmt: skip


def latex(text: str) -> str:
    """The text for LaTeX, outside of mathematics."""
    return "".join(LATEX.get(c, c) for c in plain(text))


def markdown(text: str) -> str:
    """The text for Markdown, where HTML counts as well."""
    return re.sub(r"([\\|*_`\[\]#$~!])", r"\\\1", html.escape(plain(text), quote=False))


def markup(text: str) -> str:
    """The text for HTML, in attributes too."""
    return html.escape(plain(text))


def cell(text: str) -> str:
    """The text for a cell of a spreadsheet: after an apostrophe where it is no number and would
    be a formula."""
    shown = plain(text)
    begun = unicodedata.normalize("NFKC", shown).lstrip()[:1]
    return f"'{shown}" if begun and begun in FORMULA and not _is_number(shown) else shown


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", text, re.ASCII) is not None
