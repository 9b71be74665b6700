"""Recommending: top-k lists with the user's own ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.interactions import Dataset
from recdistill.errors import InputError
from recdistill.evaluation.ranking import recommend
from recdistill.evaluation.topk import Scorer, masked
from recdistill.export.bundle import load_frozen
from recdistill.models.base import Model
from recdistill.rerank.base import Reranking
from recdistill.runs.streams import write_parts
from recdistill.stages.newcomers import Newcomers
from recdistill.stages.strangers import Strangers, read_strangers, scorer_of_strangers
from recdistill.tasks.base import Task

if TYPE_CHECKING:
    import polars as pl

USERS, SCORES = 1024, 2**24  # held at a time


def write_recommendations(
    model_folder: Path, data: Dataset, settings: dict[str, Any], folder: Path, task: Task,
    newcomers: Callable[[Model], Newcomers] | None = None, reranking: Reranking | None = None,
) -> Path:  # fmt: skip
    """Writes the k best items that each user does not have yet, best first, part by part. What is left out are the
    items of training, validation and what is known of cold users; of users with histories in a file, these.

    Args:
        model_folder: the model.
        data: the data set that it was trained on.
        settings: the config's ``recommend`` section.
        folder: of the run, for a relative or absent ``output``.
        task: ranking or sequence.
        newcomers: gives the items that compete besides the catalogue, for a model.
        reranking: passes over the lists.

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
    users = None if settings["histories"] else chosen_users(data, settings["users"])
    model, n_items = load_frozen(model_folder, data.train), data.train.n_items
    new = None if newcomers is None else newcomers(model)
    vectors = None if new is None else new.vectors
    names, titles = data.items[:n_items], None if data.titles is None else data.titles[:n_items]
    if new is not None:
        names = np.concatenate([names, new.ids])
        titles = None if titles is None else np.concatenate([titles, new.titles])
    shown = Shown(names, titles, min(settings["k"], len(names)), reranking)
    if users is None:
        frames = to_strangers(scorer_of_strangers(model, vectors), settings["histories"], shown, n_items)
    else:
        frames = to_users(task.scorer(model, data, new=vectors), users, data, shown)
    schema = {"user": pl.String, "rank": pl.Int64, "item": pl.String, "score": pl.Float32}
    write_parts(frames, schema | ({} if titles is None else {"title": pl.String}), output)
    return output


@dataclass(frozen=True)
class Shown:
    """How lists are made and shown: the items' ids and titles, how many a user gets, passes over them."""

    items: np.ndarray[Any, Any]
    titles: np.ndarray[Any, Any] | None
    k: int
    reranking: Reranking | None = None

    @property
    def chunk(self) -> int:
        """Users whose scores are held at a time."""
        return max(1, min(USERS, SCORES // len(self.items)))

    def lists(self, score: Scorer, users: Tensor, seen: Csr) -> tuple[Tensor, Tensor]:
        """Items and scores ``[B, k]`` of some users."""
        if self.reranking is None:
            return recommend(score, users, seen, self.k)
        return self.reranking.lists(masked(score(users), users, seen), self.k)

    def frame(self, users: np.ndarray[Any, Any], items: Tensor, scores: Tensor) -> pl.DataFrame:
        """The lists ``[B, k]`` of some users, a row for each place that is filled."""
        import polars as pl

        valid = items >= 0
        row, rank = valid.nonzero(as_tuple=True)
        item = items[valid].numpy()
        columns: dict[str, Any] = {
            "user": users[row.numpy()], "rank": rank.numpy() + 1, "item": self.items[item],
            "score": scores[valid].numpy(),
        }  # fmt: skip
        if self.titles is not None:
            columns["title"] = self.titles[item]
        return pl.DataFrame(
            columns, schema_overrides=dict.fromkeys(("user", "item", "title") & columns.keys(), pl.String)
        )


def to_users(score: Scorer, users: Tensor, data: Dataset, shown: Shown) -> Iterator[pl.DataFrame]:
    """Lists for users of the data, without what they had."""
    known = of_catalogue(data.seen("test"), data.train.n_items)
    for part in torch.split(users, shown.chunk):
        items, scores = shown.lists(score, part, known)
        yield shown.frame(data.users[part.numpy()], items, scores)


def to_strangers(score: Callable[[Strangers], Tensor], file: str, shown: Shown, n_items: int) -> Iterator[pl.DataFrame]:
    """Lists for the users of a file, without what it says that they had."""
    for batch in read_strangers(file, shown.items[:n_items]):
        for part in batch.split(shown.chunk):
            items, scores = shown.lists(partial(_of_part, score, part), torch.arange(len(part.names)), part.sets)
            yield shown.frame(part.names, items, scores)


def _of_part(score: Callable[[Strangers], Tensor], part: Strangers, rows: Tensor) -> Tensor:
    assert len(rows) == len(part.names)
    return score(part)


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
