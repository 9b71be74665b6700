"""Items that came after training, from the command line to the lists; and the table of cold items."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Cli = Callable[..., int]
FEW = ("data.source.n_users=80", "data.source.n_items=80", "data.source.niches=6", "data/split=cold_item")
STUDENT = ("task=sequence", "teacher=sasrec", "teacher.net.dim=4", "teacher.fit.epochs=1", "student=content_metric",
           "student.fit.epochs=1", "baselines=[popularity,content_knn]", "compression=none")  # fmt: skip
VECTORS = ("data.split.warm=0.1", "data.split.test=0.25", "encode=vectors", "data.encode.vectors.file=given.npy")
LINE = (*FEW, *VECTORS, *STUDENT)


@pytest.fixture
def vectors(tmp_path: Path) -> np.ndarray:  # type: ignore[type-arg]
    """A file of vectors of all items of the small data, and one of a stranger, "01"."""
    ids = [*(f"i{n:05}" for n in range(80)), "01"]
    made = np.random.default_rng(1).normal(size=(len(ids), 6)).astype(np.float32)
    save(tmp_path / "given.npy", made, ids)
    return made


def save(file: Path, rows: np.ndarray, ids: list[str]) -> None:  # type: ignore[type-arg]
    np.save(file, rows)
    file.with_suffix(".ids").write_text("\n".join(ids) + "\n", encoding="utf-8")


def lists(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(f"outputs/{name}/recommendations.csv").read_text().splitlines()))


def test_a_run_with_cold_items(
    vectors: np.ndarray,
    cli: Cli,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],  # type: ignore[type-arg]
) -> None:
    """One table tells who can rank them and how well, one command recommends more of them; then what is refused."""
    assert cli("run", *LINE, "distiller=aldi", "run.name=r") == 0
    summary = json.loads(Path("outputs/r/summary.json").read_text())
    rows = {row["name"]: row for row in summary["rows"]}
    assert rows["teacher"]["cold"]["metrics"] is None
    assert rows["popularity"]["cold"]["metrics"] is None
    student, knn = rows["student distilled"]["cold"], rows["content_knn"]["cold"]
    assert set(student["metrics"]) == {"cold", "all"}
    assert student["metrics"]["cold"]["ndcg@10"] >= student["metrics"]["all"]["ndcg@10"]
    assert set(student["p"]["cold"]) == {"student alone", "content_knn"}
    assert set(knn["p"]["cold"]) == {"student alone"}
    assert 0 < student["random"]["all"]["recall@10"] < student["random"]["cold"]["recall@10"]
    page = Path("outputs/r/report.html").read_text()
    assert "Cold items" in page
    assert "any order, on average" in page
    assert any("student distilled" in note and "random order" in note for note in summary["notes"])
    history = next(Path("outputs/r/models/student_distilled").glob("history*")).read_text()
    assert "aldi.weighted.ranking" in history
    assert cli("verify", "outputs/r") == 0

    save(tmp_path / "new.npy", np.stack([vectors[-1], vectors[0]]), ["01", "NA"])
    said = ("distiller=aldi", "recommend.k=90")
    assert cli("recommend", *LINE, *said, "recommend.new_items=new.npy", "run.name=a") == 0
    one = lists("a")
    assert {"01", "NA"} <= {row["item"] for row in one}
    assert {row["title"] for row in one if row["item"] == "01"} == {"01"}
    scores = {(row["user"], row["item"]): float(row["score"]) for row in one}
    same = [(user, scores[user, "i00000"]) for user in {row["user"] for row in one} if (user, "i00000") in scores]
    assert all(scores[user, "NA"] == pytest.approx(score, abs=1e-5) for user, score in same), "told of again, no other"

    Path("told.csv").write_text("item\n01\nnobody\n", encoding="utf-8")
    assert cli("recommend", *LINE, *said, "recommend.new_items=told.csv", "run.name=b") == 0
    assert "1 of 2 items have no text or vector" in capsys.readouterr().out
    two = {(row["user"], row["item"]): float(row["score"]) for row in lists("b")}
    assert all(scores[key] == pytest.approx(score, abs=1e-5) for key, score in two.items() if key[1] == "01")

    def refused(*words: str) -> str:
        assert cli("recommend", *LINE, *words) == 2
        return capsys.readouterr().err

    for name in ("teacher",):
        told = refused(*said, "recommend.new_items=new.npy", f"recommend.model={name}")
        assert "SASRec can't recommend items that training lacked" in told
        assert "content_metric" in told
    save(tmp_path / "short.npy", np.zeros((1, 3), np.float32), ["x"])
    assert "have 3 numbers, those of the catalogue 6" in refused(*said, "recommend.new_items=short.npy")
    Path("told.csv").write_text("item\nnobody\n", encoding="utf-8")
    assert "none is of an item" in refused(*said, "recommend.new_items=told.csv")


def test_from_its_title_alone(cli: Cli) -> None:
    """An item with only a title, by the packaged encoder."""
    Path("items.csv").write_text('item,title\nnew,"Item of niche 2"\nold,\n', encoding="utf-8")
    words = ("data.split.warm=0.1", "encode=minilm", "data.encode.text.dim=8", "data.encode.text.whiten=true")
    more = ("recommend.model=alone", "recommend.new_items=items.csv", "recommend.k=80", "run.name=r")
    assert cli("recommend", *FEW, *words, *STUDENT, *more) == 0
    items = {row["item"]: row["title"] for row in lists("r")}
    assert items["new"] == "Item of niche 2"
    assert "old" not in items


def test_without_an_encoder(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    Path("items.csv").write_text("item,title\nnew,x\n", encoding="utf-8")
    assert cli("recommend", "recommend.model=alone", "recommend.new_items=items.csv") == 2
    assert "no encoder makes vectors" in capsys.readouterr().err


def test_a_split_of_cold_items_alone_ranks_nothing(
    vectors: np.ndarray,
    cli: Cli,
    capsys: pytest.CaptureFixture[str],  # type: ignore[type-arg]
) -> None:
    del vectors
    assert cli("run", *LINE, "data.split.warm=0") == 2
    assert "data.split.warm=0.1" in capsys.readouterr().err
