"""Several models as one: a teacher that is the mean of others, each trained by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions, Schema
from recdistill.data.rows import Rows
from recdistill.models.base import Model, RankingModel, SequenceModel, TableModel
from recdistill.models.build import build
from recdistill.models.given import ReadyMade

Members = Annotated[dict[str, dict[str, Any]], MinLen(1)]
"""By name the whole config of each: ``net``, and ``objective`` and ``fit`` where it is trained."""
RRF = 60
LIST = 100  # places of a list whose sharpness is looked at
CHUNK = 2**24  # scores at a time


class Ensemble(ReadyMade):
    """Base of the ensembles: holds the members, whose weights are its own.

    Args:
        schema: sizes of the data.
        members: see :data:`Members`; at least one.
    """

    def __init__(self, schema: Schema, members: Members):
        super().__init__(schema)
        self.members = nn.ModuleDict({name: build(node["net"], schema) for name, node in members.items()})

    def make(self, data: Any, members: Mapping[str, Model]) -> None:  # noqa: ARG002
        self.members = nn.ModuleDict(dict(members))

    def bind(self, train: Any) -> None:
        for member in self.parts():
            member.bind(train)

    def parts(self) -> list[Any]:
        """The members in their order."""
        return list(self.members.values())


def members_of(model: Model) -> list[Any]:
    """The models that a model is an ensemble of; none for any other."""
    return model.parts() if isinstance(model, Ensemble) else []


class RankingEnsemble(Ensemble, RankingModel):
    """Ranking models that score together:

    - ``zscore``: the mean over members of (z − mean_i z) / sd_i z, over the catalogue, by user.
    - ``rank``: reciprocal rank fusion, log Σ_m 1 / (60 + rank_m), with ranks from 1 among the items that the user has
      not, of which equals share the mean of theirs; the logarithm keeps the order and makes the sums the odds that soft
      labels see.
      Source: Cormack, Clarke and Büttcher, Reciprocal rank fusion outperforms Condorcet and individual rank learning
      methods, SIGIR 2009.
    - ``confidence``: as ``zscore``, weighted by user: w_m ∝ 1 − H(p_m) / log n, where p_m is the softmax of the
      z-scores on the member's list of n ≤ 100 items.

    A member that scores all items of a user alike, such as lists from a file that lack the user, has no part in it.

    Args:
        schema: sizes of the data.
        members: see :class:`Ensemble`; any ranking models, those in closed form and from files too.
        combine: see above.
    """

    indptr: Tensor
    indices: Tensor

    def __init__(self, schema: Schema, members: Members, combine: Literal["zscore", "rank", "confidence"] = "zscore"):
        super().__init__(schema, members)
        self.combine = combine
        self.register_buffer("indptr", torch.zeros(schema.n_users + 1, dtype=torch.int64), persistent=False)
        self.register_buffer("indices", torch.zeros(0, dtype=torch.int64), persistent=False)

    def bind(self, train: Interactions) -> None:
        super().bind(train)
        self.indptr, self.indices = (x.to(self.indptr.device) for x in (train.csr.indptr, train.csr.indices))

    @property
    def informed(self) -> Tensor | None:
        found = [member.informed for member in self.parts()]
        return None if any(own is None for own in found) else torch.stack(found).any(0)

    def scores(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        if items is None:
            return self._all_scores(users)
        chunks = torch.split(torch.arange(len(users), device=users.device), max(1, CHUNK // self.schema.n_items))
        wanted = items.expand(len(users), -1)
        return torch.cat([self._all_scores(users[at]).gather(1, wanted[at]) for at in chunks or [users]])

    def _all_scores(self, users: Tensor) -> Tensor:
        found = [member.scores(users).float() for member in self.parts()]
        if self.combine == "zscore":  # which an exported graph can do, since it needs nothing of a user
            return mean_standard(found)
        return together(found, Csr(self.indptr, self.indices).take(users), self.combine)

    def fold_in(self, history: Csr) -> Tensor:
        return together([member.fold_in(history).float() for member in self.parts()], history, self.combine)


def together(scores: list[Tensor], seen: Csr, combine: str) -> Tensor:
    """Scores ``[B, n_items]`` of several models as one, see :class:`RankingEnsemble`.

    Args:
        scores: of each model, ``[B, n_items]``.
        seen: the items that each of the ``B`` users has.
    """
    if combine == "rank":
        votes = torch.stack([orders(z) / (RRF + ranks(z, seen)) for z in scores]).sum(0)
        return torch.where(votes > 0, votes, 1.0).log()
    if combine == "zscore":
        return mean_standard(scores)
    standard = [standardised(z) for z in scores]
    weight = shares(torch.stack([sharpness(z, seen) for z in standard]))  # [M, B]
    return (weight.unsqueeze(-1) * torch.stack(standard)).sum(0)


def mean_standard(scores: list[Tensor]) -> Tensor:
    """The mean of the standardised scores of several models, of those that order a row."""
    weight = shares(torch.stack([orders(z) for z in scores]))
    return (weight * torch.stack([standardised(z) for z in scores])).sum(0)


def orders(z: Tensor) -> Tensor:
    """``[B, 1]``: 0 for rows of which all is alike, 1 for others."""
    return (z.amax(-1, keepdim=True) > z.amin(-1, keepdim=True)).to(z.dtype)


def standardised(z: Tensor) -> Tensor:
    """Each row with mean 0 and variance 1; zeros where all of it is alike."""
    centred = z - z.mean(-1, keepdim=True)
    sd = centred.square().mean(-1, keepdim=True).sqrt()
    return torch.where(sd > 0, centred / sd.clamp(min=1e-30), 0.0)


def ranks(z: Tensor, seen: Csr) -> Tensor:
    """Ranks from 1 by row, seen items last, of equals the mean of theirs; float ``[B, n_items]``."""
    z = unseen(z, seen)
    ascending = z.sort(dim=-1).values
    below, upto = (torch.searchsorted(ascending, z, right=right) for right in (False, True))
    return (z.shape[1] - (below + upto - 1) / 2).to(z.dtype)


def unseen(z: Tensor, seen: Csr) -> Tensor:
    """The scores, -inf for what a user has."""
    row, item = seen.rows(torch.arange(len(z), device=z.device))
    return z.index_put((row, item), z.new_tensor(-torch.inf))


def sharpness(z: Tensor, seen: Csr) -> Tensor:
    """1 − H(p) / log n, ``[B]``, of the softmax p of the n best unseen scores."""
    top = unseen(z, seen).topk(min(LIST, z.shape[1])).values
    # Where a user has nearly all items, the list is shorter.
    return certainty(top.masked_fill(top == -torch.inf, -1e9))


def certainty(z: Tensor) -> Tensor:
    """1 − H(softmax z) / log C over the last dimension, from 0 to 1."""
    log_p = z.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    return (1 - entropy / math.log(max(2, z.shape[-1]))).clamp(0, 1)


def shares(raw: Tensor) -> Tensor:
    """Weights over the first dimension that sum to 1, in proportion to ``raw``; equal where nothing is above 0."""
    total = raw.sum(0, keepdim=True)
    return torch.where(total > 0, raw / total.clamp(min=1e-30), 1 / len(raw))


class SequenceEnsemble(Ensemble, SequenceModel):
    """Sequence models that score together: the mean of their scores, each standardised over the catalogue.

    With vectors q of a history and v_i of the items, mean v̄ and covariance C of the latter, the standardised score is a
    dot product again, (q / √(qᵀCq)) · (v_i − v̄): so the ensemble is a sequence model whose vectors are those of its
    members, one behind the other.

    - ``zscore``: the members count alike.
    - ``confidence``: by history, as in :class:`RankingEnsemble`; the list is that of all items.

    Args:
        schema: sizes of the data.
        members: see :class:`Ensemble`; sequence models.
        combine: see above.
    """

    def __init__(self, schema: Schema, members: Members, combine: Literal["zscore", "confidence"] = "zscore"):
        super().__init__(schema, members)
        self.combine = combine

    def query(self, history: Tensor) -> Tensor:
        parts, sharp = [], []
        for member in self.parts():
            q, centred = member.query(history).float(), centred_items(member)
            covariance = centred.T @ centred / len(centred)
            sd = (q @ covariance * q).sum(1, keepdim=True).clamp(min=0).sqrt()
            parts.append(torch.where(sd > 0, q / sd.clamp(min=1e-30), 0.0))
            if self.combine == "confidence":
                sharp.append(certainty((parts[-1] @ centred.T).topk(min(LIST, len(centred))).values))
        weight = shares(torch.stack(sharp)) if sharp else torch.full((len(parts), 1), 1 / len(parts)).to(parts[0])
        return torch.cat([w.unsqueeze(-1) * part for w, part in zip(weight, parts, strict=True)], 1)

    def item_matrix(self) -> Tensor:
        return torch.cat([centred_items(member) for member in self.parts()], 1)


def centred_items(model: SequenceModel) -> Tensor:
    """The items' vectors without their mean, float32 ``[n_items, d]``."""
    items = model.item_matrix().float()
    return items - items.mean(0)


