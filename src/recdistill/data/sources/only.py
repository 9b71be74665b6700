"""Logs with several kinds of events: keeping the rows whose column has one of some texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import polars as pl
from pydantic import BeforeValidator

from recdistill.data.sources.files import nearest, printable
from recdistill.data.sources.rows import Part
from recdistill.errors import InputError


def _by_column(given: object) -> object:
    if not isinstance(given, Mapping):
        raise ValueError("a column and its texts are needed, such as 'data.only={event: buy}'")
    return given


_Cell = str | int | bool
Only = Annotated[dict[str, _Cell | list[_Cell]], BeforeValidator(_by_column)]
"""The texts to keep by column, such as ``{"event": "buy"}`` or ``{"event": ["buy", "cart"]}``."""
_SHOWN = 10


def as_texts(only: Mapping[str, object] | None) -> dict[str, list[str]]:
    """The texts to keep by column, from plain containers or those of a config."""
    return {str(column): [_text(cell) for cell in _listed(cells)] for column, cells in (only or {}).items()}


def column_of(name: str) -> str:
    """What we call a column of the file that rows are kept by."""
    return f"only {name}"


def kept(frame: pl.DataFrame, only: Mapping[str, Sequence[str]], part: Part) -> pl.DataFrame:
    """The rows whose columns have one of the texts; the others are counted, texts that never occur are told.

    Raises:
        InputError: where no row is left, with the texts that there are.
    """
    for name, texts in only.items():
        column = frame[column_of(name)]
        if column.dtype.is_nested() or column.dtype == pl.Binary:
            raise InputError(
                f"column '{printable(name)}' is {column.dtype}, and has no texts to keep rows by",
                where=f"{part.path}:{printable(name)}",
                fix="data.only=null",
            )
        cells = column.cast(pl.String)
        there = cells.is_in(texts).fill_null(False)
        counts = cells.drop_nulls().value_counts(sort=True, name="rows")
        if not there.any():
            raise _none_left(name, texts, counts, part)
        found = set(counts[cells.name])
        never = [repr(text) for text in texts if text not in found]
        if never:
            part.warnings.append(f"{part.path.name}: column '{name}' never is {' or '.join(never)}")
        part.count(f"{name} is none of {', '.join(texts)}", len(there) - int(there.sum()))
        frame = frame.filter(there)
    return frame.drop(column_of(name) for name in only)


def _none_left(name: str, texts: Sequence[str], counts: pl.DataFrame, part: Part) -> InputError:
    found = counts[counts.columns[0]].to_list()
    shown = [f"{printable(text)!r}: {rows:,}" for text, rows in counts.head(_SHOWN).rows()]
    if len(found) > _SHOWN:
        shown.append(f"and {len(found) - _SHOWN:,} more")
    close = [text for wanted in texts for text in nearest(wanted, found)]
    meant = [*close, *found, "TEXT"][0]
    return InputError(
        f"no row of '{part.path}' has {' or '.join(map(repr, texts))} in column '{printable(name)}'",
        where="data.only",
        why="there is " + (", ".join(shown) or "nothing in it"),
        fix=f"'data.only={{{_quoted(name)}: {_quoted(meant)}}}'",
    )


def _quoted(text: str) -> str:
    plain = text.replace("_", "").replace("-", "")
    return text if plain.isalnum() and plain.isascii() else '"' + printable(text).replace('"', '\\"') + '"'


def _listed(cells: object) -> Sequence[object]:
    return cells if isinstance(cells, Sequence) and not isinstance(cells, str) else [cells]


def _text(cell: object) -> str:
    return str(cell).lower() if isinstance(cell, bool) else str(cell)
