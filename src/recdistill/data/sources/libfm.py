"""libFM's text format: a label, then the index and value of each feature that is not zero."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from recdistill.data.sources.base import Kind, RawLog, Source, hash_arguments, hash_files
from recdistill.data.sources.files import check_encoding, lines
from recdistill.data.sources.folders import folder_with
from recdistill.data.sources.labelled import binary, part_files, stack, table
from recdistill.errors import InputError

_ENTRIES = "entries"


class LibFM(Source):
    """Rows such as ``-1 204:1 4798:1 5041:1``, as examples with one categorical feature a field.

    Source: Rendle, 2012, "Factorization Machines with libFM", ACM TIST 3(3); the format is that of libSVM.

    Where all rows have equally many entries, and no index stands at two places, a place is a field: categorical if
    its values are 1, numeric if it is always the same index. Else a row is one multi-valued feature ``features``.

    Args:
        path: a folder, the folder that it alone is in, or one file with all rows.
        train, valid, test: file names in the folder. ``valid`` and ``test`` may be None: that part is then empty.
        fields: a name for each place; None names them ``field_0`` and on.
        group: field that tells whose row it is, for AUC by user; None without.
        valid_as_train: whether, where the training file is not there, the validation file is trained on; the
            report says so.
    """

    def __init__(
        self,
        path: str,
        train: str | None = "train.libfm",
        valid: str | None = "valid.libfm",
        test: str | None = "test.libfm",
        fields: Sequence[str] | None = None,
        group: str | None = None,
        valid_as_train: bool = False,
    ):
        self.path = folder_with(Path(path).expanduser(), filter(None, (train, valid, test)))
        self.names = {"train": train, "valid": valid, "test": test}
        self.fields = None if fields is None else list(fields)
        self.group = group
        self.warnings: list[str] = []
        if valid_as_train and train and valid and (self.path / valid).exists() and not (self.path / train).exists():
            self.names |= {"train": valid, "valid": None}
            self.warnings = [f"{train} is not there: {valid} is trained on, and there is no validation part"]

    def fingerprint(self) -> str:
        files = {part: hash_files(file) for part, file in part_files(self.path, self.names).items()}
        return hash_arguments(kind="libfm", files=files, fields=self.fields, group=self.group)

    def read(self) -> RawLog:
        dropped: dict[str, int] = {}
        files = part_files(self.path, self.names)
        frames = {part: _read(file, dropped) for part, file in files.items()}
        flat = pl.concat(_split(frame, files[part]) for part, frame in frames.items())
        events = stack({part: frame.drop("row") for part, frame in frames.items()})
        lengths = events[_ENTRIES].list.len()
        facts: dict[str, int | str] = {"feature indices": _range(flat["index"])}
        if lengths.min() == lengths.max() and _is_by_place(flat, int(lengths[0])):
            columns = _columns(flat, int(lengths[0]), self._field_names(int(lengths[0])))
        elif (flat["value"] != 1).any():
            raise InputError(
                "rows of several lengths hold values other than 1",
                where=str(self.path),
                why="a row is then a set of features, and a set has no values",
                fix="write each row with the same fields in the same order, or a CSV table with data=click_csv",
            )
        else:
            columns = {"features": events[_ENTRIES].list.eval(pl.element().str.extract(r"^(\d+)"))}
        kinds: dict[str, Kind] = {name: _kind(column) for name, column in columns.items()}
        events = events.drop(_ENTRIES).with_columns(column.alias(name) for name, column in columns.items())
        return table(events, kinds, facts, dropped=dropped, group=self.group, warnings=self.warnings)

    def where(self) -> str:
        return str(self.path)

    def _field_names(self, n: int) -> list[str]:
        names = self.fields or [f"field_{place}" for place in range(n)]
        if len(names) != n or len(set(names)) != n:
            raise InputError(
                f"{len(set(names))} different names for {n} fields",
                where="data.fields",
                why=f"each row of '{self.path}' has {n} entries; the names are {names}",
                fix="data.fields=null, or a name for each",
            )
        return names


def _read(file: Path, dropped: dict[str, int]) -> pl.DataFrame:
    """``row``, the label as ``value``, and the ``entries`` of each row, which look like ``INDEX:VALUE``."""
    check_encoding(file)
    text = lines(file).str.replace_all(r"\s+", " ").str.strip_chars().alias("line")
    frame = pl.DataFrame({"row": pl.int_range(1, len(text) + 1, eager=True), "line": text})
    kept = frame.filter(pl.col("line") != "")
    if kept.height < frame.height:
        dropped["blank line"] = dropped.get("blank line", 0) + frame.height - kept.height
    if not kept.height:
        raise InputError(f"'{file}' holds no rows", where=str(file), fix="give another file")
    parts = kept["line"].str.splitn(" ", 2).struct
    labels, rest = parts.field("field_0"), parts.field("field_1")
    bad = ~rest.str.contains(r"^\d+:[^ :]+( \d+:[^ :]+)*$").fill_null(False)
    if bad.any():
        raise _unlike(file, kept.filter(bad).row(0), int(bad.sum()) - 1)
    label = binary(labels, kept["row"], file, "label")
    return pl.DataFrame({"row": kept["row"], "value": label, _ENTRIES: rest.str.split(" ")})


def _split(frame: pl.DataFrame, file: Path) -> pl.DataFrame:
    """All entries one after another: ``index`` (String) and ``value`` (Float64).

    Raises:
        InputError: at the first value that is no finite number.
    """
    flat = frame.select("row", entry=_ENTRIES).explode("entry")
    parts = flat["entry"].str.split_exact(":", 1).struct
    values = parts.field("field_1").cast(pl.Float64, strict=False)
    bad = ~values.is_finite().fill_null(False)
    if bad.any():
        raise _unlike(file, flat.filter(bad).row(0), int(bad.sum()) - 1)
    return pl.DataFrame({"index": parts.field("field_0"), "value": values})


def _unlike(file: Path, row: tuple[int, str], more: int) -> InputError:
    return InputError(
        f"{row[1][:60]!r} is not of the form LABEL INDEX:VALUE ..." + (f" (and {more} more rows)" if more else ""),
        where=f"{file}:{row[0]}",
        why="an index is a whole number from 0, a value a finite number",
        fix="repair the row; for a table with a header, data=click_csv",
    )


def _range(index: pl.Series) -> str:
    last = int(index.cast(pl.Int64).max())  # type: ignore[arg-type]
    return f"{index.n_unique():,} of {last + 1:,} (0 to {last:,})"


def _is_by_place(flat: pl.DataFrame, n: int) -> bool:
    """Whether no index stands at two of the ``n`` places of a row."""
    place = pl.int_range(flat.height, eager=True) % n
    pairs = pl.DataFrame({"index": flat["index"], "place": place}).unique()
    return pairs.height == flat["index"].n_unique()


def _columns(flat: pl.DataFrame, n: int, names: list[str]) -> dict[str, pl.Series]:
    """A column a place: its indices, or its values where the index is always the same."""
    columns = {}
    for place, name in enumerate(names):
        index, value = (flat[column].gather_every(n, place) for column in ("index", "value"))
        if (value == 1).all():
            columns[name] = index
        elif index.n_unique() == 1:
            columns[name] = value
        else:
            at = (value != 1).arg_max() or 0
            raise InputError(
                f"field '{name}' holds several indices, and values other than 1",
                where="data.path",
                why=f"such as {index[at]}:{value[at]:g}; a field is a category (value 1) or a number (one index)",
                fix="give a number a place of its own in each row",
            )
    return columns


def _kind(column: pl.Series) -> Kind:
    if isinstance(column.dtype, pl.List):
        return "multi"
    return "numeric" if column.dtype == pl.Float64 else "categorical"
