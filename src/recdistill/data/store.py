"""A prepared data set as files: safetensors for the parts, Parquet for the ids, JSON for the account.

Parts lie in a file each, so that a run can be made without the test part at hand.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from recdistill.data.interactions import Dataset, Interactions
from recdistill.data.prepare import hash_part
from recdistill.data.sources.base import PARTS
from recdistill.errors import InputError

FORMAT = 1
_COLUMNS = ("user", "item", "value", "time")


def save(dataset: Dataset, folder: str | Path) -> None:
    """Write a data set into a folder, made if need be. Not atomic: the caller renames it when whole."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        part: Interactions = getattr(dataset, name)
        columns = {column: getattr(part, column) for column in _COLUMNS}
        tensors = {column: tensor.contiguous() for column, tensor in columns.items() if tensor is not None}
        save_file(tensors, folder / f"{name}.safetensors")
    pl.DataFrame({"user": pl.Series(dataset.users, dtype=pl.String)}).write_parquet(folder / "users.parquet")
    items = pl.DataFrame({"item": pl.Series(dataset.items, dtype=pl.String)})
    if dataset.titles is not None:
        items = items.with_columns(pl.Series("title", dataset.titles, dtype=pl.String))
    items.write_parquet(folder / "items.parquet")
    account = {
        "format": FORMAT,
        "n_users": dataset.train.n_users,
        "n_items": dataset.train.n_items,
        "fingerprint": dataset.fingerprint,
        "manifest": dataset.manifest,
        "report": dataset.report,
    }
    text = json.dumps(account, indent=2, ensure_ascii=False) + "\n"
    (folder / "dataset.json").write_text(text, encoding="utf-8")


def load(folder: str | Path, parts: Collection[str] = PARTS) -> Dataset:
    """Read a data set that :func:`save` wrote. Its tensors are memory-mapped.

    Args:
        parts: those to open; the others come empty, and their files need not be there.

    Raises:
        InputError: for a folder that holds no whole data set of this format.
    """
    folder = Path(folder)
    try:
        account = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        if account["format"] != FORMAT:
            raise _unreadable(folder, f"its format is {account['format']}, and {FORMAT} is known")
        sizes = account["n_users"], account["n_items"]
        loaded = {name: _load_part(folder, name, *sizes, opened=name in parts) for name in PARTS}
        users = pl.read_parquet(folder / "users.parquet")["user"].to_numpy()
        items = pl.read_parquet(folder / "items.parquet")
        return Dataset(
            loaded["train"],
            loaded["valid"],
            loaded["test"],
            users,
            items["item"].to_numpy(),
            account["report"],
            account["manifest"],
            account["fingerprint"],
            items["title"].to_numpy() if "title" in items.columns else None,
        )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise _unreadable(folder, f"{type(error).__name__}: {error}") from error


def verify(dataset: Dataset) -> None:
    """Compare each part with its hash in the manifest.

    Raises:
        InputError: for a part that was changed after it was prepared, or that was not loaded.
    """
    for name, expected in dataset.manifest["parts"].items():
        found = hash_part(getattr(dataset, name))
        if found != expected:
            raise InputError(
                f"the {name} part is not the one that was prepared",
                where=dataset.manifest["source"],
                why=f"its hash is {found}, the manifest says {expected}",
                fix="prepare the data again",
            )


def _load_part(folder: Path, name: str, n_users: int, n_items: int, opened: bool) -> Interactions:
    if not opened:
        empty = torch.zeros(0, dtype=torch.int64)
        return Interactions(empty, empty, n_users, n_items)
    with safe_open(folder / f"{name}.safetensors", framework="pt") as file:
        tensors: dict[str, Any] = {column: file.get_tensor(column) for column in file.keys()}  # noqa: SIM118
    return Interactions(tensors["user"], tensors["item"], n_users, n_items, tensors.get("value"), tensors.get("time"))


def _unreadable(folder: Path, why: str) -> InputError:
    return InputError(
        "no prepared data set can be read there",
        where=str(folder),
        why=why,
        fix="delete the folder and prepare it again",
    )
