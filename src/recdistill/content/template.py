"""A text for each item, from what the data say of it."""

from __future__ import annotations

import string
from collections.abc import Iterator

import numpy as np
import polars as pl
import torch

from recdistill.config.suggest import nearest
from recdistill.data.csr import Csr
from recdistill.data.features import Strings
from recdistill.data.interactions import Dataset
from recdistill.errors import InputError

TITLE = "title"
TRAIN = "train."  # of events of the training part, such as train.summary


def item_texts(template: str, data: Dataset, key: str) -> pl.Series:
    """The template filled in for each item, String ``[n_items + n_cold]``; "" where nothing is known of one.

    Args:
        template: text with names in braces: ``title``; a text, categorical or multi feature of items; or ``train.``
            and a text of events, such as a review: those of the item's events in the training part, newest first. The
            other parts are never looked into.
        data: whose items; of its parts, the training part alone is read.
        key: config key of the template, for messages.

    Raises:
        InputError: the template is damaged, holds no name, or one that the data don't have.
    """
    return filled(template, {name: _column(name, data, key) for name in names_of(template, key)}, key)


def names_of(template: str, key: str) -> list[str]:
    """The names in a template.

    Raises:
        InputError: it is damaged, or holds none.
    """
    names = [name for _, name in _parse(template, key) if name]
    if not names:
        raise InputError(f"the template {template!r} holds no name", where=key,
                         why="all items would have the same text", fix=f"{key}='{{{TITLE}}}'")  # fmt: skip
    return names


def filled(template: str, columns: dict[str, pl.Series], key: str) -> pl.Series:
    """The template filled in for each row of some columns, String; "" where all of a row are empty."""
    parts, frame = list(_parse(template, key)), pl.DataFrame(columns)
    pieces = [
        piece for text, name in parts for piece in ([pl.lit(text)] if text else []) + ([pl.col(name)] if name else [])
    ]
    made = frame.select(text=pl.concat_str(pieces), known=pl.any_horizontal(pl.col(pl.String) != ""))
    text = made["text"].str.replace_all(r"\s+", " ").str.strip_chars()
    return text.set(~made["known"], "")


def _parse(template: str, key: str) -> Iterator[tuple[str, str]]:
    """Text, and the name that follows it, "" at the end."""
    try:
        for text, name, form, conversion in string.Formatter().parse(template):
            if form or conversion or name == "":
                raise ValueError(f"'{name}' has a format" if name else "braces without a name")
            yield text, name or ""
    except ValueError as error:
        raise InputError(f"{template!r} is no template", where=key, why=str(error),
                         fix="names in braces, as in '{title}. {description}'") from error  # fmt: skip


def _column(name: str, data: Dataset, key: str) -> pl.Series:
    features = data.item_features
    if name == TITLE and data.titles is not None:
        # An item without a title is called by its id, which says nothing.
        return pl.Series(np.where(data.titles == data.items, "", data.titles), dtype=pl.String)
    if name in features.text:
        return pl.Series(features.text[name], dtype=pl.String)
    if name in features.categorical:
        return pl.Series(features.vocabularies[name][features.categorical[name].numpy()], dtype=pl.String)
    if name in features.multi:
        return _joined(features.multi[name], features.vocabularies[name])
    if name.startswith(TRAIN) and name.removeprefix(TRAIN) in data.train.context.text:
        return _of_events(name.removeprefix(TRAIN), data)
    known = [*([TITLE] if data.titles is not None else []), *features.text, *features.categorical, *features.multi,
             *(TRAIN + text for text in data.train.context.text)]  # fmt: skip
    near = nearest(name, known, 1)
    raise InputError(
        f"the items have no text '{name}'", where=key,
        why=f"they have: {', '.join(known)}" if known else "these data hold no texts of items",
        fix=fitting(name, near, known, key),
    )  # fmt: skip


def fitting(name: str, near: list[str], known: list[str], key: str) -> str:
    """What mends a name that the data don't have."""
    if near or known:
        return f"{key}='{{{(near or known)[0]}}}'"
    if name.startswith(TRAIN):
        return "data with texts of events, such as data=amazon_reviews"
    return "data.titles=FILE with the columns item and title, or a text in data.features.item"


def _joined(sets: Csr, words: Strings) -> pl.Series:
    """The members of each set, with commas between them."""
    rows, members = sets.rows(torch.arange(len(sets.indptr) - 1))
    return _gathered(rows.numpy(), pl.Series(words[members.numpy()], dtype=pl.String), len(sets.indptr) - 1, ", ")


def _of_events(name: str, data: Dataset) -> pl.Series:
    """The texts of each item's training events, newest first."""
    train = data.train
    order = torch.arange(len(train)) if train.time is None else torch.argsort(train.time, descending=True, stable=True)
    texts = pl.Series(train.context.text[name][order.numpy()], dtype=pl.String)
    return _gathered(train.item[order].numpy(), texts, len(data.items), " ")


def _gathered(rows: np.ndarray, texts: pl.Series, n: int, separator: str) -> pl.Series:
    """The texts of each row below n in their order; "" of a row that has none."""
    frame = pl.DataFrame({"row": rows.astype(np.int64), "text": texts}).filter(pl.col("text") != "")
    joined = frame.group_by("row", maintain_order=True).agg(pl.col("text").str.join(separator))
    whole = pl.DataFrame({"row": np.arange(n, dtype=np.int64)})
    return whole.join(joined, on="row", how="left", maintain_order="left")["text"].fill_null("")
