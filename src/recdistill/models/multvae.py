"""MultVAE: a variational autoencoder of a user's items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions, Schema
from recdistill.models.base import SetModel
from recdistill.models.pieces import Cut, Kind, Pieces, places


class MultVAE(SetModel):
    """z ~ N(μ(x), σ²(x)) and scores f(z), where x are the user's items, scaled to length 1, some dropped in training.

    Both networks have one hidden layer with tanh. Outside training z is the mean. No vector of a user is stored, so
    a user that training lacked is scored as any other. Train it with
    :class:`~recdistill.tasks.objectives.elbo.ELBO`.

    Source: Liang et al., Variational autoencoders for collaborative filtering, WWW 2018, sections 2.1 and 2.2.

    Args:
        schema: sizes of the data.
        dim: length of z.
        hidden: width of the hidden layers.
        dropout: share of a user's items that are dropped from x in training.

    Attributes:
        updates: times that :class:`~recdistill.tasks.objectives.elbo.ELBO` was computed in training, for its annealing.
    """

    cuttable: ClassVar[Mapping[Kind, str]] = {"units": "hidden", "dims": "dim"}
    indptr: Tensor
    indices: Tensor
    updates: Tensor

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 200,
        hidden: Annotated[int, Ge(1)] = 600,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.5,
    ):
        super().__init__(schema)
        self.dropout = dropout
        self.item = nn.Embedding(schema.n_items, hidden)  # the encoder's first layer: a row for each item
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.to_latent = nn.Linear(hidden, 2 * dim)
        self.from_latent = nn.Linear(dim, hidden)
        self.to_items = nn.Linear(hidden, schema.n_items)
        nn.init.xavier_normal_(self.item.weight)
        for layer in (self.to_latent, self.from_latent, self.to_items):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def bind(self, train: Interactions) -> None:
        self.register_buffer("indptr", train.csr.indptr.to(self.bias.device), persistent=False)
        self.register_buffer("indices", train.csr.indices.to(self.bias.device), persistent=False)

    def pieces(self) -> list[Pieces]:
        hidden, dim = places(self.from_latent.out_features), places(self.from_latent.in_features)
        read = (Cut("item.weight", 1, hidden), Cut("bias", 0, hidden), Cut("to_latent.weight", 1, hidden, gate=True))
        made = (Cut("from_latent.weight", 0, hidden), Cut("from_latent.bias", 0, hidden),
                Cut("to_items.weight", 1, hidden, gate=True))  # fmt: skip
        both = places(len(dim), times=2)  # means and log-variances
        z = (Cut("to_latent.weight", 0, both), Cut("to_latent.bias", 0, both),
             Cut("from_latent.weight", 1, dim, gate=True))  # fmt: skip
        return [Pieces("units", len(hidden), read), Pieces("units", len(hidden), made), Pieces("dims", len(dim), z)]

    def history(self, users: Tensor) -> Csr:
        """The items of users of the training part."""
        return Csr(self.indptr, self.indices).take(users)

    def encode(self, history: Csr) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of z, both ``[B, dim]``."""
        counts = history.counts()
        weight = counts.clamp(min=1).rsqrt().to(self.item.weight.dtype).repeat_interleave(counts)
        weight = nn.functional.dropout(weight, self.dropout, self.training)
        # A bag sums the rows of the history's items: a product with x without building it.
        total = nn.functional.embedding_bag(
            history.indices, self.item.weight, history.indptr[:-1], mode="sum", per_sample_weights=weight
        )
        return self._latent(total)

    def _latent(self, total: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.to_latent((total + self.bias).tanh()).chunk(2, -1)
        return mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """Scores of the catalogue, ``[B, n_items]``."""
        scores: Tensor = self.to_items(self.from_latent(z).tanh())
        return scores

    def sample(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """z: drawn in training, the mean otherwise."""
        if not self.training:
            return mean
        return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)

    def scores(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        scores = self.fold_in(self.history(users))
        if items is None:
            return scores
        return scores[:, items] if items.dim() == 1 else scores.gather(1, items)

    def fold_in(self, history: Csr) -> Tensor:
        return self.decode(self.sample(*self.encode(history)))

    def score_sets(self, sets: Tensor) -> Tensor:
        weight = sets / sets.sum(1, keepdim=True).clamp(min=1).sqrt()
        return self.decode(self._latent(weight @ self.item.weight)[0])
