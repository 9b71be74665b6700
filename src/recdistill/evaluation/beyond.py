"""Beyond accuracy: what a model's lists do to the catalogue, to popularity and to the variety of a list.

All is computed from the lists as they would be shown: by score, equal scores by ascending item id. How many lists a tie
decides is the tie rate; the coverage alone leaves tied items out (see :mod:`recdistill.evaluation.ranking`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.evaluation.diversity import category_divergence, cooccurrence_diversity, vector_diversity
from recdistill.evaluation.popularity import (
    TAIL,
    history_means,
    list_means,
    popularity_divergence,
    popularity_groups,
    popularity_lift,
    self_information,
)
from recdistill.evaluation.ranking import RankingResult
from recdistill.evaluation.topk import PAD


@dataclass(frozen=True)
class Catalogue:
    """What is known of the items before anything is recommended.

    Attributes:
        train: items of each training user, from which popularity is counted.
        n_items: size of the catalogue.
        history: what each user, those that training lacks included, is known to have.
        categories: those of each item (rows beyond the catalogue are passed over), or None.
        vectors: float ``[>= n_items, d]``, or None: then an item is the set of its training users.
    """

    train: Csr
    n_items: int
    history: Csr
    categories: Csr | None = None
    vectors: Tensor | None = None

    @cached_property
    def counts(self) -> Tensor:
        """int64 ``[I]``: training users of each item."""
        return torch.bincount(self.train.indices, minlength=self.n_items)

    @cached_property
    def groups(self) -> Tensor:
        """int64 ``[I]``: head, mid or tail."""
        return popularity_groups(self.counts)


def exposure(top: Tensor, n_items: int) -> Tensor:
    """How many of the lists int ``[U, k]`` each item is in, int64 ``[I]``."""
    return torch.bincount(top[top != PAD].long(), minlength=n_items)


def gini(counts: Tensor) -> float:
    """Gini coefficient: 0 where all items are shown equally often, (I - 1) / I where one is shown alone.

    ``sum((2 r - I - 1) c_r) / (I sum(c))`` over the counts in ascending order (Adomavicius and Kwon, TKDE 2012);
    NaN where nothing is shown.
    """
    ordered, n = counts.sort().values.double(), len(counts)
    rank = torch.arange(1, n + 1, dtype=torch.float64)
    return float(((2 * rank - n - 1) * ordered).sum() / (n * ordered.sum()))


def entropy(counts: Tensor) -> float:
    """Shannon entropy of the exposure in bits; ``2 **`` it is how many equally shown items would be as varied."""
    share = counts.double() / counts.sum()
    return float(-torch.xlogy(share, share).sum() / torch.log(torch.tensor(2.0, dtype=torch.float64)))


def beyond(result: RankingResult, k: int, catalogue: Catalogue) -> dict[str, float | int | None]:
    """Everything of a model's lists of ``k`` items that isn't accuracy, averaged over the users it is defined for.

    Returns:
        Plain numbers, None where nothing is defined: ``k``; ``coverage``, ``gini``, ``entropy``;
        ``user_coverage`` (users with a recommendation at all) and ``full_lists`` (with ``k``), shares;
        ``novelty``, bits; ``popularity`` (training users of a recommended item, ARP), ``popularity_lift``,
        ``tail_share``, ``tail_share_history``, ``popularity_divergence``; ``diversity`` and ``diversity_users``, over
        how many users; with categories ``category_divergence`` and ``category_users``.
    """
    top, users, counts = result.top[:, :k], result.users, catalogue.counts
    shown, length = exposure(top, catalogue.n_items), (top != PAD).sum(1)
    in_tail = (catalogue.groups == TAIL).double()
    diversity = _diversity(top, catalogue)
    found = {
        "coverage": result.coverage[k],
        "gini": gini(shown),
        "entropy": entropy(shown),
        "user_coverage": _mean((length > 0).double()),
        "full_lists": _mean((length == k).double()),
        "novelty": _mean(list_means(self_information(counts, len(catalogue.train.indptr) - 1), top)),
        "popularity": _mean(list_means(counts, top)),
        "popularity_lift": popularity_lift(counts, top, catalogue.history, users),
        "tail_share": _mean(list_means(in_tail, top)),
        "tail_share_history": _mean(history_means(in_tail, catalogue.history, users)),
        "popularity_divergence": _mean(popularity_divergence(catalogue.groups, top, catalogue.history, users)),
        "diversity": _mean(diversity),
    }
    numbers: dict[str, float | int | None] = {"k": k} | {
        name: value if value == value else None for name, value in found.items()
    }
    numbers["diversity_users"] = int((~diversity.isnan()).sum())
    if catalogue.categories is not None:
        divergence = category_divergence(top, catalogue.history, users, catalogue.categories)
        mean = _mean(divergence)
        numbers["category_divergence"] = mean if mean == mean else None
        numbers["category_users"] = int((~divergence.isnan()).sum())
    return numbers


def _diversity(top: Tensor, catalogue: Catalogue) -> Tensor:
    if catalogue.vectors is None:
        return cooccurrence_diversity(top, catalogue.train, catalogue.counts)
    return vector_diversity(top, catalogue.vectors)


def _mean(values: Tensor) -> float:
    return float(values.nanmean())
