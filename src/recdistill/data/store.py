"""A prepared data set as files: safetensors for the parts, Parquet for the ids, JSON for the account.

Parts lie in a file each, so that a run can be made without the test part at hand.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recdistill.data.features import Features
from recdistill.data.graph import KnowledgeGraph
from recdistill.data.hashing import hash_part
from recdistill.data.interactions import Dataset, Examples, Interactions, TableDataset
from recdistill.data.sources.base import PARTS
from recdistill.errors import InputError

FORMAT = 3
_COLUMNS = {"interactions": ("user", "item", "value", "time"), "table": ("label", "time", "group")}
_TRIPLE = ("head", "relation", "tail")


def save(dataset: Dataset | TableDataset, folder: str | Path) -> None:
    """Write a data set into a folder, made if need be. Not atomic: the caller renames it when whole."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kind = "interactions" if isinstance(dataset, Dataset) else "table"
    kept = [*PARTS, "known"] if isinstance(dataset, Dataset) and dataset.known is not None else [*PARTS]
    for name in kept:
        part = getattr(dataset, name)
        columns = {column: getattr(part, column) for column in _COLUMNS[kind]}
        features = part.context if isinstance(part, Interactions) else part.features
        _save_columns(columns, features, folder / name)
    account: dict[str, Any] = {"format": FORMAT, "kind": kind, "parts": kept}
    if isinstance(dataset, Dataset):
        account |= {
            "n_users": dataset.train.n_users,
            "n_items": dataset.train.n_items,
            "n_cold_users": len(dataset.users) - dataset.train.n_users,
        }
        _save_ids(dataset, folder)
        if dataset.graph is not None:
            account["graph"] = {name: getattr(dataset.graph, name) for name in ("n_entities", "n_relations")}
            triples = {name: getattr(dataset.graph, name).contiguous() for name in _TRIPLE}
            save_file(triples, folder / "graph.safetensors")
    account |= {"fingerprint": dataset.fingerprint, "manifest": dataset.manifest, "report": dataset.report}
    text = json.dumps(account, indent=2, ensure_ascii=False) + "\n"
    (folder / "dataset.json").write_text(text, encoding="utf-8")


def _save_ids(dataset: Dataset, folder: Path) -> None:
    pl.DataFrame({"user": pl.Series(dataset.users, dtype=pl.String)}).write_parquet(folder / "users.parquet")
    items = pl.DataFrame({"item": pl.Series(dataset.items, dtype=pl.String)})
    if dataset.titles is not None:
        items = items.with_columns(pl.Series("title", dataset.titles, dtype=pl.String))
    items.write_parquet(folder / "items.parquet")
    _save_columns({}, dataset.user_features, folder / "user_features")
    _save_columns({}, dataset.item_features, folder / "item_features")


def _save_columns(columns: dict[str, Tensor | None], features: Features, path: Path) -> None:
    """Numbers in ``path.safetensors``; words, where there are any, in ``path.json``."""
    numbers, words = features.to_plain()
    tensors = {name: tensor.contiguous() for name, tensor in columns.items() if tensor is not None}
    save_file(tensors | numbers, path.with_suffix(".safetensors"))
    if words:
        path.with_suffix(".json").write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")


def load(folder: str | Path, parts: Collection[str] = PARTS) -> Dataset | TableDataset:
    """Read a data set that :func:`save` wrote. Its tensors are memory-mapped.

    Args:
        parts: those to open; the others come empty, and their files need not be there. What is known of cold users
            is always opened.

    Raises:
        InputError: for a folder that holds no whole data set of this format.
    """
    folder = Path(folder)
    try:
        account = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        if account["format"] != FORMAT:
            raise _unreadable(folder, f"its format is {account['format']}, and {FORMAT} is known")
        opened = {*parts, "known"}
        loaded = {
            name: _load_columns(folder / name) if name in opened else ({}, Features()) for name in account["parts"]
        }
        about = account["report"], account["manifest"], account["fingerprint"]
        if account["kind"] == "table":
            train, valid, test = (_examples(*loaded[name]) for name in PARTS)
            return TableDataset(train, valid, test, *about)
        sizes, n_cold = (account["n_users"], account["n_items"]), account["n_cold_users"]
        pairs = {
            name: _interactions(*columns, *sizes, 0 if name == "train" else n_cold) for name, columns in loaded.items()
        }
        items = pl.read_parquet(folder / "items.parquet")
        user_features, item_features = (_load_columns(folder / f"{side}_features")[1] for side in ("user", "item"))
        graph = _graph(folder, account) if "graph" in account else None
        return Dataset(
            replace(pairs["train"], user_features=user_features, item_features=item_features, graph=graph),
            pairs["valid"],
            pairs["test"],
            pl.read_parquet(folder / "users.parquet")["user"].to_numpy(),
            items["item"].to_numpy(),
            *about,
            items["title"].to_numpy() if "title" in items.columns else None,
            user_features,
            item_features,
            pairs.get("known"),
            graph,
        )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise _unreadable(folder, f"{type(error).__name__}: {error}") from error


def load_pairs(folder: str | Path, parts: Collection[str] = PARTS) -> Dataset:
    """As :func:`load`, with :func:`require_pairs`."""
    return require_pairs(load(folder, parts))


def require_pairs(dataset: Dataset | TableDataset) -> Dataset:
    """The data set, for what ranks items for users by what it learned of both.

    Raises:
        InputError: for a table of examples, and where items are held out.
    """
    if isinstance(dataset, TableDataset):
        raise InputError(
            "these data are a table of labelled examples, without users and items to rank",
            where="data",
            why=f"{dataset.manifest['source']} has the columns {', '.join(dataset.report['features']['context'])}",
            fix="task=ctr, rating or classification; or a log of interactions, such as data=csv",
        )
    if dataset.manifest["holds_out_items"]:
        raise InputError(
            "no model can rank the items that this split holds out",
            where="data.split",
            why=f"all {dataset.report['n_cold_items']} items of the valid and test parts lack training data, and "
            "the models that know an item by its training data could not even be chosen",
            fix="data.split.warm=0.1, which holds out events of the other items too; or data/split=cold_user",
        )
    return dataset


def verify(dataset: Dataset | TableDataset) -> None:
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


def _load_columns(path: Path) -> tuple[dict[str, Tensor], Features]:
    with safe_open(path.with_suffix(".safetensors"), framework="pt") as file:
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    text = path.with_suffix(".json")
    words = json.loads(text.read_text(encoding="utf-8")) if text.exists() else {}
    return tensors, Features.from_plain(tensors, words)


def _graph(folder: Path, account: dict[str, Any]) -> KnowledgeGraph:
    with safe_open(folder / "graph.safetensors", framework="pt") as file:
        head, relation, tail = (file.get_tensor(name) for name in _TRIPLE)
    return KnowledgeGraph(head, relation, tail, account["n_items"], **account["graph"])


def _interactions(
    columns: dict[str, Tensor], context: Features, n_users: int, n_items: int, n_cold_users: int
) -> Interactions:
    empty = torch.zeros(0, dtype=torch.int64)
    user, item = columns.get("user", empty), columns.get("item", empty)
    return Interactions(user, item, n_users, n_items, columns.get("value"), columns.get("time"), context, n_cold_users)


def _examples(columns: dict[str, Tensor], features: Features) -> Examples:
    return Examples(columns.get("label", torch.zeros(0)), features, columns.get("time"), columns.get("group"))


def _unreadable(folder: Path, why: str) -> InputError:
    return InputError(
        "no prepared data set can be read there",
        where=str(folder),
        why=why,
        fix="delete the folder and prepare it again",
    )
