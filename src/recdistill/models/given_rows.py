"""A teacher of rows that is what another program said of them: read from a file, found again by a row's own values."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import torch
from annotated_types import Ge, Len
from torch import Tensor

from recdistill.data.interactions import Examples, Schema, TableDataset
from recdistill.data.rows import Rows
from recdistill.data.sources.files import printable
from recdistill.data.sources.folders import data_files
from recdistill.data.sources.frames import Form, read_frame
from recdistill.data.sources.numbers import to_numbers
from recdistill.data.sources.rows import ROW, Part
from recdistill.errors import InputError
from recdistill.models.base import Model, TableModel
from recdistill.models.fields import column_of
from recdistill.models.given import LARGEST, ReadyMade
from recdistill.runs.atomic import file_digest

log = logging.getLogger(__name__)
OURS = ("user", "item")  # names under which a file's columns are read as labels
LEAST = 1e-7  # of a probability, so that its logit is finite


class GivenRows(TableModel, ReadyMade):
    """Logits, probabilities or numbers of rows, from a table with a row for each.

    A row is known by one or two of its categorical columns, such as an id, or user and item. Rows that the file lacks,
    or whose ids training lacks, have no answer (NaN).

    Args:
        schema: sizes of the data.
        path: Parquet, CSV, TSV or JSON lines, or a folder of such files.
        keys: the columns, with the same names in the file and in the data.
        scores: the file's columns of answers: one of a click or a number, one a class otherwise, class 0 first.
        form: what they are; a probability of a click becomes its log-odds, that of a class its logarithm.
        n: how many rows there are.
    """

    tasks = ("ctr", "rating", "classification")
    files = ("path",)
    replaced = ("n",)
    stands_in = True
    key: Tensor
    answer: Tensor

    def __init__(
        self,
        schema: Schema,
        path: str,
        keys: Annotated[list[str], Len(1, 2)],
        scores: Annotated[list[str], Len(1)],
        form: Literal["logit", "probability", "value"] = "logit",
        n: Annotated[int, Ge(0)] = 0,
    ):
        super().__init__(schema)
        self.path, self.keys, self.scores, self.form, self.n = path, keys, scores, form, n
        self.places = [place_of(schema, key) for key in keys]
        self.sizes = [schema.features["categorical"][key] for key in keys]
        if len(scores) != schema.n_outputs:
            raise InputError(f"{len(scores)} columns of scores for {schema.n_outputs} outputs", where="net.scores",
                             why="a class has a column of its own, a click or a number has one",
                             fix=f"name {schema.n_outputs}: teacher.scores=[...]")  # fmt: skip
        self.register_buffer("key", torch.zeros(n, dtype=torch.int64))
        self.register_buffer("answer", torch.zeros(n, len(scores)))

    @classmethod
    def contents(cls, name: str, path: str, key: str) -> list[str]:
        del name
        return [file_digest(file) for file in data_files(path, key)]

    def forward(self, rows: Rows) -> Tensor:
        wanted = self.numbers([rows.categorical[:, place] for place in self.places])
        at = torch.searchsorted(self.key, wanted).clamp(max=len(self.key) - 1)
        found = (self.key[at] == wanted).unsqueeze(1)
        output = torch.where(found, self.answer[at], torch.nan)
        return output if self.schema.n_outputs > 1 else output.squeeze(1)

    def numbers(self, codes: list[Tensor]) -> Tensor:
        """One number for the codes of the keys, -1 where one is unknown; int64 ``[B]``."""
        number, known = torch.zeros_like(codes[0]), torch.ones_like(codes[0], dtype=torch.bool)
        for code, size in zip(codes, self.sizes, strict=True):
            number, known = number * size + code, known & (code > 0)
        return torch.where(known, number, -1)

    def make(self, data: TableDataset, members: Mapping[str, Model]) -> None:  # noqa: ARG002
        frame = self.read()
        words = data.train.features.vocabularies
        codes = [codes_of(frame[ours], words[key]) for ours, key in zip(OURS, self.keys, strict=False)]
        number = self.numbers([torch.from_numpy(code) for code in codes])
        known = number >= 0
        if lost := int((~known).sum()):
            log.info("'%s': %d of %d rows have ids that training lacks: left out", self.path, lost, len(frame))
        number, order = number[known].sort()
        if bool((number[1:] == number[:-1]).any()):
            raise InputError(f"{' and '.join(self.keys)} do not tell the rows apart", where=self.path,
                             why="some have two answers", fix="name a column of ids: teacher.keys=[id]")  # fmt: skip
        raw = frame.select(f"score{column}" for column in range(len(self.scores))).to_torch(dtype=pl.Float64)
        if self.form == "logit" and len(raw) and bool(((raw >= 0) & (raw <= 1)).all()):
            log.warning("'%s': all scores are from 0 to 1, as probabilities are, and are read as logits, log p/(1 - p):"
                        " teacher.form=probability if that is what they are", self.path)  # fmt: skip
        self.key, self.answer = number, self.as_logits(raw[known][order]).float()
        self.n = len(number)
        self.require_all(data.train)

    def read(self) -> pl.DataFrame:
        """Keys as text, and scores as numbers.

        Raises:
            InputError: for a file that can't be read, and a score that is no finite number or no probability.
        """
        files = data_files(self.path, "net.path")
        columns = dict(zip(OURS, self.keys, strict=False)) | {f"score{n}": name for n, name in enumerate(self.scores)}
        part = Part(files[0] if len(files) == 1 else Path(self.path), keys={
            name: "net.scores" if name.startswith("score") else "net.keys" for name in columns
        }, key="net.path")  # fmt: skip
        frame = read_frame(files, columns, Form(), part)
        for name in (name for name in columns if name.startswith("score")):
            score = to_numbers(frame[name])
            good = score.is_finite() & (score.abs() < LARGEST)
            if self.form == "probability":
                good &= (score >= 0) & (score <= 1)
            bad = ~good.fill_null(False)
            if bad.any():
                row = frame.filter(bad).row(0, named=True)
                kind = "probability" if self.form == "probability" else f"number up to {LARGEST:g}"
                column = printable(columns[name])
                count = int(bad.sum())
                raise InputError(f"{count} scores are no {kind}, the first in column '{column}': {row[name]!r}",
                                 where=part.place(row[ROW], columns[name]),
                                 fix="fill it in, or teacher.form=logit, probability or value")  # fmt: skip
            frame = frame.with_columns(score.alias(name))
        return frame

    def as_logits(self, raw: Tensor) -> Tensor:
        if self.form != "probability":
            return raw
        return raw.clamp(min=LEAST).log() if raw.shape[1] > 1 else raw.clamp(LEAST, 1 - LEAST).logit()

    def missing(self, examples: Examples) -> Tensor:
        """bool ``[N]``: which rows have no answer."""
        return ~torch.isin(self.numbers([examples.features.categorical[key] for key in self.keys]), self.key)

    def require_part(self, data: TableDataset, part: str) -> None:
        if lost := int(self.missing(getattr(data, part)).sum()):
            raise InputError(
                f"the teacher has no answer for {lost} of the {len(getattr(data, part))} rows of the {part} part",
                where="teacher", why="the file lacks them, or training lacks their ids",
                fix="teacher.evaluated=false leaves the teacher's row out of the table",
            )  # fmt: skip

    def require_all(self, train: Examples) -> None:
        """Raises InputError where training rows have no answer."""
        missing = self.missing(train)
        if not missing.any():
            return
        first = int(missing.nonzero()[0])
        features = train.features
        names = [f"{key} {features.vocabularies[key][features.categorical[key][first]]!r}" for key in self.keys]
        raise InputError(
            f"{int(missing.sum())} of {len(train)} training rows have no row in '{self.path}', the first of them"
            f" {' and '.join(names)}", where="net.path", why=f"the file answers for {len(self.key)} of its ids",
            fix="write a row for each, with ids as the data have them",
        )  # fmt: skip


def place_of(schema: Schema, key: str) -> int:
    """Place of a key among the categorical columns.

    Raises:
        InputError: the data have no such column.
    """
    try:
        return column_of(schema, key, "net.keys")
    except InputError as error:
        known = list(schema.features.get("categorical", {}))
        if not set(OURS) <= set(known):  # a table, whose columns are named in its config
            error.fix = (f"{error.fix} Or, where their file has it: data.categorical=[{','.join([*known, key])}]"
                         f" data.privileged=[{key}] reads it, and keeps it from the student")  # fmt: skip
        raise


def codes_of(ids: pl.Series, words: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The code of each id in a vocabulary, 0 for one that is not there."""
    known = pl.DataFrame({"id": pl.Series(words[1:].astype(str), dtype=pl.String), "code": np.arange(1, len(words))})
    joined = ids.cast(pl.String).alias("id").to_frame().join(known, on="id", how="left", maintain_order="left")
    return joined["code"].fill_null(0).cast(pl.Int64).to_numpy().copy()
