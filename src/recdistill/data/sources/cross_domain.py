"""One domain of a pair that shares its users, for transfer from one to the other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
from annotated_types import Ge

from recdistill.data.sources.base import TEST, TRAIN, VALID, RawLog, Source, hash_arguments, hash_files
from recdistill.data.sources.files import override
from recdistill.data.sources.plain import Cells, file_in
from recdistill.errors import InputError

_COLUMNS = ("user", "item", "value")


class CrossDomain(Source):
    """A folder ``X_Y`` with the log of domain X, of users who are in domain Y too: ``user<tab>item<tab>1`` without a
    header. The folder ``Y_X`` beside it holds the other domain; an id of a user is the same person in both, an id of
    an item is not.

    Source: Cao et al., 2022, "DisenCDR" (SIGIR), whose repository has the files. The test is the last item of each
    user. ``test_original.txt`` has that of all users; ``test.txt`` has those on items that the training part knows.

    Args:
        path: the folder of one domain.
        train, test: file names in it.
        valid: training items of each user that validate, drawn once and for all, where two more are left; 0 for no
            validation part.
    """

    def __init__(self, path: str, train: str = "train.txt", test: str = "test.txt", valid: Annotated[int, Ge(0)] = 0):
        self.path = Path(path).expanduser()
        self.train, self.test, self.valid = train, test, valid

    def fingerprint(self) -> str:
        self._check_one_domain()
        other = self._other()
        files = [file_in(self.path, self.train), file_in(self.path, self.test), *([other] if other else [])]
        more = {"valid": self.valid} if self.valid else {}
        return hash_arguments(kind="cross_domain", files=hash_files(*files), both=other is not None, **more)

    def read(self) -> RawLog:
        self._check_one_domain()
        train, test = (Cells(name, "\t", _COLUMNS).read_events(self.path) for name in (self.train, self.test))
        known = test["item"].is_in(train["item"].unique().implode())
        facts: dict[str, int | str] = {
            "test pairs": f"{len(test):,} in {self.test}, {int((~known).sum()):,} of them on items that train lacks"
        }
        if other := self._other():
            users = Cells(other.name, "\t", _COLUMNS).read_events(other.parent)["user"].unique()
            shared = train["user"].unique().is_in(users.implode()).sum()
            facts["shared users"] = f"{shared:,} with {other.parent.name}"
        events = pl.concat(
            [train.with_columns(part=_part(train, self.valid)), test.with_columns(part=pl.lit(TEST, pl.Int8))]
        )
        return RawLog(events, facts=facts)

    def where(self) -> str:
        return str(self.path)

    def _other(self) -> Path | None:
        """The training file of the other domain, where it is there."""
        names = self.path.resolve().name.split("_")
        file = self.path.resolve().parent / "_".join(reversed(names)) / self.train
        return file if len(names) == 2 and names[0] != names[1] and file.is_file() else None

    def _check_one_domain(self) -> None:
        """Raises InputError for the folder above those of the domains."""
        found = sorted(file.parent for file in self.path.glob(f"*_*/{self.train}"))
        if found and not (self.path / self.train).exists():
            raise InputError(
                f"'{self.path}' holds both domains, and one is needed",
                where="data.path",
                why=f"folders there: {', '.join(folder.name for folder in found)}",
                fix=override("data.path", found[0]),
            )


def _part(train: pl.DataFrame, valid: int) -> pl.Series:
    """Int8, TRAIN or VALID for each row: some of each user's items validate, whatever the order of the rows."""
    if not valid:
        return pl.repeat(TRAIN, len(train), dtype=pl.Int8, eager=True)
    rows = train.select("user", "item").with_row_index("row").sort("user", "item")
    draw = np.random.default_rng(0).permutation(len(rows))
    place = pl.col("draw").rank("ordinal").over("user")
    rows = rows.with_columns(draw=pl.Series(draw)).with_columns(place=place, count=pl.len().over("user"))
    chosen = (pl.col("place") <= valid) & (pl.col("count") >= valid + 2)
    return rows.select("row", part=pl.when(chosen).then(VALID).otherwise(TRAIN).cast(pl.Int8)).sort("row")["part"]
