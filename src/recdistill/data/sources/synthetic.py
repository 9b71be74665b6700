"""A made-up log with a known right answer: many small niches of taste, a long tail, and seasons.

A user likes a few of many niches, so preferences have about as many directions as there are niches: a wide model
can hold them and a narrow one has to blur them. That is the gap which distillation is to close.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any

import numpy as np
import polars as pl
from annotated_types import Ge, Interval

from recdistill.data.sources.base import RawLog, Source, hash_arguments
from recdistill.errors import InputError

_VERSION = 1  # raise it when the same arguments give another log
_START, _SPAN = 1_672_531_200, 2 * 365 * 86_400  # 2023-01-01 UTC, two years, in seconds
_GENRES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Mystery": (("Silent", "Hidden", "Vanished", "Second"), ("Witness", "Key", "Letter", "Alibi")),
    "Romance": (("Tender", "Summer", "Borrowed", "Last"), ("Promise", "Kiss", "Letter", "Wedding")),
    "Western": (("Dusty", "Lonely", "Iron", "High"), ("Trail", "Sheriff", "Canyon", "Saddle")),
    "Space": (("Distant", "Falling", "Stellar", "Ninth"), ("Orbit", "Signal", "Colony", "Nebula")),
    "Horror": (("Pale", "Hungry", "Cursed", "Midnight"), ("Cellar", "House", "Mirror", "Choir")),
    "Comedy": (("Clumsy", "Happy", "Unlikely", "Double"), ("Neighbours", "Waiter", "Uncle", "Holiday")),
    "Nature": (("Wild", "Frozen", "Deep", "Green"), ("Reef", "River", "Forest", "Glacier")),
    "Music": (("Electric", "Slow", "Golden", "Broken"), ("Melody", "Band", "Chorus", "Violin")),
    "Heist": (("Perfect", "Quiet", "Final", "Silver"), ("Vault", "Crew", "Getaway", "Diamond")),
    "Fantasy": (("Ancient", "Sleeping", "Crystal", "Lost"), ("Dragon", "Crown", "Tower", "Wizard")),
    "Sport": (("Fast", "Extra", "Golden", "Muddy"), ("Final", "Coach", "Sprint", "Goal")),
    "History": (("Forgotten", "Royal", "Burning", "First"), ("Empire", "Harbour", "Treaty", "Queen")),
}


class Synthetic(Source):
    """Users, items, times, ratings, titles and genres from a generator.

    The log-preference of user ``u`` for item ``i`` is ``sharpness * taste[u, niche[i]] + appeal[i]``;
    ``taste`` is 0 but for a few niches of each user. Items are drawn without replacement in proportion to its
    exponential (Gumbel-top-k: Kool, van Hoof and Welling, 2019, arXiv:1903.06059). Times then follow the
    items' seasons.

    Args:
        n_users, n_items: sizes.
        interactions_per_user: mean; users range from about a half to twice of it.
        niches: directions of taste. More make the log harder for a narrow model.
        niches_per_user: how many of them a user likes.
        sharpness: by how much, in log-preference. 0 leaves popularity only.
        popularity: exponent of the long tail; 0 makes all items equally popular.
        drift: how closely items keep to their season, 0 for no drift, 1 for all.
        seed: of everything.
    """

    def __init__(
        self,
        n_users: Annotated[int, Ge(2)] = 2000,
        n_items: Annotated[int, Ge(2)] = 1500,
        interactions_per_user: Annotated[float, Ge(1)] = 16,
        niches: Annotated[int, Ge(1)] = 96,
        niches_per_user: Annotated[int, Ge(1)] = 3,
        sharpness: Annotated[float, Ge(0)] = 5.0,
        popularity: Annotated[float, Ge(0)] = 0.4,
        drift: Annotated[float, Interval(ge=0, le=1)] = 0.3,
        seed: Annotated[int, Ge(0)] = 0,
    ):
        if niches_per_user > niches:
            raise InputError(
                f"a user can't like {niches_per_user} of {niches} niches",
                where="data.source.niches_per_user",
                fix=f"data.source.niches_per_user={niches}",
            )
        self.n_users, self.n_items = n_users, n_items
        self.interactions_per_user = interactions_per_user
        self.niches, self.niches_per_user = niches, niches_per_user
        self.sharpness, self.popularity, self.drift = sharpness, popularity, drift
        self.seed = seed

    def fingerprint(self) -> str:
        arguments = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        arguments.pop("truth", None)
        return hash_arguments(kind="synthetic", version=_VERSION, **arguments)

    def where(self) -> str:
        return f"synthetic(n_users={self.n_users}, n_items={self.n_items}, seed={self.seed})"

    def true_scores(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The right answer: log-preferences, float32 ``[n_users, n_items]``; row ``u`` is user ``u{u:05}``,
        column ``i`` item ``i{i:05}``.
        """
        taste, niche, appeal, _ = self._world
        scores: np.ndarray[Any, np.dtype[np.float32]] = self.sharpness * taste[:, niche] + appeal
        return scores

    def read(self) -> RawLog:
        _, niche, _, season = self._world
        rng = np.random.default_rng([self.seed, 1])
        mean = min(self.interactions_per_user, self.n_items)
        count = np.clip(rng.lognormal(np.log(mean) - 0.08, 0.4, self.n_users).round(), min(5, mean), self.n_items)
        user, item, score = _gumbel_top_k(self.true_scores(), count.astype(np.int64), rng)
        time = _in_season(user, season[item], self.drift, rng)
        rating = np.clip(np.round(3.4 + 0.35 * (score - score.mean()) + rng.normal(0, 0.7, score.size)), 1, 5)
        events = pl.DataFrame(
            {
                "user": _names("u", self.n_users).gather(user),
                "item": _names("i", self.n_items).gather(item),
                "value": rating.astype(np.float64),
                "time": time,
            }
        )
        return RawLog(events, _items(niche, self.seed), kinds={"item": {"genre": "categorical"}})

    @cached_property
    def _world(self) -> tuple[Any, Any, Any, Any]:
        """``taste [n_users, niches]``, and of each item ``niche``, ``appeal`` and ``season`` in 0 to 1."""
        rng = np.random.default_rng([self.seed, 0])
        liked = np.argsort(rng.random((self.n_users, self.niches)), axis=1)[:, : self.niches_per_user]
        taste = np.zeros((self.n_users, self.niches), dtype=np.float32)
        strength = rng.uniform(0.7, 1.0, liked.shape).astype(np.float32)
        np.put_along_axis(taste, liked, strength, axis=1)
        niche = rng.permutation(np.arange(self.n_items) % self.niches)
        rank = rng.permutation(self.n_items) + 1
        appeal = (-self.popularity * np.log(rank)).astype(np.float32)
        return taste, niche, appeal, rng.random(self.n_items)


