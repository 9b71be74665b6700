"""From feature columns to tensors, in the vocabularies of the training rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.features import UNKNOWN, Features, Strings
from recdistill.data.sources.base import Kind


def encode(frame: pl.DataFrame, kinds: Mapping[str, Kind], fitted: Strings) -> Features:
    """The features of a frame.

    Args:
        frame: one column a feature, of the dtype of its kind.
        kinds: the features to encode; other columns are passed over.
        fitted: bool ``[N]``, the rows that vocabularies, means and deviations are taken from: those of training.
    """
    features = Features()
    for name, kind in kinds.items():
        column = frame[name]
        if kind == "categorical":
            words = _vocabulary(column.filter(pl.Series(fitted)))
            features.vocabularies[name], features.categorical[name] = words, _codes(column, words)
        elif kind == "numeric":
            known = column.filter(pl.Series(fitted)).drop_nulls()
            features.moments[name] = (float(known.mean() or 0), float(known.std(ddof=0) or 0))  # type: ignore[arg-type]
            features.numeric[name] = torch.from_numpy(column.cast(pl.Float32).fill_null(float("nan")).to_numpy().copy())
        elif kind == "multi":
            words = _vocabulary(column.filter(pl.Series(fitted)).explode())
            features.vocabularies[name], features.multi[name] = words, _sets(column, words)
        elif kind == "text":
            features.text[name] = column.fill_null("").to_numpy()
        else:
            features.vector[name] = _vectors(column)
    return features


def _vocabulary(known: pl.Series) -> Strings:
    values = known.drop_nulls().unique().sort().to_numpy()
    return np.concatenate([np.array([""], dtype=object), values[values != ""]])


def _codes(column: pl.Series, words: Strings) -> Tensor:
    known = pl.Series(words[1:], dtype=pl.String)
    codes = column.cast(pl.String).replace_strict(
        known, pl.int_range(1, len(words), eager=True), default=UNKNOWN, return_dtype=pl.Int64
    )
    return torch.from_numpy(codes.to_numpy().copy())


def _sets(column: pl.Series, words: Strings) -> Csr:
    pairs = pl.DataFrame({"row": pl.int_range(len(column), eager=True), "value": column}).explode("value")
    codes = _codes(pairs["value"], words)
    known = codes != UNKNOWN
    return Csr.from_pairs(torch.from_numpy(pairs["row"].to_numpy().copy())[known], codes[known], len(column))


def _vectors(column: pl.Series) -> Tensor:
    width = column.dtype.shape[0]  # type: ignore[attr-defined]
    flat = column.arr.explode(empty_as_null=True).cast(pl.Float32) if column.null_count() == 0 else None
    if flat is not None:
        return torch.from_numpy(flat.to_numpy().reshape(len(column), width).copy())
    out = torch.full((len(column), width), float("nan"))
    there = column.is_not_null()
    out[torch.from_numpy(there.to_numpy())] = _vectors(column.filter(there))
    return out
