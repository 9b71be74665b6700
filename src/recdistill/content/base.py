"""Vectors of items as a feature of the data: computed once, by something large, or read from a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from safetensors.torch import load_file, save_file
from torch import Tensor

from recdistill.content.spaces import narrowed, whitened
from recdistill.data.features import Features
from recdistill.data.hashing import fingerprint_of, hash_features
from recdistill.data.interactions import Dataset, TableDataset
from recdistill.errors import InputError
from recdistill.runs.atomic import atomic_path
from recdistill.runs.store import Store

VECTORS = "vectors.safetensors"


class ContentEncoder(ABC):
    """Makes a vector of each item, those that training lacks included, from what it is made of.

    Args:
        dim: length that the vectors are cut to; None for all.
        whiten: see :func:`recdistill.content.spaces.whitened`; without, they are cut as by
            :func:`~recdistill.content.spaces.narrowed`.
    """

    def __init__(self, dim: Annotated[int, Ge(1)] | None = None, whiten: bool = False):
        self.dim, self.whiten = dim, whiten

    @abstractmethod
    def content(self, key: str) -> Any:
        """Hashes, plain, of the files that its arguments name."""

    @abstractmethod
    def depends_on(self, data: Dataset, key: str) -> dict[str, Any]:
        """All that the vectors depend on, plain, for their place in the cache: not where the data come from."""

    @abstractmethod
    def compute(self, data: Dataset, folder: Path, key: str) -> Tensor:
        """Float32 ``[n_items + n_cold, d]``, a row of NaN where there is nothing to make a vector of.

        Args:
            data: whose items.
            folder: to keep what is done so far, for when this is cut off.
            key: config key, for messages.

        Raises:
            InputError: it can't be done.
        """

    def fitted(self, vectors: Tensor, n_items: int) -> Tensor:
        """The vectors as models get them; projections are fitted to the catalogue."""
        catalogue = torch.arange(len(vectors)) < n_items
        if self.whiten:
            return whitened(vectors, catalogue, self.dim)
        if self.dim is None or self.dim >= vectors.shape[1]:
            return vectors
        known = vectors.isfinite().all(1)
        cut = vectors.new_full((len(vectors), self.dim), float("nan"))
        cut[known] = narrowed(vectors[known], self.dim)[0]
        return cut


def contents(encoders: Mapping[str, ContentEncoder]) -> dict[str, Any]:
    """What the encoders' files hold, which their paths alone do not tell."""
    return {name: encoder.content(f"data.encode.{name}") for name, encoder in encoders.items()}


def with_vectors(
    data: Dataset | TableDataset, encoders: Mapping[str, ContentEncoder], cache: Path
) -> Dataset | TableDataset:
    """The data with a vector feature of items for each encoder, by its name.

    The vectors enter the fingerprint, and the report says how many items have one.

    Args:
        cache: folder in which vectors are looked up, and kept.

    Raises:
        InputError: the data have no items, a feature of this name, or nothing that an encoder could use.
    """
    for name, encoder in encoders.items():
        key = f"data.encode.{name}"
        if not isinstance(data, Dataset):
            raise InputError("rows of a table have no items to encode", where=key, fix="encode=none, or a log of pairs")
        if name in data.item_features.vector:
            raise InputError(f"the items have a feature '{name}' already", where=key, fix="another name")
        vectors = encoder.fitted(stored(encoder, data, key, cache), data.train.n_items)
        data = _attached(data, name, vectors, key)
    return data


def stored(encoder: ContentEncoder, data: Dataset, key: str, cache: Path) -> Tensor:
    """The encoder's vectors for these data, from the cache where they are there."""

    def make(folder: Path) -> None:
        vectors = encoder.compute(data, folder, key)
        with atomic_path(folder / VECTORS) as temporary:
            save_file({"vectors": vectors.contiguous()}, temporary)

    depends_on = {"format": 1, **encoder.depends_on(data, key)}
    folder = Store(cache).obtain("encode", depends_on, make, key.removeprefix("data."))
    vectors: Tensor = load_file(folder / VECTORS)["vectors"]
    return vectors


def _attached(data: Dataset, name: str, vectors: Tensor, key: str) -> Dataset:
    n_items = data.train.n_items
    known = vectors.isfinite().all(1)
    if not known[:n_items].any():
        raise InputError("no item of the catalogue has a vector", where=key, fix="another template, or another file")
    features: Features = replace(data.item_features, vector={**data.item_features.vector, name: vectors})
    manifest = {**data.manifest, "features": {**data.manifest["features"], "item": hash_features(features)}}
    report = {**data.report, "encoded": {**data.report.get("encoded", {}), name: {
        "length": vectors.shape[1], "items": int(known[:n_items].sum()), "cold items": int(known[n_items:].sum()),
    }}}  # fmt: skip
    if lacking := int((~known).sum()):
        warning = f"{lacking:,} of {len(known):,} items have nothing that '{name}' could be made of: their vector is 0"
        report["warnings"] = [*report["warnings"], warning]
    return replace(
        data, train=replace(data.train, item_features=features), item_features=features, manifest=manifest,
        report=report, fingerprint=fingerprint_of(manifest),
    )  # fmt: skip
