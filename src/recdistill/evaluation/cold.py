"""Cold items: how a model that knows items by their content ranks those that training lacks.

Users are those with a relevant cold item, and these items alone are looked for: once among the cold items, which tells
one of them from another, and once among all items, where those of the catalogue take places, as when a model serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.interactions import Dataset
from recdistill.evaluation.ranking import evaluable, rank_all
from recdistill.evaluation.significance import bootstrap_mean
from recdistill.evaluation.topk import Scorer

FAMILIES = ("ndcg", "recall")

PerUser = dict[str, Tensor]


def cold_items(data: Dataset, part: str) -> Tensor:
    """Rows in the data set of the items of "valid" or "test" that training lacks, int64 ``[C]``, ascending."""
    item: Tensor = getattr(data, part).item
    cold: Tensor = torch.unique(item[item >= data.train.n_items])
    return cold


@dataclass(frozen=True)
class Field:
    """The items that compete, numbered from 0.

    Attributes:
        start: number of the first of them among the catalogue and, behind it, :func:`cold_items`.
        n_items: how many there are.
        relevant: the cold items of each user.
        seen: what is masked.
    """

    start: int
    n_items: int
    relevant: Csr
    seen: Csr

    @property
    def users(self) -> Tensor:
        return evaluable(self.relevant)

    def ks(self, ks: Sequence[int]) -> list[int]:
        """The list lengths that are no longer than the field."""
        return [k for k in ks if k <= self.n_items] or [self.n_items]


def fields(data: Dataset, part: str) -> dict[str, Field]:
    """Among whom the cold items of a part are ranked: ``cold``, each other, and ``all``, the catalogue too."""
    items, n_items = cold_items(data, part), data.train.n_items
    cold = torch.full((len(data.items),), -1)
    cold[items] = torch.arange(len(items))
    behind = torch.where(cold >= 0, cold + n_items, cold)
    every = torch.cat([torch.arange(n_items), behind[n_items:]])
    relevant, seen = getattr(data, part).csr, data.seen(part)
    return {
        "cold": Field(n_items, len(items), _renumbered(relevant, cold), _renumbered(seen, cold)),
        "all": Field(0, n_items + len(items), _renumbered(relevant, behind), _renumbered(seen, every)),
    }


def rank_cold(
    score: Scorer, among: Mapping[str, Field], ks: Sequence[int], *, name: str = "model"
) -> dict[str, PerUser]:
    """Metrics of the users with a relevant cold item, in each field.

    Args:
        score: users int64 ``[B]`` to scores ``[B, n_items + C]``: of the catalogue, then of :func:`cold_items`.
        among: see :func:`fields`.
        ks: list lengths; those longer than a field are left out there.
        name: of the model, for errors.

    Returns:
        Field to metric name to float64 ``[U]``; the users are the same in each.

    Raises:
        InputError: a score is NaN.
    """
    return {
        field: rank_all(
            _from(score, own.start), users=own.users, relevant=own.relevant, seen=own.seen, n_items=own.n_items,
            ks=own.ks(ks), name=name,
        ).per_user
        for field, own in among.items()
    }  # fmt: skip


def _from(score: Scorer, start: int) -> Scorer:
    return lambda users: score(users)[:, start:]


def by_chance(among: Mapping[str, Field], ks: Sequence[int]) -> dict[str, dict[str, float]]:
    """What a random order comes to on average over orders and users, in closed form.

    A place in a list of N items holds one of n relevant ones with probability n / N: so recall@k is min(k, N) / N, and
    ndcg@k is (n / N) Σ_{i ≤ min(k, N)} 1 / log₂(i + 1) over that of min(k, n) places.
    """
    return {field: _chance(own, own.ks(ks)) for field, own in among.items()}


def _chance(field: Field, ks: Sequence[int]) -> dict[str, float]:
    n = field.relevant.counts()[field.users]
    left = (field.n_items - field.seen.counts()[field.users]).clamp(min=1)
    gain = (1 / torch.arange(2, max(ks) + 2, dtype=torch.float64).log2()).cumsum(0)
    found = {}
    for k in ks:
        places = left.clamp(max=k)
        found[f"ndcg@{k}"] = float((n / left.double() * gain[places - 1] / gain[n.clamp(max=k) - 1]).mean())
        found[f"recall@{k}"] = float((places / left.double()).mean())
    return found


def summary(found: Mapping[str, PerUser] | None, among: Mapping[str, Field], ks: Sequence[int]) -> dict[str, Any]:
    """What is reported: how many items, users and pairs, ``metrics`` by field, ``ci`` (95 %, bootstrap over users) of
    each NDCG, and ``random``, see :func:`by_chance`.

    Args:
        found: of :func:`rank_cold`; None for a model that can't score cold items, whose metrics are None.
        among, ks: as there.
    """
    cold = among["cold"]
    return {
        "items": cold.n_items, "users": len(cold.users), "pairs": int(cold.relevant.indices.numel()),
        "metrics": found and {field: _means(values) for field, values in found.items()},
        "ci": found and {field: _intervals(values) for field, values in found.items()},
        "random": by_chance(among, ks),
    }  # fmt: skip


def _means(values: PerUser) -> dict[str, float]:
    return {name: float(own.mean()) for name, own in values.items() if name.partition("@")[0] in FAMILIES}


def _intervals(values: PerUser) -> dict[str, list[float]]:
    named = {name: own for name, own in values.items() if name.startswith(FAMILIES[0])}
    return {name: list(bootstrap_mean(own)[1:]) for name, own in named.items()}


def _renumbered(sets: Csr, number: Tensor) -> Csr:
    """The sets by other numbers; without the items whose number is -1."""
    n_users = len(sets.indptr) - 1
    user, item = sets.rows(torch.arange(n_users))
    item = number[item]
    return Csr.from_pairs(user[item >= 0], item[item >= 0], n_users)
