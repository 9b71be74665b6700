"""What every model offers. A model is one file here and one YAML under ``conf/model``.

A ranking model maps users to scores over the catalogue. A sequence model's query is a history instead of a user. A
model of click prediction, rating or classification maps the rows of a table to logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from recdistill.data.csr import Csr
from recdistill.data.features import Features
from recdistill.data.interactions import Interactions, Schema
from recdistill.data.rows import Rows
from recdistill.errors import InputError
from recdistill.models.dot import dot_scores
from recdistill.models.fold_in import fold_in
from recdistill.models.pieces import Kind, Pieces


class Model(nn.Module):
    """Base of all models.

    Args:
        schema: sizes of the data. Every other argument of a subclass is a hyper-parameter and a key of its
            YAML.

    Attributes:
        tasks: names of the tasks that it serves.
        sparse: names of the tensors that are mostly zeros, and stored without these.
        trunk: name of the submodule that gives the last hidden layer, "" where there is none of a row or a history.
        attention: that of the weights of the last attention over a history, "" where there is none.
        cuttable: kinds of :meth:`pieces`, and the hyper-parameter that says how many there are, a number or a list.
    """

    tasks: ClassVar[tuple[str, ...]] = ()
    sparse: ClassVar[tuple[str, ...]] = ()
    trunk: str = ""
    attention: str = ""
    cuttable: ClassVar[Mapping[Kind, str]] = {}

    def __init__(self, schema: Schema):
        super().__init__()
        self.schema = schema

    def bind(self, train: Any) -> None:
        """Attach what is derived from the training part and not learned, such as a graph. Called before
        training and again after loading; it must not draw random numbers, and what it attaches must follow
        ``.to()``. The training part is :class:`~recdistill.data.interactions.Interactions`, or
        :class:`~recdistill.data.interactions.Examples` of a table."""

    def pieces(self) -> list[Pieces]:
        """What can be left out, see :mod:`recdistill.models.pieces`. Of pieces of one kind that share a number as many
        are left out of each; of a list, the first belong to its first number."""
        return []

    @classmethod
    def spelled_out(cls, net: dict[str, Any]) -> dict[str, Any]:
        """Hyper-parameters, all of them, with numbers for those that follow from others."""
        return net

    @classmethod
    def resizable(cls, net: dict[str, Any]) -> dict[Kind, tuple[str, ...]]:
        """:attr:`cuttable` of a model with these hyper-parameters, as :meth:`spelled_out` gives them."""
        del net
        return {kind: (key,) for kind, key in cls.cuttable.items()}

    def new_item_vectors(self, features: Features, rows: int) -> Tensor | None:
        """Vectors of items that training lacked, by what they are made of alone, to stand behind those of the catalogue
        wherever a score is a dot product with these.

        Args:
            features: of ``rows`` items, in the vocabularies of training.

        Returns:
            ``[rows, d]``; None for a model that knows items by their ids.
        """
        del features, rows
        return None

    @property
    def known(self) -> tuple[Tensor, Tensor] | None:
        """bool ``[n_users]`` and ``[n_items]``, of whom a ranking model knows something; None for all. The others have
        no list, and are on none."""
        return None

    @property
    def informed(self) -> Tensor | None:
        """bool ``[n_users]``, the users for whom a ranking model has an answer; None for all. Of a teacher the others
        learn nothing."""
        return None if self.known is None else self.known[0]

    def item_table(self) -> Tensor | None:
        """The weights that are the items' vectors, ``[n_items, d]``, a view of them; None without such a table."""
        table = getattr(self, "item", None)
        if not isinstance(table, nn.Embedding):
            return None
        rows: Tensor = table.weight[: self.schema.n_items]
        return rows


