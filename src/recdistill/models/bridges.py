"""Bridges from one domain to another: what a model that was trained on the source says in the target, through what both
share, and how far it reaches there."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import polars as pl
import torch
from annotated_types import Interval
from torch import Tensor

from recdistill.config.suggest import listing
from recdistill.data.features import sizes_of
from recdistill.data.interactions import Dataset, Schema, TableDataset
from recdistill.data.sources.files import existing_file
from recdistill.data.sources.frames import Form, read_frame
from recdistill.data.sources.rows import Part
from recdistill.errors import InputError
from recdistill.models.base import FactorModel, Model, SequenceModel, TableModel, VectorModel
from recdistill.models.closeness import agreement, answers, source_probability
from recdistill.runs.atomic import file_digest

log = logging.getLogger(__name__)
Ids = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Reach:
    """How far a source teacher reaches in the target.

    Attributes:
        queries: bool ``[Q]``, the users or rows of the target's training part of which it knows something.
        items: bool ``[n_items]``, the items of which it does; None where no catalogue is ranked.
        closeness: float32 ``[Q]`` of 0 to 1, how near each query is to what the teacher learned from.
    """

    queries: Tensor
    items: Tensor | None
    closeness: Tensor


class Carried(FactorModel):
    """Vectors that were brought over from another domain. What has none is a row of zeros, and on no list.

    Args:
        schema: sizes of the target.
        dim: length of the vectors.
    """

    user: Tensor
    item: Tensor
    knows_user: Tensor
    knows_item: Tensor

    def __init__(self, schema: Schema, dim: int = 1):
        super().__init__(schema)
        self.dim = dim
        self.register_buffer("user", torch.zeros(schema.n_users, dim))
        self.register_buffer("item", torch.zeros(schema.n_items, dim))
        self.register_buffer("knows_user", torch.zeros(schema.n_users, dtype=torch.bool))
        self.register_buffer("knows_item", torch.zeros(schema.n_items, dtype=torch.bool))

    @classmethod
    def of(cls, schema: Schema, user: Tensor, item: Tensor, reach: Reach) -> Carried:
        """The model of vectors ``[n_users, d]`` and ``[n_items, d]``."""
        model = cls(schema, user.shape[1])
        assert reach.items is not None
        model.user, model.item, model.knows_user, model.knows_item = user, item, reach.queries, reach.items
        return model

    @property
    def known(self) -> tuple[Tensor, Tensor]:
        return self.knows_user, self.knows_item

    def factors(self) -> tuple[Tensor, Tensor]:
        return self.user, self.item


class Bridge:
    """What teacher and target share.

    Attributes:
        tasks: names of the tasks that it serves.
        carries: the models that can cross it.
        files: names of the constructor's arguments that are paths of files.
    """

    tasks: ClassVar[tuple[str, ...]] = ()
    carries: ClassVar[type[Model]] = Model
    files: ClassVar[tuple[str, ...]] = ()

    def contents(self) -> list[str]:
        """Hashes of the files that it reads."""
        return [file_digest(existing_file(path, f"transfer.bridge.{name}")) for name in self.files
                if (path := getattr(self, name)) is not None]  # fmt: skip

    def cross(self, model: Any, source: Any, target: Any) -> tuple[Model, Reach]:
        """The teacher of the target.

        Args:
            model: trained on the source.
            source, target: the data; of the target students' labels alone are looked at.

        Raises:
            InputError: both share nothing.
        """
        raise NotImplementedError


class SharedUsers(Bridge):
    """The same people in two shops: a user keeps the vector that the source's model has of them, and a target item is
    made of those who have it,

        e_u = x_u / |x_u|,   v_i = Σ over u in U_i of e_u / |U_i|^power,   score(u, i) = e_u · v_i,

    so that the score is a sum of similarities in the source, over the target's training users of the item: neighbours
    by cosine, found in the other domain. U_i are the users of i in the target's training part whom the source knows.

    Source: Sarwar et al., Analysis of recommendation algorithms for e-commerce, EC 2000, for neighbours by cosine; Man
    et al., Cross-domain recommendation: an embedding and mapping approach, IJCAI 2017, for users as what is shared.

    Closeness of a user: :func:`~recdistill.models.closeness.agreement`.

    Args:
        power: 0 for the sum, which prefers popular items, 1 for the mean.
    """

    tasks = ("ranking",)
    carries = VectorModel

    def __init__(self, power: Annotated[float, Interval(ge=0, le=1)] = 0.5):
        self.power = power

    @torch.no_grad()
    def cross(self, model: VectorModel, source: Dataset, target: Dataset) -> tuple[Model, Reach]:
        taught, n_items = target.train.taught, target.train.n_items
        at = shared_users(source, target)
        user = torch.nn.functional.normalize(taken(model.vectors()[0].float(), at), dim=1)
        known = user.abs().sum(1) > 0
        owner = taught.csr.transposed(n_items)
        item, user_of = owner.rows(torch.arange(n_items))
        count = torch.bincount(item[known[user_of]], minlength=n_items)
        scale = count.clamp(min=1).float() ** -self.power
        items = torch.zeros(n_items, user.shape[1]).index_add_(0, item, user[user_of]) * scale.unsqueeze(1)
        own = user.square().sum(1)  # a user's share of an item that they have
        closeness = agreement(user, items, taught.csr, own, scale, count > 0)
        reach = Reach(known, count > 0, torch.where(known, closeness, 0.0))
        return Carried.of(target.schema, user, items, reach), reach


class SharedCatalogue(Bridge):
    """The same users and, by a table that says so, the same items under other ids: scores and vectors are renamed.

    What the source lacks has vectors of zeros, teaches nothing and is on no list. Closeness of a user: 1 where known.

    Args:
        mapping: CSV, TSV or Parquet with the columns ``teacher_id`` and ``item_id``; an item has one teacher's id.
    """

    tasks = ("ranking",)
    carries = FactorModel
    files = ("mapping",)

    def __init__(self, mapping: str | None = None):
        self.mapping = mapping

    @torch.no_grad()
    def cross(self, model: FactorModel, source: Dataset, target: Dataset) -> tuple[Model, Reach]:
        if self.mapping is None:
            raise other_catalogue(source, target)
        at_user, at_item = shared_users(source, target), self.shared_items(source, target)
        user, item = (taken(table.float(), at) for table, at in zip(model.factors(), (at_user, at_item), strict=True))
        known = at_user >= 0
        reach = Reach(known, at_item >= 0, known.float())
        return Carried.of(target.schema, user, item, reach), reach

    def shared_items(self, source: Dataset, target: Dataset) -> Tensor:
        """Row of each item of the target's catalogue in the source's, int64 ``[n_items]``, -1 for none."""
        frame = read_mapping(str(self.mapping))
        theirs, ours = (data.items[: data.train.n_items] for data in (source, target))
        teacher_row, item_row = (rows_of(frame[name].to_numpy(), ids) for name, ids in
                                 (("teacher_id", theirs), ("item_id", ours)))  # fmt: skip
        both = (teacher_row >= 0) & (item_row >= 0)
        if not both.any():
            raise InputError(
                f"'{self.mapping}' maps no item of the teacher to one of the training part", where="transfer.mapping",
                why=f"its teacher_ids are {listing(frame['teacher_id'][:3])}, ..., the teacher's {listing(theirs[:3])},"
                f" ...; its item_ids {listing(frame['item_id'][:3])}, ..., those of the data {listing(ours[:3])}, ...",
                fix="write the ids as the data have them",
            )  # fmt: skip
        log.info("'%s': %d of %d items are the teacher's under another id, %d of its %d rows name others",
                 self.mapping, int(both.sum()), len(ours), int((~both).sum()), len(frame))  # fmt: skip
        at = torch.full((len(ours),), -1)
        at[item_row[both]] = teacher_row[both]
        return at


class SharedContent(Bridge):
    """The same kind of content, such as titles read by one encoder: a sequence model that knows items by that alone
    reads the target's histories, whose items are all new to it, and ranks the target's catalogue.

    Vectors are centred over the catalogue of their own domain. Items without one are known by nothing: they are on no
    list. Closeness is 1.

    Source: Hou et al., Towards universal sequence representation learning for recommender systems (UniSRec), KDD 2022.
    """

    tasks = ("sequence",)
    carries = SequenceModel

    @torch.no_grad()
    def cross(self, model: SequenceModel, source: Dataset, target: Dataset) -> tuple[Model, Reach]:
        theirs, ours = (sizes_of(data.item_features).get("vector", {}) for data in (source, target))
        if theirs != ours or not theirs:
            raise InputError(
                "source and target don't have the same vectors of items", where="transfer.data",
                why=f"there are {theirs or 'none'} in the source and {ours or 'none'} in the target",
                fix="the same encoder for both, such as encode=minilm encode@transfer.data.encode=minilm",
            )  # fmt: skip
        if model.new_item_vectors(source.item_features, 1) is None:
            raise InputError(
                f"{type(model).__name__} knows items of the source by their ids, too", where="teacher.net",
                fix="a model of content alone: teacher=content_metric, or teacher.net.fusion=features",
            )  # fmt: skip
        crossing = copy.deepcopy(model)
        crossing.schema = replace(target.schema, max_length=model.schema.max_length)
        crossing.bind(target.train.taught)
        n_items = target.train.n_items
        known = torch.stack([rows[:n_items].isfinite().all(1) for rows in target.item_features.vector.values()]).any(0)
        events = len(target.train.taught)
        return crossing, Reach(torch.ones(events, dtype=torch.bool), known, torch.ones(events))


class SharedFeatures(Bridge):
    """The same columns, such as pixels: the source's model answers for the target's rows as it is.

    Numeric columns are standardised by the rows of their own domain; categories must have the same vocabularies.
    Closeness of a row: :func:`~recdistill.models.closeness.source_probability` of the model's answers.
    """

    tasks = ("classification", "ctr", "rating")
    carries = TableModel

    def cross(self, model: TableModel, source: TableDataset, target: TableDataset) -> tuple[Model, Reach]:
        theirs, ours = source.train.features, target.train.features
        for name in sorted(theirs.vocabularies.keys() | ours.vocabularies.keys()):
            words = [list(side.vocabularies.get(name, ())) for side in (theirs, ours)]
            if words[0] != words[1]:
                raise InputError(
                    f"column '{name}' has other categories in the source than in the target", where="transfer.data",
                    why=f"{len(words[0])} there, {len(words[1])} here: a code would mean two things",
                    fix="leave the column out, or make it numeric",
                )  # fmt: skip
        closeness = source_probability(answers(model, source.train), answers(model, target.train))
        return model, Reach(torch.ones(len(target.train), dtype=torch.bool), None, closeness)


def shared_users(source: Dataset, target: Dataset) -> Tensor:
    """Row of each of the target's training users in the source's training part, int64 ``[n_users]``, -1 for none.

    Raises:
        InputError: there is no such user.
    """
    theirs, ours = (data.users[: data.train.n_users] for data in (source, target))
    at = rows_of(ours, theirs)
    if not (at >= 0).any():
        raise InputError(
            "no user of the target's training part is in that of the source", where="transfer.data",
            why=f"users there are {listing(theirs[:3])}, ...; here {listing(ours[:3])}, ...",
            fix="data of the same people, with the same ids",
        )  # fmt: skip
    log.info("%d of %d users are in the source, too", int((at >= 0).sum()), len(at))
    return at


def rows_of(wanted: Ids, ids: Ids) -> Tensor:
    """Where each id stands among others, compared as text; int64 ``[N]``, -1 for one that is not there."""
    known = pl.DataFrame({"id": pl.Series(ids.astype(str), dtype=pl.String), "row": np.arange(len(ids))})
    asked = pl.DataFrame({"id": pl.Series(wanted.astype(str), dtype=pl.String)})
    found = asked.join(known, on="id", how="left", maintain_order="left")["row"]
    return torch.from_numpy(found.fill_null(-1).cast(pl.Int64).to_numpy().copy())


def taken(table: Tensor, at: Tensor) -> Tensor:
    """The rows of a table ``[n, d]`` at some places, zeros for -1."""
    return torch.where((at >= 0).unsqueeze(1), table.detach()[at.clamp(min=0)], 0.0)


def read_mapping(path: str) -> pl.DataFrame:
    """Columns ``teacher_id`` and ``item_id`` as text.

    Raises:
        InputError: for a file that can't be read, a missing id, or an item with two rows.
    """
    file = existing_file(path, "transfer.mapping")
    columns = {"user": "teacher_id", "item": "item_id"}  # names under which they are read as text
    part = Part(file, keys=dict.fromkeys(columns, "transfer.mapping"), key="transfer.mapping")
    frame = read_frame([file], columns, Form(), part).select(columns.keys()).rename(columns)
    for name in frame.columns:
        if frame[name].is_null().any() or (frame[name].str.strip_chars() == "").any():
            raise InputError(f"'{path}' has a row without {name}", where="transfer.mapping", fix="leave the row out")
    twice = frame["item_id"].is_duplicated()
    if twice.any():
        raise InputError(f"item {frame['item_id'].filter(twice)[0]!r} has two rows in '{path}'",
                         where="transfer.mapping", fix="leave one teacher_id for each item_id")  # fmt: skip
    return frame


def other_catalogue(source: Dataset, target: Dataset) -> InputError:
    """A teacher of other items, and nothing that says which of them are the same."""
    return InputError(
        "the teacher is of another catalogue", where="transfer.mapping",
        why=f"it knows {source.train.n_items} items, the target {target.train.n_items}, and the same id need not be the"
        " same item", fix="transfer.mapping=FILE.csv, with the columns teacher_id and item_id",
    )  # fmt: skip