def _gumbel_top_k(scores: Any, count: Any, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """For each row, ``count`` columns drawn without replacement with weights ``exp(scores)``.

    Returns:
        Row, column and score of each draw, all ``[count.sum()]``.
    """
    most = int(count.max())
    noisy = scores + rng.gumbel(size=scores.shape).astype(np.float32)
    top = np.argpartition(-noisy, most - 1, axis=1)[:, :most]
    top = np.take_along_axis(top, np.argsort(-np.take_along_axis(noisy, top, axis=1), axis=1), axis=1)
    row = np.repeat(np.arange(count.size), count)
    column = top[np.arange(most) < count[:, None]]
    return row, column, scores[row, column]


def _in_season(user: Any, season: Any, drift: float, rng: np.random.Generator) -> Any:
    """Unix seconds, int64: each user's moments, given to the user's items in the order of their seasons and
    chance.
    """
    # Each user is there for a stretch of the span, so that old and new users occur.
    first, last = np.sort(rng.random((2, int(user.max()) + 1)) * [[0.5], [0.5]] + [[0.0], [0.5]], axis=0)
    moment = first[user] + rng.random(user.size) * (last - first)[user]
    wish = drift * season + (1 - drift) * rng.random(user.size)
    time = np.empty(user.size)
    time[np.lexsort((wish, user))] = moment[np.lexsort((moment, user))]
    return (_START + time * _SPAN).astype(np.int64)


def _names(letter: str, count: int) -> pl.Series:
    return letter + pl.Series(np.arange(count)).cast(pl.String).str.zfill(5)


def _items(niche: Any, seed: int) -> pl.DataFrame:
    """Titles and genres: niches share the genres out; a repeated title gets a number."""
    rng = np.random.default_rng([seed, 2])
    genres = list(_GENRES)
    titles, seen = list[str](), dict[str, int]()
    for number, pick in zip(niche.tolist(), rng.integers(0, 4, (niche.size, 2)).tolist(), strict=True):
        adjectives, nouns = _GENRES[genres[number % len(genres)]]
        title = f"The {adjectives[pick[0]]} {nouns[pick[1]]}"
        seen[title] = seen.get(title, 0) + 1
        titles.append(title if seen[title] == 1 else f"{title} {seen[title]}")
    names = [genres[number % len(genres)] for number in niche.tolist()]
    return pl.DataFrame({"item": _names("i", niche.size), "title": titles, "genre": names})
