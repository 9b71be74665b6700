"""The contract between data and everything above it: encoded interactions, and the three parts of a data set."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.features import Features, Sizes, sizes_of, take
from recdistill.data.graph import KnowledgeGraph


@dataclass(frozen=True)
class Schema:
    """What a model must know of the data before it is built.

    Attributes:
        n_users: rows of a user table. Users are numbered from 0 in the training part.
        n_items: rows of an item table: the catalogue, the items of the training part.
        features: sizes of the columns of a table, for models on :class:`~recdistill.data.rows.Rows`.
        n_outputs: classes of a classification task, 1 otherwise.
        max_length: longest history, for sequence models.
        user_features, item_features: sizes of their features, for models that take them.
        n_entities, n_relations: of a knowledge graph, for models that take one; the items don't count as entities.
    """

    n_users: int = 0
    n_items: int = 0
    features: Sizes = field(default_factory=dict)
    n_outputs: int = 1
    max_length: int = 0
    user_features: Sizes = field(default_factory=dict)
    item_features: Sizes = field(default_factory=dict)
    n_entities: int = 0
    n_relations: int = 0


@dataclass(frozen=True)
class Interactions:
    """Encoded user-item events.

    Attributes:
        user: int64 ``[N]``, in ``[0, n_users)``; ids ``>= n_users`` are cold: training lacks them, and of each
            there is a known history.
        item: int64 ``[N]``; ids ``>= n_items`` are cold: they occur outside the training part only,
            so they count as relevant and can't be recommended.
        value: float32 ``[N]`` rating or weight, or None.
        time: int64 ``[N]``, or None.
        n_users, n_items: sizes of the training vocabulary.
        context: features of the events, ``N`` rows.
        n_cold_users: how many cold users the data set has; 0 in the training part.
        user_features, item_features: of the training part, those of its data set, for models that take them: a row for
            each user and item of the vocabulary, then the cold ones. Empty in the other parts.
        labelled: bool ``[N]``, the events that a student may learn from; None for all.
        unlabelled: how many others :attr:`taught` left out.
        graph: of the training part, the knowledge graph of its data set, for models that take one.
    """

    user: Tensor
    item: Tensor
    n_users: int
    n_items: int
    value: Tensor | None = None
    time: Tensor | None = None
    context: Features = field(default_factory=Features)
    n_cold_users: int = 0
    user_features: Features = field(default_factory=Features)
    item_features: Features = field(default_factory=Features)
    labelled: Tensor | None = None
    unlabelled: int = 0
    graph: KnowledgeGraph | None = None

    def __len__(self) -> int:
        return self.user.numel()

    @cached_property
    def taught(self) -> Interactions:
        """The labelled events alone, over the same users and items."""
        if self.labelled is None:
            return self
        at = self.labelled.nonzero().flatten()
        return replace(
            self, user=self.user[at], item=self.item[at], value=None if self.value is None else self.value[at],
            time=None if self.time is None else self.time[at], context=take(self.context, at) if self.context else
            self.context, labelled=None, unlabelled=len(self) - len(at),
        )  # fmt: skip

    @cached_property
    def csr(self) -> Csr:
        """The items of each user, cold users last, ascending and without duplicates."""
        return Csr.from_pairs(self.user, self.item, self.n_users + self.n_cold_users)


@dataclass(frozen=True)
class Dataset:
    """A prepared data set: three parts over one training vocabulary.

    Attributes:
        train, valid, test: the parts. Users of valid and test are in train or have a known history; those of
            whom nothing is known were dropped and counted in ``report``.
        users: original id of each user, str ``[n_users + n_cold_users]``: those of train, then the cold users.
        items: original id of each item, str ``[n_items + n_cold]``: the catalogue, then the cold items.
        report: plain containers: counts before and after each filter, dropped rows by reason, sizes, warnings.
        manifest: plain containers: hash of each part, cut times, split method, whether the split leaks time.
        fingerprint: hash of content and config.
        titles: a human name for each of ``items``, or None.
        user_features, item_features: a row for each of ``users`` and ``items``; vocabularies, means and deviations
            are those of the training part's users and items.
        known: what is known of the cold users when they are evaluated, and is never trained on; None where a split
            holds out no users.
        graph: what is known of the catalogue's items as a knowledge graph, or None.
    """

    train: Interactions
    valid: Interactions
    test: Interactions
    users: np.ndarray[Any, Any]
    items: np.ndarray[Any, Any]
    report: dict[str, Any]
    manifest: dict[str, Any]
    fingerprint: str
    titles: np.ndarray[Any, Any] | None = None
    user_features: Features = field(default_factory=Features)
    item_features: Features = field(default_factory=Features)
    known: Interactions | None = None
    graph: KnowledgeGraph | None = None

    @cached_property
    def history(self) -> Csr:
        """The items that each user, cold ones included, is known to have before validation."""
        return self.train.csr if self.known is None else self.train.csr.union(self.known.csr)

    def seen(self, part: str) -> Csr:
        """The items that are masked for each user in ``part``: the history and, for "test", validation's too."""
        return self.history if part == "valid" else self.history.union(self.valid.csr)

    @property
    def schema(self) -> Schema:
        users, items = sizes_of(self.user_features), sizes_of(self.item_features)
        entities, relations = (0, 0) if self.graph is None else (self.graph.n_entities, self.graph.n_relations)
        return Schema(
            self.train.n_users, self.train.n_items, user_features=users, item_features=items, n_entities=entities,
            n_relations=relations,
        )  # fmt: skip


@dataclass(frozen=True)
class Examples:
    """Labelled rows of a table, as for click prediction.

    Attributes:
        label: float32 ``[N]``.
        features: ``N`` rows.
        time: int64 ``[N]``, or None.
        group: int64 ``[N]``, whose row it is, in all parts alike and for unseen values too; or None.
        labelled: bool ``[N]``, the rows whose label a student may learn from; None for all.
    """

    label: Tensor
    features: Features
    time: Tensor | None = None
    group: Tensor | None = None
    labelled: Tensor | None = None

    def __len__(self) -> int:
        return self.label.numel()

    @cached_property
    def taught(self) -> Examples:
        """The labelled rows alone."""
        if self.labelled is None:
            return self
        at = self.labelled.nonzero().flatten()
        time, group = (None if column is None else column[at] for column in (self.time, self.group))
        return Examples(self.label[at], take(self.features, at), time, group)


@dataclass(frozen=True)
class TableDataset:
    """A prepared table: three parts over the vocabularies, means and deviations of the training part.

    Attributes:
        train, valid, test: the parts.
        report, manifest, fingerprint: as in :class:`Dataset`.
    """

    train: Examples
    valid: Examples
    test: Examples
    report: dict[str, Any]
    manifest: dict[str, Any]
    fingerprint: str

    @property
    def schema(self) -> Schema:
        return Schema(features=sizes_of(self.train.features))


Data = Dataset | TableDataset
