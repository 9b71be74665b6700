"""The bundle: weights, and what turns ids into rows and back, without anything that has to be unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recdistill.data.features import Features
from recdistill.data.interactions import Dataset
from recdistill.export.base import Format, Subject
from recdistill.export.bundle import save_model
from recdistill.export.names import HISTORIES, INFO, ITEMS, NUMBERS, USERS, WEIGHTS, WORDS
from recdistill.export.packing import Codec
from recdistill.runs.atomic import atomic_path, write_json


class Bundle(Format):
    """``model.safetensors`` and ``model.json``; of users and items ``users.parquet`` and ``items.parquet``, a row for
    each in the order of the model's; of a table ``vocabularies.parquet`` and ``numbers.json``.

    Args:
        histories: whether ``histories.parquet`` is written, what each user had by the end of validation, the oldest
            first where the order counts: what a service needs to leave out what a user has, and who reads it knows.
    """

    def __init__(self, histories: bool = True):
        self.histories = histories

    def write(self, subject: Subject, folder: Path) -> list[dict[str, Any]]:
        codecs = {name: Codec(**stored) for name, stored in subject.codecs.items()}
        data = subject.data
        save_model(folder, subject.model, subject.net, codecs=codecs, data=data.fingerprint, labels=subject.labels)
        if isinstance(data, Dataset):
            n_items = data.train.n_items
            titles = {} if data.titles is None else {"title": data.titles[:n_items]}
            write_frame(folder / USERS, {"user": data.users[: data.train.n_users]})
            write_frame(folder / ITEMS, {"item": data.items[:n_items], **titles})
            if self.histories and subject.history is not None:
                user, item = (rows.numpy() for rows in subject.history)
                read = {} if subject.read is None else {"read": subject.read.numpy()}
                write_frame(folder / HISTORIES, {"user": user, "item": item, **read})
        else:
            write_words(folder, data.train.features)
        files = (WEIGHTS, INFO, USERS, ITEMS, HISTORIES, WORDS, NUMBERS)
        return [{"file": name, "bytes": (folder / name).stat().st_size} for name in files if (folder / name).is_file()]


def write_words(folder: Path, features: Features) -> None:
    """The value of each code of each column, and mean and deviation of each number."""
    names = sorted(features.vocabularies)
    words = [features.vocabularies[name] for name in names]
    sizes = [len(values) for values in words]
    write_frame(folder / WORDS, {
        "feature": np.repeat(np.array(names, dtype=object), sizes),
        "code": np.concatenate([np.arange(size) for size in sizes] or [np.zeros(0, np.int64)]),
        "value": np.concatenate([*words, np.zeros(0, dtype=object)]),
    })  # fmt: skip
    write_json(folder / NUMBERS, {name: list(features.moments[name]) for name in sorted(features.moments)})


def write_frame(file: Path, columns: dict[str, Any]) -> None:
    """Columns as Parquet; ids stay the strings that they are."""
    import polars as pl

    typed = {name: pl.Series(name, part, dtype=pl.String) if part.dtype == object else pl.Series(name, part)
             for name, part in columns.items()}  # fmt: skip
    with atomic_path(file) as temporary:
        pl.DataFrame(typed).write_parquet(temporary)
