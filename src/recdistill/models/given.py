"""Models that are not trained here: read from files that another program wrote, or the model of another run.

What the files hold: docs/signals.md. Ids are labels: "007" is not "7".
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import polars as pl
import torch
from annotated_types import Ge
from torch import Tensor

from recdistill.content.files import content_of, vectors_of
from recdistill.data.interactions import Dataset, Schema
from recdistill.data.sources.files import printable
from recdistill.data.sources.folders import data_files
from recdistill.data.sources.frames import Form, read_frame
from recdistill.data.sources.numbers import to_numbers
from recdistill.data.sources.rows import ROW, Part
from recdistill.errors import InputError
from recdistill.models.base import FactorModel, Model, RankingModel
from recdistill.models.rounding import in_order
from recdistill.runs.atomic import file_digest

log = logging.getLogger(__name__)
LARGEST = 1e37  # of a score: the floor below a list is a float32 too
MANY = 0.1  # share of rows that are left out, above which ids are likely to be written in another way
FILL = -3.4e38  # the lowest float32 is below it, which some libraries, such as implicit, fill short lists with


class ReadyMade(Model):
    """A model that is put together instead of trained, from files or from other models.

    Attributes:
        files: names of the constructor's arguments that are paths of files.
        replaced: names of the constructor's arguments that :meth:`make` replaces by what there is; they are attributes,
            too.
        stands_in: whether it only gives what another model answered, so that its size is not that model's.
    """

    files: ClassVar[tuple[str, ...]] = ()
    stands_in: ClassVar[bool] = False
    replaced: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def contents(cls, name: str, path: str, key: str) -> list[str]:
        """Hashes of the files that an argument names.

        Args:
            name: of the argument.
            path: its value.
            key: of the argument in the config, for messages.

        Raises:
            InputError: there is no such file.
        """
        del name
        return content_of(path, key)

    @classmethod
    def task_of_members(cls, net: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
        """Config of the task that its members are trained for.

        Args:
            net: its own config.
            task: config of its own task.
        """
        del net
        return dict(task)

    def make(self, data: Any, members: Mapping[str, Model]) -> None:
        """Puts it together; afterwards its state holds all that scoring needs.

        Args:
            data: a :class:`~recdistill.data.interactions.Dataset`, or a table's; its training part is all that is used.
            members: the models that it is made of.

        Raises:
            InputError: they do not fit the data.
        """
        raise NotImplementedError

    def require_part(self, data: Any, part: str) -> None:
        """Raises InputError where it has no answers for what is evaluated on a part."""


class Bundle(Model):
    """Stands in a config for the model in a folder, whatever its class; stages take that model and never build this.

    Args:
        schema: sizes of the data.
        path: folder with ``model.safetensors`` and ``model.json``, such as ``outputs/RUN/models/student_distilled``.
    """

    def __init__(self, schema: Schema, path: str):
        super().__init__(schema)
        self.path = path


class GivenLists(RankingModel, ReadyMade):
    """Ranked lists by user, from a table with a row for each user and item.

    Items that a user's list lacks are below it, all alike: as far below its last item as that is below the first.
    Distillers that ask for top items get those of the list alone. A user without a list has the same score for every
    item, of which nothing is learned.

    Args:
        schema: sizes of the data.
        path: Parquet, CSV, TSV or JSON lines, or a folder of such files.
        user, item, score: its columns.
        rank: column of ranks, the best item's the lowest, instead of scores; the n-th item then scores −log n, so that
            softmax gives it a probability in proportion to 1/n (Zipf's law). No two items of a user have the same.
        k: places of a list that are kept. Items of the user's training part take none.
        confidence: column of how sure the other program is of each row, from 0 to 1, for distillers that ask for it;
            None where there is none. Kept as float16.
    """

    files = ("path",)
    replaced = ("k",)
    stands_in = True
    items: Tensor
    score: Tensor
    length: Tensor
    confidence: Tensor

    def __init__(
        self,
        schema: Schema,
        path: str,
        user: str = "user",
        item: str = "item",
        score: str = "score",
        rank: str | None = None,
        k: Annotated[int, Ge(1)] = 100,
        confidence: str | None = None,
    ):
        super().__init__(schema)
        self.path, self.k, self.confident = path, k, confidence is not None
        self.columns = {"user": user, "item": item, **({"rank": rank} if rank else {"score": score})}
        self.columns |= {"confidence": confidence} if confidence else {}
        self.register_buffer("items", torch.zeros(schema.n_users, k, dtype=torch.int32))
        self.register_buffer("score", torch.zeros(schema.n_users, k))
        self.register_buffer("length", torch.zeros(schema.n_users, dtype=torch.int32))
        if self.confident:
            self.register_buffer("confidence", torch.zeros(schema.n_users, k, dtype=torch.float16))

    @classmethod
    def contents(cls, name: str, path: str, key: str) -> list[str]:
        del name
        return [file_digest(file) for file in data_files(path, key)]

    def make(self, data: Dataset, members: Mapping[str, Model]) -> None:  # noqa: ARG002
        user, item, score, *sure = known_rows(read_rows(self.path, self.columns), data, self.path)
        if "rank" in self.columns:
            place = places(user, data.train.n_users)
            score = -torch.log1p(place.float())
        kept = places(user, data.train.n_users) < self.k
        user, item, score, *sure = (column[kept] for column in (user, item, score, *sure))
        counts = torch.bincount(user, minlength=data.train.n_users)
        self.k = int(counts.max())
        self.items = torch.zeros(data.train.n_users, self.k, dtype=torch.int32)
        place = places(user, data.train.n_users)
        self.items[user, place] = item.int()
        # Behind its end a list repeats its last score, so that rounding by row is as fine as for the list itself.
        last = (counts.cumsum(0) - 1).clamp(min=0)
        self.score = torch.where(counts > 0, score[last], 0.0).unsqueeze(1).repeat(1, self.k)
        self.score[user, place] = score
        if sure:
            self.confidence = torch.zeros(data.train.n_users, self.k, dtype=torch.float16)
            self.confidence[user, place] = sure[0].half()
        self.length = counts.int()
        log.info("'%s': lists of %d of %d users, %d items on average", self.path, int((counts > 0).sum()),
                 len(counts), int(counts[counts > 0].float().mean()))  # fmt: skip

    @property
    def informed(self) -> Tensor | None:
        own = self.length > 0
        return None if bool(own.all()) else own

    def listed(self, users: Tensor) -> Tensor:
        """bool ``[B, k]``: the places that hold an item."""
        return torch.arange(self.k, device=users.device) < self.length[users].unsqueeze(1)

    def floor(self, users: Tensor) -> Tensor:
        """The score ``[B]`` of what is not on a user's list."""
        score, length = self.score[users], self.length[users].long()
        last = score.gather(1, (length - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
        span = score[:, 0] - last
        floor = last - torch.where(span > 0, span, last.abs().clamp(min=1))
        floor = torch.minimum(floor, torch.nextafter(last, last.new_tensor(-torch.inf)))
        return torch.where(length > 0, floor, torch.zeros_like(floor))

    def scores(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        scores = self.floor(users).unsqueeze(1).repeat(1, self.schema.n_items)
        row, place = self.listed(users).nonzero(as_tuple=True)
        scores[row, self.items[users[row], place].long()] = self.score[users[row], place]
        if items is None:
            return scores
        return scores[:, items] if items.dim() == 1 else scores.gather(1, items)

    def confidences(self, users: Tensor, items: Tensor) -> Tensor:
        """Of items ``[B, K]``, float32; 0 for what is not on a user's list."""
        found = torch.zeros(len(users), self.schema.n_items, device=users.device)
        row, place = self.listed(users).nonzero(as_tuple=True)
        found[row, self.items[users[row], place].long()] = self.confidence[users[row], place].float()
        return found.gather(1, items)


class GivenVectors(FactorModel, ReadyMade):
    """Vectors of users and of items, whose dot products are the scores.

    Files as in :mod:`recdistill.content.files`, those of users with ``user`` for ``item``. Whom a file has no vector
    of gets the mean of the others.

    Args:
        schema: sizes of the data.
        users, items: the files.
        dim: length of the vectors.
    """

    files = ("users", "items")
    user: Tensor
    item: Tensor

    def __init__(self, schema: Schema, users: str, items: str, dim: Annotated[int, Ge(1)]):
        super().__init__(schema)
        self.paths, self.dim = {"user": users, "item": items}, dim
        self.register_buffer("user", torch.zeros(schema.n_users, dim))
        self.register_buffer("item", torch.zeros(schema.n_items, dim))

    def factors(self) -> tuple[Tensor, Tensor]:
        return self.user, self.item

    def make(self, data: Dataset, members: Mapping[str, Model]) -> None:  # noqa: ARG002
        sides: tuple[Literal["user", "item"], ...] = ("user", "item")
        for side in sides:
            ids = known_ids(data)[side]
            row, vectors = vectors_of(self.paths[side], ids, f"net.{side}s", side)
            if vectors.shape[1] != self.dim:
                raise InputError(
                    f"the vectors in '{self.paths[side]}' have {vectors.shape[1]} numbers, not {self.dim}",
                    where="net.dim", fix=f"net.dim={vectors.shape[1]}",
                )  # fmt: skip
            table = vectors.mean(0).repeat(len(ids), 1)
            table[row] = vectors
            setattr(self, side, table)
            log.info("'%s': vectors of %d of %d %ss", self.paths[side], len(row), len(ids), side)


def read_rows(path: str, columns: dict[str, str]) -> pl.DataFrame:
    """``user``, ``item`` and ``score`` of each row, the best the highest, and ``confidence`` where it is asked for.

    Args:
        columns: their names in the file; ``rank`` may stand for ``score``.

    Raises:
        InputError: for a file that can't be read, a missing id, a score that is no finite number, a confidence that is
            not from 0 to 1, or a pair or a rank of a user that occurs twice; with its rows.
    """
    files, by = data_files(path, "net.path"), "rank" if "rank" in columns else "score"
    keys = {name: f"net.{name}" for name in columns}
    part = Part(files[0] if len(files) == 1 else Path(path), keys=keys, key="net.path")
    frame = read_frame(files, columns, Form(), part)

    def refuse(bad: pl.Series, what: str, name: str, fix: str) -> None:
        if bad.any():
            row = frame.filter(bad).row(0, named=True)
            more = f" (and {int(bad.sum()) - 1} more rows)" if bad.sum() > 1 else ""
            raise InputError(f"{what} in column '{printable(columns[name])}': {row[name]!r}{more}",
                             where=part.place(row[ROW], columns[name]), fix=fix)  # fmt: skip

    for side in ("user", "item"):
        refuse(frame[side].is_null() | (frame[side].str.strip_chars() == ""), f"missing {side} id", side, "fill it in")
    score = to_numbers(frame[by])
    behind = (score.is_finite() & (score < FILL)).fill_null(False)
    if behind.any():
        log.info("'%s': %d rows with the lowest float32 as score are behind the end of a list: left out", path,
                 int(behind.sum()))  # fmt: skip
        frame, score = frame.filter(~behind), score.filter(~behind)
    good = (score.is_finite() & (score.abs() < LARGEST)).fill_null(False)
    refuse(~good, f"a {by} that is no number up to {LARGEST:g}", by, "leave out its row")
    frame = frame.with_columns(score.alias(by))
    if "confidence" in columns:
        sure = to_numbers(frame["confidence"])
        refuse(~sure.is_between(0, 1).fill_null(False), "a confidence that is not from 0 to 1", "confidence",
               "write a probability")  # fmt: skip
        frame = frame.with_columns(sure.alias("confidence"))
    for name in ("item", *(["rank"] if by == "rank" else [])):
        twice = frame.select("user", name).is_duplicated()
        if twice.any():
            user, value = frame.filter(twice).select("user", name).row(0)
            rows = frame.filter((pl.col("user") == user) & (pl.col(name) == value))[ROW].to_list()
            raise InputError(f"user {user!r} has {name} {value!r} {len(rows)} times", fix="leave one row of each",
                             where=", ".join(part.place(row) for row in rows[:5]))  # fmt: skip
    sign = 1 if by == "score" else -1
    return frame.select("user", "item", (sign * pl.col(by)).alias("score"), *columns.keys() & {"confidence"})


def known_rows(frame: pl.DataFrame, data: Dataset, path: str) -> tuple[Tensor, ...]:
    """Users and items by their numbers, int64 ``[N]``, scores and, where they are, confidences: by user, the best
    first, without what the training part lacks or has.

    Raises:
        InputError: nothing is left, or not a row is of the training part's users and items.
    """
    train, ids, found = data.train, known_ids(data), frame
    for side, known in ids.items():
        numbers = pl.DataFrame({side: pl.Series(known.astype(str)), f"{side}_number": np.arange(len(known))})
        found = found.join(numbers, on=side, how="inner")
    if not len(found):
        examples = [", ".join(map(repr, column[:3])) for side in ids for column in (frame[side].to_list(), ids[side])]
        raise InputError(
            f"'{path}' has {len(frame)} rows, and none is of a user and an item of the training part", where="net.path",
            why=f"its users are {examples[0]}, ..., those of the data {examples[1]}, ...; its items {examples[2]}, ...,"
            f" those of the data {examples[3]}, ...",
            fix="write the ids as the data have them",
        )  # fmt: skip
    if lost := len(frame) - len(found):
        level = logging.WARNING if lost > MANY * len(frame) else logging.INFO
        unknown = frame.join(found, on=["user", "item"], how="anti").row(0)
        log.log(level, "'%s': %d of %d rows are of users or items that the training part lacks, the first of them user"
                " %r and item %r: left out", path, lost, len(frame), *unknown[:2])  # fmt: skip
    if frame["score"].n_unique() == 1 and len(frame) > 1:
        log.warning("'%s': all rows have one score, so that no list has an order", path)
    found = found.sort("user_number", "score", "item_number", descending=[False, True, False])
    names = [name for name in ("user_number", "item_number", "score", "confidence") if name in found.columns]
    user, item, *rest = (torch.from_numpy(found[name].to_numpy().copy()) for name in names)
    new = ~train.csr.contains(user, item)
    if not new.any():
        text = f"'{path}' lists what users have in the training part, and nothing else"
        raise InputError(text, where="net.path", fix="list what comes next")
    return user[new], item[new], in_order(rest[0][new].double(), user[new]), *(sure[new].float() for sure in rest[1:])


def known_ids(data: Dataset) -> dict[str, np.ndarray[Any, Any]]:
    """Original ids of the users and items of the training part."""
    return {"user": data.users[: data.train.n_users], "item": data.items[: data.train.n_items]}


def places(user: Tensor, n_users: int) -> Tensor:
    """The place of each row among those of its user, from 0; int64 ``[N]``, ``user`` ascending."""
    counts = torch.bincount(user, minlength=n_users)
    return torch.arange(len(user)) - (counts.cumsum(0) - counts)[user]
