"""Tables that are written part by part, whole or not at all; what was written takes no memory."""

from __future__ import annotations

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
    from polars.io.plugins import register_io_source

    def source(*_: Any) -> Iterator[pl.DataFrame]:
        yield from parts

    register_io_source(source, schema=schema).sink_parquet(file, row_group_size=ROW_GROUP, maintain_order=True)
