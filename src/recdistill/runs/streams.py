"""Tables that are written part by part, whole or not at all; what was written takes no memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.runs.atomic import atomic_path

if TYPE_CHECKING:
    import polars as pl

ROW_GROUP = 200_000


def write_parts(parts: Iterable[pl.DataFrame], schema: dict[str, Any], output: Path) -> None:
    """Writes parts of one table to a ``.parquet``, in groups of rows, or ``.csv`` file.

    Args:
        parts: consumed one at a time; columns as in ``schema``.
        schema: types of polars by column; the table may have no row.
    """
    with atomic_path(output) as temporary:
        (_write_parquet if output.suffix == ".parquet" else _write_csv)(parts, schema, temporary)


def _write_csv(parts: Iterable[pl.DataFrame], schema: dict[str, Any], file: Path) -> None:
    import polars as pl

    with file.open("wb") as handle:
        pl.DataFrame(schema=schema).write_csv(handle)
        for part in parts:
            part.write_csv(handle, include_header=False)


def _write_parquet(parts: Iterable[pl.DataFrame], schema: dict[str, Any], file: Path) -> None:
    """By way of a file for each group, so that the table is on disk twice for a moment: polars would pull the parts
    from threads of its own, and what is allocated and freed there in turn leaves memory in pieces."""
    import polars as pl

    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", suffix=".tmp", dir=file.parent) as folder:
        groups = []
        for number, group in enumerate(_groups(parts, schema)):
            groups.append(Path(folder) / f"{number}.parquet")
            group.write_parquet(groups[-1])
        pl.scan_parquet(groups, glob=False).sink_parquet(file, row_group_size=ROW_GROUP, maintain_order=True)


def _groups(parts: Iterable[pl.DataFrame], schema: dict[str, Any]) -> Iterator[pl.DataFrame]:
    """The parts, put together to groups of about :data:`ROW_GROUP` rows; the last, of fewer, may have none."""
    import polars as pl

    held, rows = [pl.DataFrame(schema=schema)], 0
    for part in parts:
        held.append(part)
        rows += len(part)
        if rows >= ROW_GROUP:
            yield pl.concat(held)
            held, rows = [pl.DataFrame(schema=schema)], 0
    yield pl.concat(held)