class RankingModel(Model):
    """A model that scores items for users."""

    tasks = ("ranking",)

    def scores(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        """Scores of the catalogue, or of given items.

        Args:
            users: int64 ``[B]``.
            items: int64 ``[K]`` shared by all users, ``[B, K]`` per user, or None for all.

        Returns:
            float ``[B, n_items]``, or ``[B, K]``.
        """
        raise NotImplementedError

    def fold_in(self, history: Csr) -> Tensor:
        """Scores of the catalogue for users that training lacked, from the items that they are known to have.

        Args:
            history: ``B`` users; items of the catalogue.

        Returns:
            float ``[B, n_items]``.

        Raises:
            InputError: the model has no way to do so.
        """
        del history
        raise InputError(
            f"{type(self).__name__} can't score users that training lacks",
            where="data.split",
            why="it knows a user by training data alone",
            fix="choose a model that folds them in, such as mf, lightgcn, ease or item_knn, or another data/split",
        )


class SetModel(RankingModel):
    """A ranking model that knows a user by the items of the training part alone, whatever their order."""

    def score_sets(self, sets: Tensor) -> Tensor:
        """Scores of the catalogue for users given as rows of 0 and 1, float ``[B, n_items]`` to the same shape: those
        of :meth:`fold_in`, in operators that every format of an export knows."""
        raise NotImplementedError


class VectorModel(RankingModel):
    """A ranking model that describes each user and each item by a vector, whatever its scores are made of."""

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Of users ``[n_users, d]`` and items ``[n_items, d]``: what a distiller of vectors compares."""
        raise NotImplementedError


class FactorModel(VectorModel):
    """A ranking model whose score is a dot product: scoring all items is one matmul, and serving can use an
    index. Whoever asks several questions in one step computes the factors once and asks
    :mod:`~recdistill.models.dot`."""

    def factors(self) -> tuple[Tensor, Tensor]:
        """Of users ``[n_users, d]`` and items ``[n_items, d]``; their dot products are the scores."""
        raise NotImplementedError

    def vectors(self) -> tuple[Tensor, Tensor]:
        return self.factors()

    def raw_factors(self) -> tuple[Tensor, Tensor]:
        """The learned tables themselves, for penalties on weights; the factors, unless those are derived."""
        return self.factors()

    def user_factors(self, users: Tensor) -> Tensor:
        """Of some users ``[B]``: rows of the first of :meth:`factors`."""
        return nn.functional.embedding(users, self.factors()[0])

    def scores(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        user_factors, item_factors = self.factors()
        return dot_scores(user_factors, item_factors, users, items)

    def folded(self, history: Csr) -> Tensor:
        """Vectors ``[B, d]`` of users that training lacked, see :meth:`fold_in`: here by least squares against the
        items' vectors."""
        return fold_in(self.factors()[1].float(), history)

    def fold_in(self, history: Csr) -> Tensor:
        return self.folded(history) @ self.factors()[1].float().T


class ClosedFormModel(Model):
    """A model that is computed from the data in one go instead of by gradient descent."""

    def fit(self, train: Interactions) -> None:
        """Compute the model from the training part; afterwards its buffers hold all that scoring needs."""
        raise NotImplementedError


class SequenceModel(Model):
    """A model whose query is a history: the items of a user in the order of time.

    Histories are int64 ``[B, L]``, ``L`` at most ``schema.max_length``, the oldest item first; behind the end of a
    shorter one stands ``schema.n_items``. The score of an item is the dot product of its row of :meth:`item_matrix`
    with the vector of the history.

    Attributes:
        causal: whether the vector at a place of :meth:`forward` depends on that place and earlier ones alone, so that
            one pass answers for every beginning of a history.
    """

    tasks = ("sequence",)
    causal: ClassVar[bool] = True

    def forward(self, history: Tensor) -> Tensor:
        """A vector for each place, ``[B, L, d]``; what stands behind the end of a history means nothing."""
        raise NotImplementedError

    def query(self, history: Tensor) -> Tensor:
        """The vector ``[B, d]`` of each history as a whole; that of an empty one is all zeros."""
        if not history.shape[1]:
            items = self.item_matrix()
            return items.new_zeros(history.shape[0], items.shape[1])
        length = (history < self.schema.n_items).sum(1)
        rows = torch.arange(history.shape[0], device=history.device)
        last: Tensor = self(history)[rows, (length - 1).clamp(min=0)]
        return last * (length > 0).unsqueeze(1)

    def item_matrix(self) -> Tensor:
        """``[n_items, d]``."""
        raise NotImplementedError


class TableModel(Model):
    """A model of the rows of a table."""

    def __call__(self, rows: Rows) -> Tensor:
        """The output, from numbers of the precision of the weights."""
        dtype = next((weight.dtype for weight in self.parameters()), torch.float32)
        output: Tensor = super().__call__(rows.cast(dtype))
        return output

    def forward(self, rows: Rows) -> Tensor:
        """The logit of a click or the rating of each row, ``[B]``; the logits of the classes, ``[B, C]``."""
        raise NotImplementedError


def vector_size(model: nn.Module) -> int:
    """Length of a model's vectors, 0 if it has none."""
    with torch.no_grad():
        if isinstance(model, VectorModel):
            return int(model.vectors()[1].shape[1])
        return int(model.item_matrix().shape[1]) if isinstance(model, SequenceModel) else 0
