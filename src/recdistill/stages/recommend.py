"""Recommending: top-k lists with the user's own ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recdistill.data.csr import Csr
from recdistill.data.interactions import Dataset
from recdistill.errors import InputError
from recdistill.evaluation.ranking import recommend
from recdistill.export.bundle import load_model
from recdistill.models.base import Model
from recdistill.runs.atomic import atomic_path
from recdistill.stages.newcomers import Newcomers
from recdistill.tasks.base import Task


def write_recommendations(
    model_folder: Path, data: Dataset, settings: dict[str, Any], folder: Path, task: Task,
    newcomers: Callable[[Model], Newcomers] | None = None,
) -> Path:  # fmt: skip
    """Writes the k best items that each user does not have yet, best first; what is left out are the items of
    training, validation and what is known of cold users.

    Args:
        model_folder: the model.
        data: the data set that it was trained on.
        settings: the config's ``recommend`` section.
        folder: of the run, for a relative or absent ``output``.
        task: ranking or sequence.
        newcomers: gives the items that compete besides the catalogue, for a model.

    Returns:
        The file: Parquet or CSV by its ending, columns user, rank (from 1), item, score and, where the data have
        them, title.
    """
    import polars as pl

    output = Path(settings["output"]) if settings["output"] else folder / "recommendations.csv"
    if output.suffix not in (".csv", ".parquet"):
        raise InputError(
            f"recommendations are written as .csv or .parquet, not {output.suffix or 'without an ending'}",
            where="recommend.output", fix=f"recommend.output={output.with_suffix('.csv')}",
        )  # fmt: skip
    users = chosen_users(data, settings["users"])
    model, n_items = load_model(model_folder, data.train), data.train.n_items
    new = None if newcomers is None else newcomers(model)
    score = task.scorer(model, data, new=None if new is None else new.vectors)
    items_of, titles = data.items[:n_items], None if data.titles is None else data.titles[:n_items]
    if new is not None:
        items_of = np.concatenate([items_of, new.ids])
        titles = None if titles is None else np.concatenate([titles, new.titles])
    known = of_catalogue(data.seen("test"), n_items)
    k = min(settings["k"], len(items_of))
    frames = []
    for part in torch.split(users, 1024):
        items, scores = recommend(score, part, known, k)
        valid = items >= 0
        row, rank = valid.nonzero(as_tuple=True)
        item = items[valid].numpy()
        columns: dict[str, Any] = {
            "user": data.users[part[row].numpy()], "rank": rank.numpy() + 1, "item": items_of[item],
            "score": scores[valid].numpy(),
        }  # fmt: skip
        if titles is not None:
            columns["title"] = titles[item]
        frames.append(pl.DataFrame(columns))
    lists = pl.concat(frames)
    with atomic_path(output) as temporary:
        lists.write_csv(temporary) if output.suffix == ".csv" else lists.write_parquet(temporary)
    return output


def of_catalogue(sets: Csr, n_items: int) -> Csr:
    """The items of the catalogue alone: behind it stand others than in the data."""
    n_users = len(sets.indptr) - 1
    user, item = sets.rows(torch.arange(n_users))
    return Csr.from_pairs(user[item < n_items], item[item < n_items], n_users)


def chosen_users(data: Dataset, wanted: Any) -> torch.Tensor:
    """Rows of the users to serve: all, those of a list, or those of a file with one id per line."""
    if wanted is None:
        return torch.arange(len(data.users))
    if isinstance(wanted, str):
        path = Path(wanted)
        if not path.is_file():
            raise InputError(
                f"no such file: {wanted}", where="recommend.users",
                fix="give a file with one user id per line, or a list: 'recommend.users=[u1,u2]'",
            )  # fmt: skip
        wanted = path.read_text(encoding="utf-8").splitlines()
    names = np.asarray([str(name) for name in wanted if str(name)], dtype=object)
    order = np.argsort(data.users.astype(str))
    known = data.users.astype(str)[order]
    at = np.searchsorted(known, names.astype(str)).clip(max=len(known) - 1)
    unknown = names[known[at] != names.astype(str)]
    if len(unknown):
        raise InputError(
            f"{'1 user is' if len(unknown) == 1 else f'{len(unknown)} users are'} not in the training data: "
            + ", ".join(map(repr, unknown[:5].tolist())) + (", ..." if len(unknown) > 5 else ""),
            where="recommend.users", why="a user's vector is learned from interactions",
            fix="leave them out, or show them the most popular items",
        )  # fmt: skip
    return torch.from_numpy(order[at])
