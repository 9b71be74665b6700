"""Hashes of prepared data: of each part, of the ids, of the features, and of all together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from torch import Tensor

from recdistill.data.features import Features
from recdistill.data.graph import KnowledgeGraph
from recdistill.data.interactions import Examples, Interactions
from recdistill.data.sources.base import hash_arguments

Array = np.ndarray[Any, Any]
_COUNTED = ("filters", "split", "parts", "catalogue", "cold_items", "cold_users", "features", "graph")


def fingerprint_of(manifest: dict[str, Any]) -> str:
    """Hash of content and config. A BOM or another order of rows in the source changes nothing."""
    return hash_arguments(**{key: manifest[key] for key in _COUNTED if manifest.get(key)})


def hash_part(part: Interactions | Examples) -> str:
    """Hex digest of the encoded events of a part."""
    if isinstance(part, Examples):
        return _hash("table", part.features, (part.label, part.time, part.group))
    sizes = f"{part.n_users} {part.n_items} {part.n_cold_users}"
    return _hash(sizes, part.context, (part.user, part.item, part.value, part.time))


def hash_ids(*ids: Array) -> str:
    """Hex digest of lists of original ids."""
    digest = hashlib.blake2b(digest_size=16)
    for part in ids:
        _add_texts(digest, part)
    return digest.hexdigest()


def _add_texts(digest: hashlib.blake2b, texts: Array) -> None:
    """Adds texts: how many and how long they are, then all of them in a row."""
    series = pl.Series(texts, dtype=pl.String)
    digest.update(f"{len(series)};".encode())
    digest.update(series.str.len_bytes().to_numpy().data)
    digest.update((series.str.join().item() or "").encode())


def hash_features(features: Features) -> str:
    """Hex digest of encoded features and their vocabularies."""
    return _hash("features", features, ())


def hash_graph(graph: KnowledgeGraph) -> str:
    """Hex digest of numbered triples."""
    sizes = f"{graph.n_items} {graph.n_entities} {graph.n_relations}"
    return _hash(f"graph {sizes}", Features(), (graph.head, graph.relation, graph.tail))


def _hash(head: str, features: Features, columns: tuple[Tensor | None, ...]) -> str:
    digest = hashlib.blake2b(head.encode(), digest_size=16)
    for column in columns:
        digest.update(b"-" if column is None else np.ascontiguousarray(column.numpy()).data)
        digest.update(b";")
    for name, content in _columns(features):
        digest.update(f"{name};".encode())
        if content.dtype == object:
            _add_texts(digest, content)
        else:
            digest.update(content.data)
    return digest.hexdigest()


def _columns(features: Features) -> Iterator[tuple[str, Array]]:
    for kind, tensors in (
        ("categorical", features.categorical),
        ("numeric", features.numeric),
        ("vector", features.vector),
    ):
        for name, tensor in sorted(tensors.items()):
            yield f"{kind} {name}", np.ascontiguousarray(tensor.numpy())
    for name, sets in sorted(features.multi.items()):
        yield f"multi {name}", np.ascontiguousarray(sets.indptr.numpy())
        yield f"multi {name}", np.ascontiguousarray(sets.indices.numpy())
    for kind, texts in (("text", features.text), ("vocabulary", features.vocabularies)):
        for name, words in sorted(texts.items()):
            yield f"{kind} {name}", words
