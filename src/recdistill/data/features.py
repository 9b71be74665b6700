"""What is known of users, items and events besides who met what, encoded in the vocabularies of the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from recdistill.data.csr import Csr

Strings = np.ndarray[Any, Any]
Sizes = dict[str, dict[str, int]]
UNKNOWN = 0


@dataclass(frozen=True)
class Features:
    """Encoded features of ``N`` rows: the users, the items, or the events of a part.

    Attributes:
        categorical: name to int64 ``[N]``, a code of its vocabulary; 0 where it is missing, or unknown to the training
            rows.
        numeric: name to float32 ``[N]``, as in the file; NaN where it is missing.
        multi: name to the codes of each row; unknown ones are left out.
        text: name to str ``[N]``; "" where it is missing.
        vector: name to float32 ``[N, d]``; NaN where it is missing.
        vocabularies: name of a categorical or multi feature to the value of each code, str ``[V]``; that of 0 is "".
        moments: name of a numeric feature to its mean and standard deviation over the training rows.
    """

    categorical: dict[str, Tensor] = field(default_factory=dict)
    numeric: dict[str, Tensor] = field(default_factory=dict)
    multi: dict[str, Csr] = field(default_factory=dict)
    text: dict[str, Strings] = field(default_factory=dict)
    vector: dict[str, Tensor] = field(default_factory=dict)
    vocabularies: dict[str, Strings] = field(default_factory=dict)
    moments: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any((self.categorical, self.numeric, self.multi, self.text, self.vector))

    def to_plain(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name such as ``categorical/genre``, and the words and moments as plain containers."""
        tensors = {
            f"{kind}/{name}": tensor.contiguous()
            for kind in ("categorical", "numeric", "vector")
            for name, tensor in getattr(self, kind).items()
        }
        for name, sets in self.multi.items():
            tensors |= {f"multi.indptr/{name}": sets.indptr, f"multi.indices/{name}": sets.indices}
        words = {
            "text": {name: texts.tolist() for name, texts in self.text.items()},
            "vocabularies": {name: words.tolist() for name, words in self.vocabularies.items()},
            "moments": {name: list(moments) for name, moments in self.moments.items()},
        }
        return tensors, {kind: content for kind, content in words.items() if content}

    @classmethod
    def from_plain(cls, tensors: Mapping[str, Tensor], words: Mapping[str, Any]) -> Features:
        """What :meth:`to_plain` took apart; other tensors are passed over."""
        by_kind: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            kind, slash, name = key.partition("/")
            if slash:
                by_kind.setdefault(kind, {})[name] = tensor
        ends, members = by_kind.get("multi.indptr", {}), by_kind.get("multi.indices", {})
        return cls(
            by_kind.get("categorical", {}),
            by_kind.get("numeric", {}),
            {name: Csr(ends[name], members[name]) for name in ends},
            {name: np.array(texts, dtype=object) for name, texts in words.get("text", {}).items()},
            by_kind.get("vector", {}),
            {name: np.array(known, dtype=object) for name, known in words.get("vocabularies", {}).items()},
            {name: (mean, deviation) for name, (mean, deviation) in words.get("moments", {}).items()},
        )


def sizes_of(features: Features) -> Sizes:
    """What a model must know of features before it is built, by kind and name: the number of codes of categorical and
    multi ones, the length of numeric and vector ones. Text has no place in it."""
    words = features.vocabularies
    found = {
        "categorical": {name: len(words[name]) for name in features.categorical},
        "multi": {name: len(words[name]) for name in features.multi},
        "numeric": dict.fromkeys(features.numeric, 1),
        "vector": {name: vectors.shape[1] for name, vectors in features.vector.items()},
    }
    return {kind: sizes for kind, sizes in found.items() if sizes}


def take(features: Features, rows: Tensor) -> Features:
    """The features of some of the rows, int64 ``[M]``, in their order."""
    at = rows.numpy()
    return Features(
        {name: codes[rows] for name, codes in features.categorical.items()},
        {name: numbers[rows] for name, numbers in features.numeric.items()},
        {name: Csr.from_pairs(*sets.rows(rows), rows.numel()) for name, sets in features.multi.items()},
        {name: texts[at] for name, texts in features.text.items()},
        {name: vectors[rows] for name, vectors in features.vector.items()},
        features.vocabularies,
        features.moments,
    )
