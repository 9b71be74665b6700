"""MovieLens as GroupLens publishes it: the 100K, 1M and 10M releases, those in CSV, and cross-validation folds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import polars as pl
from annotated_types import Interval

from recdistill.data.sources.base import TEST, TRAIN, Kind, RawLog, Source, hash_arguments, hash_files
from recdistill.data.sources.counts import graph_facts, graph_files, not_listed
from recdistill.data.sources.files import names_in, override
from recdistill.data.sources.folders import offer_below
from recdistill.data.sources.plain import Cells, file_in
from recdistill.data.sources.side import read_side
from recdistill.data.sources.table import Table
from recdistill.errors import InputError

N_FOLDS = 5
_EVENT = ("user", "item", "value", "time")
# The flags of u.item in their order, from the README of the 100K release; the first says that nothing is known.
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_NO_GENRES = "(no genres listed)"


@dataclass(frozen=True)
class _Release:
    """The files of a release; the name of ``folds`` has a place for their number. Ages are codes or numbers."""

    ratings: Cells
    folds: Cells
    films: Cells
    users: Cells
    age: Kind

    def logs(self, folder: Path, fold: int | None) -> list[Cells]:
        """The file of the whole log, or those of all folds."""
        if fold is None and (folder / self.ratings.name).is_file():
            return [self.ratings]
        return [replace(self.folds, name=self.folds.name.format(number)) for number in range(1, N_FOLDS + 1)]


_RELEASES = (
    _Release(
        Cells("ratings.dat", "::", _EVENT),
        Cells("folds/test_1m{}.dat", ",", ("user", "item", "value")),
        Cells("movies.dat", "::", ("item", "title", "genres"), latin1=True),
        Cells("users.dat", "::", ("user", "gender", "age", "occupation", "zip"), latin1=True),
        "categorical",
    ),
    _Release(
        Cells("u.data", "\t", _EVENT),
        Cells("u{}.test", "\t", _EVENT),
        Cells("u.item", "|", ("item", "title", "released", "on_video", "url", *_GENRES), latin1=True),
        Cells("u.user", "|", ("user", "age", "gender", "occupation", "zip"), latin1=True),
        "numeric",
    ),
)


class MovieLens(Source):
    """Ratings, and what is known of films and users.

    The folder holds, as downloaded, ``ratings.dat`` (1M, 10M), ``u.data`` (100K) or ``ratings.csv`` (20M, 25M, 32M,
    latest); or five folds without times, ``folds/test_1m1.dat`` to ``test_1m5.dat``, whose union is the 1M log. Of
    ``movies.dat``, ``users.dat``, ``u.item``, ``u.user`` and ``movies.csv``, those that are there are read.

    Source: Harper and Konstan, 2015, "The MovieLens Datasets" (doi:10.1145/2827872).

    Features: ``genres`` of items; ``gender``, ``age``, ``occupation`` and ``zip`` of users. In the 1M release age and
    occupation are codes, which its README explains.

    Args:
        path: the folder.
        fold: the fold, 1 to 5, that is the test part, all others being for training: it goes with
            ``data/split=given``. None reads the whole log, without a split.
    """

    def __init__(self, path: str, fold: Annotated[int, Interval(ge=1, le=N_FOLDS)] | None = None):
        self.path = Path(path).expanduser()
        self.fold = fold

    def fingerprint(self) -> str:
        release = self._release()
        names = ["ratings.csv", "movies.csv"]
        if release:
            names = [cells.name for cells in (*release.logs(self.path, self.fold), release.films, release.users)]
        files = {name: hash_files(self.path / name) for name in names if (self.path / name).is_file()}
        return hash_arguments(kind="movielens", files=files, graph=hash_files(*graph_files(self.path)), fold=self.fold)

    def read(self) -> RawLog:
        release = self._release()
        log = self._read_csv() if release is None else self._read_release(release)
        facts, warnings = dict[str, int | str](), []
        for name, column, listed in (("films", "item", log.items), ("users", "user", log.users)):
            if listed is not None:
                facts[f"{name} listed"] = listed.height
                unlisted = not_listed(log.events[column], listed[column])
                if unlisted:
                    warnings.append(f"{unlisted} {name} of the ratings are not listed: nothing else is known of them")
        if "time" not in log.events.columns:
            warnings.append("the folds hold no times: a split by time needs ratings.dat of the release")
        facts = {**log.facts, **facts, **graph_facts(self.path)}
        return replace(log, facts=facts, warnings=[*log.warnings, *warnings])

    def where(self) -> str:
        return str(self.path)

    def _release(self) -> _Release | None:
        """The release whose files the folder holds; None for one in CSV.

        Raises:
            InputError: where there are no ratings, or not the fold that is wanted.
        """
        for release in _RELEASES:
            if (self.path / release.logs(self.path, self.fold)[(self.fold or 1) - 1].name).is_file():
                return release
        if self.fold is None and (self.path / "ratings.csv").is_file():
            return None
        if not self.path.is_dir():
            file_in(self.path, "ratings.dat")
        there = f"there is {names_in(self.path)}"
        if self.fold is not None:
            raise InputError(
                f"no fold {self.fold} in '{self.path}'",
                where="data.fold",
                why=f"folds/test_1m{self.fold}.dat or u{self.fold}.test is needed; {there}",
                fix="data.fold=null data/split=random",
            )
        folds = (release.folds.name.format(1) for release in _RELEASES)
        offer_below(self.path, ["ratings.csv", *(release.ratings.name for release in _RELEASES), *folds])
        atomic = any(self.path.glob("*.inter"))
        raise InputError(
            f"no ratings of MovieLens in '{self.path}'",
            where="data.path",
            why=f"ratings.dat, u.data, ratings.csv or folds/test_1m1.dat to test_1m5.dat is needed; {there}",
            fix="data=ml100k " + override("data.path", self.path) if atomic else "data.path=FOLDER",
        )

    def _read_release(self, release: _Release) -> RawLog:
        frames = [cells.read_events(self.path) for cells in release.logs(self.path, self.fold)]
        if self.fold is not None:
            parts = [TEST if number == self.fold else TRAIN for number in range(1, N_FOLDS + 1)]
            frames = [
                frame.with_columns(pl.lit(part, pl.Int8).alias("part"))
                for frame, part in zip(frames, parts, strict=True)
            ]
        log = RawLog(pl.concat(frames))
        if (self.path / release.films.name).is_file():
            log = replace(log, items=_films(self.path, release.films), kinds={"item": {"genres": "multi"}})
        if (self.path / release.users.name).is_file():
            kinds: dict[str, Kind] = {
                "gender": "categorical", "age": release.age, "occupation": "categorical", "zip": "categorical",
            }  # fmt: skip
            log = replace(log, users=_users(self.path, release.users, kinds), kinds={"user": kinds, **log.kinds})
        return log

    def _read_csv(self) -> RawLog:
        log = Table(
            str(self.path / "ratings.csv"), user="userId", item="movieId", value="rating", time="timestamp"
        ).read()
        file = self.path / "movies.csv"
        if not file.is_file():
            return log
        films = read_side(file, "item", "movieId", {"title": "text", "genres": "multi"})
        return replace(log, items=films.with_columns(_known_genres()), kinds={"item": {"genres": "multi"}})


def _films(folder: Path, cells: Cells) -> pl.DataFrame:
    """``item``, ``title`` and ``genres``, which are names or, in the 100K release, a flag for each."""
    frame = cells.read_listed(folder, "item")
    if "genres" in frame.columns:
        genres = pl.col("genres").str.split("|")
    else:
        flags = [pl.col(name).is_in(["0", "1"]) for name in _GENRES]
        odd = frame.select(~pl.all_horizontal(flags)).to_series()
        cells.refuse(folder, frame["item"], odd, "a film has a flag of a genre that is neither 0 nor 1")
        genres = pl.concat_list(pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in _GENRES[1:])
    title = pl.col("title").str.strip_chars().replace("", None)
    return frame.select("item", title, genres.alias("genres")).with_columns(_known_genres())


def _known_genres() -> pl.Expr:
    return pl.col("genres").list.drop_nulls().list.eval(pl.element().filter(~pl.element().is_in(["", _NO_GENRES])))


def _users(folder: Path, cells: Cells, kinds: dict[str, Kind]) -> pl.DataFrame:
    frame = cells.read_listed(folder, "user").with_columns(pl.col(list(kinds)).str.strip_chars().replace("", None))
    if kinds["age"] == "numeric":
        frame = frame.with_columns(cells.numbers(folder, frame["age"], pl.Float64()))
    return frame.select("user", *kinds)
