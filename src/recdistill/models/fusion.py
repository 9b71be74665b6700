"""Vectors of items from an id table and from what is known of the items: their texts, pictures, sounds, categories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn

from recdistill.config.suggest import nearest
from recdistill.data.features import Features, Sizes
from recdistill.errors import InputError
from recdistill.models.kept import Kept
from recdistill.models.tables.base import Table
from recdistill.models.two_tower import Tower

Fusion = Literal["ids", "features", "add", "concat", "gate", "attention"]


class ItemFusion(nn.Module):
    """A vector v_i for each item, from that of its id e_i and those of its features T(x_i).

    T is a linear map of each feature, summed over them, then x + W₂ relu(W₁ x + b₁) + b₂ where there is an adapter.

    ==============  ==================================================================================================
    ``features``    v = T(x): items are known by their content alone, as in Hou et al., UniSRec, KDD 2022, section 3.1
                    (their mixture of experts is one adapter here; whiten the vectors with ``encode``)
    ``add``         v = e + T(x)
    ``concat``      v = W [e; T(x)]
    ``gate``        v = g ∘ e + (1 - g) ∘ T(x) with g = σ(W [e; T(x)]) (Arevalo et al., Gated multimodal units for
                    information fusion, 2017, without their tanh)
    ``attention``   v = Σ a_k v_k over e and the T_f(x) of each feature f by itself, with
                    a = softmax_k(q · tanh(W v_k + b)) (Yang et al., Hierarchical attention networks, NAACL 2016,
                    eq. 5 to 7)
    ==============  ==================================================================================================

    Vectors are centred and scaled first, see :func:`centred`; what is missing is 0.

    Args:
        sizes: of the items' features.
        dim: length of the vectors.
        fusion: see above; not ``ids``, which needs nothing of this.
        features: names of those to look at; None for all.
        adapter: width of the adapter, 0 for none.
        init_std: standard deviation of the initial tables.

    Raises:
        InputError: there are no such features.
    """

    def __init__(
        self, sizes: Sizes, dim: int, fusion: Fusion, features: Sequence[str] | None, adapter: int, init_std: float
    ):
        super().__init__()
        self.fusion = fusion
        self.tower = Tower(chosen(sizes, features, f"fusion={fusion}"), dim, adapter, init_std)
        self.mix = nn.Linear(2 * dim, dim, bias=False) if fusion in ("concat", "gate") else None
        self.hidden = nn.Linear(dim, dim) if fusion == "attention" else None
        self.query = nn.Parameter(dim**-0.5 * torch.randn(dim)) if fusion == "attention" else None
        self._kept = Kept[Tensor]()
        self._spread: dict[str, tuple[Tensor, Tensor]] = {}

    def attach(self, features: Features, rows: int) -> None:
        """Keep the features of the first ``rows`` items, those of the catalogue; they are not stored with the model."""
        self._spread = {name: spread(vectors[:rows]) for name, vectors in features.vector.items()}
        self.tower.attach(self._even(features), rows)
        self._kept = Kept()

    def new_items(self, features: Features, rows: int) -> Tensor | None:
        """The vectors ``[rows, dim]`` of items that training lacked; None where those of ids have a share in them."""
        return self.tower.of(self._even(features), rows) if self.fusion == "features" else None

    def _even(self, features: Features) -> Features:
        """With vectors that are centred and scaled as those of the catalogue."""
        even = {name: (features.vector[name] - mean) / size for name, (mean, size) in self._spread.items()}
        return replace(features, vector=even)

    def forward(self, ids: nn.Embedding | Table | None) -> Tensor:
        """The vectors ``[rows, dim]``.

        Args:
            ids: table of the e_i; None for ``features``.
        """
        weights = self.parameters() if ids is None else chain(self.parameters(), ids.parameters())
        return self._kept.of(weights, lambda: self.tower(None) if ids is None else self._fused(ids.weight))

    def _fused(self, ids: Tensor) -> Tensor:
        if self.hidden is not None and self.query is not None:
            parts = torch.cat([ids.unsqueeze(0), self._each()])  # [1 + features, rows, dim]
            weight: Tensor = (self.hidden(parts).tanh() @ self.query).softmax(0)
            return (weight.unsqueeze(-1) * parts).sum(0)
        content: Tensor = self.tower(None)
        if self.mix is None:
            return ids + content
        mixed: Tensor = self.mix(torch.cat([ids, content], 1))
        return torch.lerp(content, ids, mixed.sigmoid()) if self.fusion == "gate" else mixed

    def _each(self) -> Tensor:
        """T of each feature by itself, ``[features, rows, dim]``."""
        assert self.tower.features is not None
        x = torch.stack(self.tower.features.parts())
        if self.tower.deep is not None:
            x = x + self.tower.deep(x)
        return x


def fusion_of(
    sizes: Sizes, dim: int, fusion: Fusion, features: Sequence[str] | None, adapter: int, init_std: float
) -> ItemFusion | None:
    """What makes the items' vectors, see :class:`ItemFusion`; None for ``ids``, where a table is all.

    Raises:
        InputError: there are no such features, or some are named for a table that looks at none.
    """
    if fusion != "ids":
        return ItemFusion(sizes, dim, fusion, features, adapter, init_std)
    if features is not None or adapter:
        raise InputError(
            "features of items are named, and not looked at", where="net.fusion", why="fusion=ids is the table alone",
            fix="net.fusion=add, features, concat, gate or attention",
        )  # fmt: skip
    return None


def vectors_of(ids: nn.Embedding | Table | None, fused: ItemFusion | None) -> Tensor:
    """The vectors of all items, ``[n_items, d]``: those of the table, or what the fusion makes of them.

    Args:
        ids: the table, plain or compressed; None where items are known by their features alone.
        fused: None for ``fusion=ids``.
    """
    if fused is not None:
        vectors: Tensor = fused(ids)
        return vectors
    assert ids is not None
    return ids.weight


def chosen(
    sizes: Sizes, names: Sequence[str] | None, who: str, kinds: Sequence[str] | None = None, key: str = "net.features"
) -> Sizes:
    """The sizes of some of the items' features.

    Args:
        sizes: of all of them.
        names: of those that are wanted; None for all.
        who: what wants them, for messages.
        kinds: that may be wanted, such as "vector"; None for all.
        key: config key of the names, for messages.

    Raises:
        InputError: there are none, or none of a name.
    """
    fitting = {kind: of for kind, of in sizes.items() if kinds is None or kind in kinds}
    known = [name for of in fitting.values() for name in of]
    what = "vectors" if kinds else "features"
    if not known:
        others = ", ".join(name for of in sizes.values() for name in of)
        raise InputError(
            f"{who} needs {what} of the items", where=key if kinds else "net.fusion",
            why=f"the items have {others}, and no {what}" if others else f"these data hold no {what} of items",
            fix="encode=minilm, data with features such as data=tiktok, or " + ("another model" if kinds else
            "net.fusion=ids"),
        )  # fmt: skip
    if names is None:
        return fitting
    for name in names:
        if name not in known:
            near = nearest(name, known, 1)
            raise InputError(
                f"the items have no {what} '{name}'", where=key, why=f"they have: {', '.join(known)}",
                fix=f"{near[0]}?" if near else f"{key}=null, for all",
            )  # fmt: skip
    if not names:
        raise InputError(f"{who} is given no {what}", where=key, fix=f"{key}=null, for all")
    picked = {kind: {name: size for name, size in of.items() if name in names} for kind, of in fitting.items()}
    return {kind: of for kind, of in picked.items() if of}


def centred(vectors: Tensor) -> Tensor:
    """(v - μ) / ρ of each vector of ``[n, d]``, with μ the mean and ρ the root mean square length of what is then left:
    vectors of encoders lie in a cone, and are of any size. Rows of NaN stay so, and don't count."""
    mean, size = spread(vectors)
    return (vectors - mean) / size


def spread(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """μ ``[d]`` and ρ, a scalar, see :func:`centred`; 0 and 1 where no vector is known."""
    known = vectors[vectors.isfinite().all(1)]
    if not len(known):
        return vectors.new_zeros(vectors.shape[1]), vectors.new_ones(())
    mean = known.mean(0)
    return mean, (known - mean).square().sum(1).mean().sqrt().clamp(min=torch.finfo(known.dtype).tiny)
