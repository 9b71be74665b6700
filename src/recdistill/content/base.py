"""Vectors of items as a feature of the data: computed once, by something large, or read from a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge
from safetensors.torch import load_file, save_file
from torch import Tensor

from recdistill.content.rows import NewRows
from recdistill.content.spaces import Space, narrowing, whitening
from recdistill.data.features import Features
from recdistill.data.hashing import fingerprint_of, hash_features, hash_ids
from recdistill.data.interactions import Dataset, TableDataset
from recdistill.errors import InputError
from recdistill.runs.atomic import atomic_path
from recdistill.runs.store import Store

VECTORS, SPACE = "vectors.safetensors", "space.safetensors"


class ContentEncoder(ABC):
    """Makes a vector of each item, those that training lacks included, from what it is made of.

    Args:
        dim: length that the vectors are cut to; None for all.
        whiten: see :func:`recdistill.content.spaces.whitening`; without, they are cut as by
            :func:`~recdistill.content.spaces.narrowing`.
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

    @abstractmethod
    def of_new(self, rows: NewRows, key: str) -> Tensor:
        """Float32 ``[n, d]`` of items that the data lack, as :meth:`compute` makes them; NaN where nothing is told.

        Raises:
            InputError: it can't be done.
        """

    def columns(self) -> list[str]:
        """What of an item that the data lack must be told, for :meth:`of_new`."""
        return []

    def space(self, vectors: Tensor) -> Space | None:
        """From the vectors of the catalogue to those that models get, fitted to the former; None where these are the
        same."""
        known = vectors[vectors.isfinite().all(1)]
        if self.whiten:
            return whitening(known, self.dim)
        return None if self.dim is None or self.dim >= vectors.shape[1] else narrowing(known, self.dim)


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
        vectors, space = stored(encoder, data, key, cache), stored_space(encoder, data, key, cache)
        data = _attached(data, name, space.of(vectors) if space else vectors, key)
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


def stored_space(encoder: ContentEncoder, data: Dataset, key: str, cache: Path) -> Space | None:
    """What was fitted to the vectors of these data's catalogue, from the cache where it is there; items that come later
    go through it unchanged."""
    n_items = data.train.n_items

    def make(folder: Path) -> None:
        space = encoder.space(stored(encoder, data, key, cache)[:n_items])
        with atomic_path(folder / SPACE) as temporary:
            save_file({name: of.contiguous() for name, of in vars(space).items()} if space else {}, temporary)

    depends_on = {"catalogue": hash_ids(data.items[:n_items]), "dim": encoder.dim, "whiten": encoder.whiten,
                  **encoder.depends_on(data, key)}  # fmt: skip
    found = load_file(Store(cache).obtain("space", depends_on, make, f"{key.removeprefix('data.')} space") / SPACE)
    return Space(**found) if found else None


def _attached(data: Dataset, name: str, vectors: Tensor, key: str) -> Dataset:
    n_items = data.train.n_items
    known = vectors.isfinite().all(1)
    if not known[:n_items].any():
        raise InputError("no item of the catalogue has a vector", where=key, fix="another template, or another file")
    if not vectors[known].any():
        raise InputError(f"all vectors of '{name}' are 0", where=key, why="they tell no item from another",
                         fix="another encoder, or another file")  # fmt: skip
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
