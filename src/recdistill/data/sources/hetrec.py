"""Last.fm of HetRec 2011: who listens to which artists how often, tags of artists, and friends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from recdistill.data.sources.base import RawLog, Source, hash_arguments, hash_files
from recdistill.data.sources.counts import graph_facts, graph_files, not_listed
from recdistill.data.sources.graphs import kgcn_graph
from recdistill.data.sources.plain import Cells, file_in

FIRST_TAGS = 2005  # the year in which Last.fm began to have tags
_PLAYS = Cells("user_artists.dat", "\t", ("user", "item", "value"), ("userID", "artistID", "weight"))
_ARTISTS = Cells(
    "artists.dat", "\t", ("item", "title", "url", "picture"), ("id", "name", "url", "pictureURL"), latin1=True
)
_TAGS = Cells("tags.dat", "\t", ("tag", "name"), ("tagID", "tagValue"), latin1=True)
_TAGGED = Cells(
    "user_taggedartists.dat",
    "\t",
    ("user", "item", "tag", "day", "month", "year"),
    ("userID", "artistID", "tagID", "day", "month", "year"),
)
_FRIENDS = Cells("user_friends.dat", "\t", ("user", "friend"), ("userID", "friendID"))
_ALL = (_PLAYS, _ARTISTS, _TAGS, _TAGGED, _FRIENDS)


class LastFM(Source):
    """The five ``.dat`` files of Last.fm as GroupLens publishes them. The value of a pair is its play count.

    There are no times of listening. The dates of tags are not used.

    Source: Cantador, Brusilovsky and Kuflik, 2011, "2nd Workshop on Information Heterogeneity and Fusion in Recommender
    Systems (HetRec 2011)" (RecSys).

    Features: ``tags`` of items (names, given by any user) and ``friends`` of users (ids).

    Args:
        path: the folder.
        kg: read the knowledge graph of the folder ``kg*`` in it, for models that take one.
    """

    def __init__(self, path: str, kg: bool = False):
        self.path = Path(path).expanduser()
        self.kg = kg

    def fingerprint(self) -> str:
        files = [file_in(self.path, cells.name) for cells in _ALL]
        graph = {"kg": True} if self.kg else {}  # without, what was prepared before there were graphs is found again
        return hash_arguments(kind="hetrec-lastfm", files=hash_files(*files, *graph_files(self.path)), **graph)

    def read(self) -> RawLog:
        plays = _PLAYS.read_events(self.path)
        artists = _ARTISTS.read_listed(self.path, "item").select("item", "title")
        tagged = _TAGGED.read(self.path)
        tags = _TAGS.read_listed(self.path, "tag")
        friends = _FRIENDS.read(self.path)
        named = tagged.join(tags, on="tag", how="left", maintain_order="left")
        years = _TAGGED.numbers(self.path, tagged["year"], pl.Int64())
        return RawLog(
            plays,
            artists.join(_sets(named, "item", "name", "tags"), on="item", how="left", maintain_order="left"),
            users=_sets(friends, "user", "friend", "friends"),
            kinds={"user": {"friends": "multi"}, "item": {"tags": "multi"}},
            facts={
                "tail of play counts": _tail(plays["value"]),
                "artists listed": artists.height,
                "tags": tags.height,
                "tag assignments": tagged.height,
                "friends": f"{friends.height:,} rows, {_undirected(friends):,} pairs",
                **graph_facts(self.path),
            },
            warnings=_oddities(plays, artists, named, years),
            graph=kgcn_graph(self.path) if self.kg else None,
        )

    def where(self) -> str:
        return str(self.path)


def _sets(pairs: pl.DataFrame, side: str, value: str, name: str) -> pl.DataFrame:
    """The distinct values of each id, as a List(String) column."""
    return pairs.select(side, pl.col(value).alias(name)).drop_nulls().unique().sort(side, name).group_by(
        side, maintain_order=True
    ).agg(name)  # fmt: skip


def _undirected(friends: pl.DataFrame) -> int:
    """How many pairs there are, whichever way they are written."""
    ends = friends.select(
        low=pl.min_horizontal("user", "friend"),
        high=pl.max_horizontal("user", "friend"),
    )
    return ends.n_unique()


def _tail(values: pl.Series) -> str:
    """How far a few values outweigh the rest."""
    falling = values.sort(descending=True).to_numpy()
    share = falling[: max(falling.size // 100, 1)].sum() / falling.sum()
    middle = np.median(falling)
    return f"median {middle:,.0f}, highest {falling[0]:,.0f}; 1% of the pairs have {share:.0%} of all plays"


def _oddities(plays: pl.DataFrame, artists: pl.DataFrame, named: pl.DataFrame, years: pl.Series) -> list[str]:
    found = []
    early = years.filter(years < FIRST_TAGS)
    if len(early):
        wrong = ", ".join(str(year) for year in early.unique().sort())
        found.append(f"{len(early)} tag assignments are dated before {FIRST_TAGS} ({wrong}): no date of a tag is used")
    unknown = not_listed(named["item"], artists["item"])
    if unknown:
        found.append(f"tags are given to {unknown} artists that {_ARTISTS.name} does not list: not used")
    nameless = int(named["name"].is_null().sum())
    if nameless:
        found.append(f"{nameless} tag assignments are of tags that {_TAGS.name} does not list: not used")
    untitled = not_listed(plays["item"], artists["item"])
    if untitled:
        found.append(f"{untitled} artists are listened to and not listed: they have no title")
    return found