class TableEnsemble(Ensemble, TableModel):
    """Models of clicks or classes that answer together:

    - ``logit``: the mean of the logits.
    - ``probability``: the logits of the mean probability.
    - ``confidence``: the logits weighted by row: w_m ∝ 1 − H(p_m) / log C.

    Args:
        schema: sizes of the data.
        members: see :class:`Ensemble`; models of rows.
        combine: see above.
    """

    tasks = ("ctr", "classification")

    def __init__(
        self, schema: Schema, members: Members, combine: Literal["logit", "probability", "confidence"] = "logit"
    ):
        super().__init__(schema, members)
        self.combine = combine

    def forward(self, rows: Rows) -> Tensor:
        z = torch.stack([member(rows).float() for member in self.parts()])  # [M, B] or [M, B, C]
        if self.combine == "logit":
            return z.mean(0)
        if self.combine == "confidence":
            classes = torch.stack([torch.zeros_like(z), z], -1) if z.dim() == 2 else z
            weight = shares(certainty(classes))
            return ((weight if z.dim() == 2 else weight.unsqueeze(-1)) * z).sum(0)
        if z.dim() == 3:
            return z.log_softmax(-1).logsumexp(0) - math.log(len(z))
        yes, no = (nn.functional.logsigmoid(sign * z).logsumexp(0) for sign in (1, -1))
        return yes - no


class RatingEnsemble(Ensemble, TableModel):
    """The mean of several models of a number.

    Args:
        schema: sizes of the data.
        members: see :class:`Ensemble`; models of ratings.
    """

    tasks = ("rating",)

    def forward(self, rows: Rows) -> Tensor:
        return torch.stack([member(rows).float() for member in self.parts()]).mean(0)
