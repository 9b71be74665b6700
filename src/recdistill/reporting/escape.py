"""Names come from data: each output writes them so that they cannot act (no ANSI, markup or formulas)."""

from __future__ import annotations

import re
import unicodedata

_JOINER = "\u200d"  # holds composed emoji together; harmless
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_",
    "%": r"\%",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$", "×": r"$\times$", "–": "--", "[": "{[}", "]": "{]}",
}  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def visible(text: object) -> str:
    """Control, format and lone surrogate characters as visible escapes; the result is one line.

    >>> visible("a\\x1b[31mb\\n")
    'a\\\\x1b[31mb\\\\n'
    """
    return "".join(_shown(character) for character in str(text))


def visible_lines(text: object) -> str:
    """Like ``visible``, and line breaks stay: for errors and commands."""
    return "\n".join(visible(line) for line in str(text).split("\n"))


def _shown(character: str) -> str:
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character != _JOINER
    return character.encode("unicode_escape").decode("ascii") if hidden else character


def latex(text: object) -> str:
    return "".join(_LATEX.get(character, character) for character in visible(text))


def markdown(text: object) -> str:
    """Safe inside a Markdown table cell, also where the renderer lets HTML through."""
    plain = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|~\[\]])", r"\\\1", plain)


def csv_cell(value: object) -> str:
    """Numbers exactly as Python reads them back; text cannot start a spreadsheet formula."""
    if value is None:
        return ""
    if isinstance(value, (bool, int, float)):
        return repr(value)
    # Looked at before escaping too: a leading tab would otherwise hide as "\\t".
    raw, text = str(value), visible(value)
    return "'" + text if raw.lstrip(" ").startswith(_FORMULA) else text
