"""Tables that are written part by part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.runs import streams
from recdistill.runs.atomic import sweep_temporaries
from recdistill.runs.streams import write_parts

SCHEMA = {"user": pl.String, "score": pl.Float32}


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 9), max_size=12), group=st.integers(1, 12))
@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_parts_are_one_table(
    ending: str, sizes: list[int], group: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    parts = [pl.DataFrame({"user": [f"{n}.{row}" for row in range(size)], "score": [0.5 * row for row in range(size)]},
                          schema=SCHEMA) for n, size in enumerate(sizes)]  # fmt: skip
    folder = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "ROW_GROUP", group)
        write_parts(iter(parts), SCHEMA, folder / f"a{ending}")
    read = pl.read_parquet if ending == ".parquet" else pl.read_csv
    wanted = pl.concat([pl.DataFrame(schema=SCHEMA), *parts])
    assert read(folder / f"a{ending}", **({} if ending == ".parquet" else {"schema": SCHEMA})).equals(wanted)
    assert [file.name for file in folder.iterdir()] == [f"a{ending}"], "nothing else is left"


@pytest.mark.parametrize("name", ["a[1].parquet", "runs[a]/b*.parquet", "c?.csv"])
def test_a_path_is_no_pattern(name: str, tmp_path: Path) -> None:
    write_parts([pl.DataFrame({"user": ["a"], "score": [1.0]}, schema=SCHEMA)], SCHEMA, tmp_path / name)
    assert (tmp_path / name).stat().st_size


def test_what_a_killed_write_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".a.parquet.x.tmp.y.tmp").mkdir()
    (tmp_path / ".a.parquet.x.tmp.y.tmp" / "0.parquet").write_text("x")
    (tmp_path / ".a.parquet.x.tmp").write_text("x")
    sweep_temporaries(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_part_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def parts() -> Iterator[pl.DataFrame]:
        yield pl.DataFrame({"user": ["a"], "score": [1.0]}, schema=SCHEMA)
        raise KeyError("b")

    with pytest.raises(KeyError):
        write_parts(parts(), SCHEMA, tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())
