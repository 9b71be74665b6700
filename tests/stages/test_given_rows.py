"""Teachers of rows from files: what another library said of clicks, ratings and classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from task_kit import command

from recdistill.data import store
from recdistill.data.features import Features, sizes_of
from recdistill.data.interactions import Examples, Schema, TableDataset
from recdistill.data.rows import Rows
from recdistill.models.given_rows import GivenRows

ensemble = pytest.importorskip("sklearn.ensemble", reason="trains trees as a teacher from outside")
TRAIN = ("student.fit.epochs=5", "student.fit.batch_size=64", "student.fit.lr=0.02", "logger=none", "trainer=cpu")
CLICKS = ("task=ctr", "data=click_csv", "data.path=clicks.csv", "data.label=click", "data.categorical=[id,device,hour]",
          "data.privileged=[id]", "data.numeric=[age]", "data.part=part", "data/split=given", "student=fm",
          "student.net.dim=4", "distiller=bce_soft", "teacher=rows", "teacher.path=scores.parquet", "teacher.keys=[id]",
          "teacher.form=probability", *TRAIN)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Clicks that depend on a number in a way that trees see and a linear term does not; ids such as 007."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    n = 900
    device, hour, age = rng.integers(0, 3, n), rng.integers(0, 8, n), rng.uniform(-3, 3, n).round(3)
    click = (rng.random(n) < 1 / (1 + np.exp(2 - 3 * (np.abs(age) > 1.5) - device))).astype(int)
    part = np.array(["train"] * 600 + ["valid"] * 150 + ["test"] * 150)
    frame = pl.DataFrame({"id": [f"{i:04d}" for i in range(n)], "click": click, "device": device, "hour": hour,
                          "age": age, "part": part})  # fmt: skip
    frame.write_csv("clicks.csv")
    inputs, train = np.stack([device, hour, age], 1), part == "train"
    model = ensemble.GradientBoostingClassifier(random_state=0).fit(inputs[train], click[train])
    p = model.predict_proba(inputs)[:, 1]
    frame.select("id", "click", "part", score=p).sample(fraction=1, shuffle=True, seed=1).write_parquet("all.parquet")
    pl.read_parquet("all.parquet").filter(pl.col("part") == "train").write_parquet("scores.parquet")
    return tmp_path


def models(folder: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((folder / "outputs" / name / "metrics.json").read_text(encoding="utf-8"))["models"])


def test_trees_of_another_library_teach_clicks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("run", [*CLICKS, "teacher.evaluated=false", "run.name=r"]) == 0
    summary = json.loads((folder / "outputs/r/summary.json").read_text(encoding="utf-8"))
    assert [row["role"] for row in summary["rows"]] == ["alone", "student"]
    assert any("not of the test part" in note for note in summary["notes"])
    assert command("verify", [str(folder / "outputs/r")]) == 0
    # What is stored is what the file says of each row, whatever its place there.
    (at,) = folder.glob("outputs/cache/signals/*/signals.safetensors")
    data = store.load(next(folder.glob("outputs/cache/data/*/dataset.json")).parent)
    assert isinstance(data, TableDataset)
    ids = data.train.features.vocabularies["id"][data.train.features.categorical["id"].numpy()]
    said = dict(pl.read_parquet("scores.parquet").select("id", "score").iter_rows())
    stored = load_file(at)["scores"][:, 1].double()
    torch.testing.assert_close(stored.sigmoid(), torch.tensor([said[i] for i in ids], dtype=torch.float64),
                               rtol=1e-4, atol=1e-6)  # fmt: skip
    capsys.readouterr()
    # A file without the other parts gives the teacher no row, and says so where one is wanted.
    assert command("distill", list(CLICKS)) == 2
    assert "teacher.evaluated=false" in capsys.readouterr().err


def test_a_file_of_all_rows_gives_the_teacher_its_row_where_its_keys_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of pairs of user and item, both of which training knows, the test rows are known too."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    pairs = np.array([(u, i) for u in range(30) for i in range(20)])[rng.permutation(600)[:500]]
    taste, kind = rng.normal(size=(30, 2)), rng.normal(size=(20, 2))
    true = (taste[pairs[:, 0]] * kind[pairs[:, 1]]).sum(1)
    rating = (3 + true + 0.3 * rng.normal(size=500)).clip(1, 5).round(3)
    columns = {"user": pairs[:, 0].astype(str), "item": pairs[:, 1].astype(str)}
    pl.DataFrame({**columns, "rating": rating}).write_csv("log.csv")
    pl.DataFrame({**columns, "score": 3 + true}).write_csv("scores.csv")
    words = ("task=rating", "data=csv", "data.path=log.csv", "data.value=rating", "data/split=random",
             "teacher=rows", "teacher.path=scores.csv", "teacher.keys=[user,item]", "teacher.form=value",
             "student=biased_mf", "student.net.dim=2", "distiller=soft_label", *TRAIN, "run.name=r")  # fmt: skip
    assert command("distill", list(words)) == 0
    found = models(tmp_path, "r")
    data = store.load(next(tmp_path.glob("outputs/cache/data/*/dataset.json")).parent)
    said = {(u, i): s for u, i, s in pl.read_csv("scores.csv", schema_overrides={"user": str, "item": str}).iter_rows()}
    error = [said[data.users[u], data.items[i]] - float(v)
             for u, i, v in zip(data.valid.user, data.valid.item, data.valid.value, strict=True)]  # fmt: skip
    assert found["teacher"]["metrics"]["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(error))), rel=1e-4)
    assert found["teacher"]["metrics"]["rmse"] < found["student alone"]["metrics"]["rmse"]


def test_classes_have_a_column_each(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    p, ids = rng.dirichlet(np.ones(3), 50), rng.permutation(50)
    scores = {f"p{c}": p[:, c] for c in range(3)}
    pl.DataFrame({"id": [f"r{i}" for i in range(50)], **scores}).write_csv(tmp_path / "p.csv")
    words = np.array(["", *(f"r{i}" for i in ids)], dtype=object)
    features = Features({"id": torch.arange(1, 51)}, vocabularies={"id": words})
    train = Examples(torch.zeros(50), features)
    schema = Schema(features=sizes_of(features), n_outputs=3)
    model = GivenRows(schema, str(tmp_path / "p.csv"), ["id"], ["p0", "p1", "p2"], "probability")
    model.make(TableDataset(train, train, train, {}, {}, ""), {})
    expected = torch.tensor(p[ids])
    found = model(Rows.of(features, 50))
    torch.testing.assert_close(found.double().softmax(-1), expected, rtol=1e-4, atol=1e-6)
    unknown = Rows(torch.tensor([[0], [3]]), torch.zeros(2, 0))
    assert model(unknown).isnan().tolist() == [[True] * 3, [False] * 3]


@pytest.mark.parametrize(
    ("change", "more", "what"),
    [
        (lambda f: f.head(590), (), "10 of 600 training rows have no row"),
        (lambda f: f.with_columns(pl.when(pl.col("id") == "0003").then(None).otherwise("score").alias("score")), (),
         "1 scores are no probability"),
        (lambda f: f.with_columns(pl.lit(float("nan")).alias("score")), (), "600 scores are no probability"),
        (lambda f: f.with_columns(score=pl.col("score") * 3), (), "are no probability"),
        (lambda f: f.with_columns(id=pl.col("id").cast(pl.Int64).cast(pl.String)), (), "have no row"),  # 007 is not 7
        (lambda f: pl.concat([f, f.head(3)]), (), "do not tell the rows apart"),
        (lambda f: f, ("teacher.keys=[idd]",), "no categorical column 'idd'"),
        (lambda f: f, ("data.categorical=[device,hour]", "data.privileged=[]"),
         "data.categorical=[device,hour,id] data.privileged=[id] reads it"),
        (lambda f: f.rename({"score": "says"}), ("teacher.keys=[id]",), "in place of 'score' in teacher.scores"),
        (lambda f: f.rename({"id": "key"}), ("teacher.keys=[id]",), "in place of 'id' in teacher.keys"),
        (lambda f: f, ("teacher.scores=[score,click]",), "2 columns of scores for 1 outputs"),
        (lambda f: f, ("teacher.path=none.parquet",), "where: teacher.path"),
    ],
)  # fmt: skip
def test_refusals(folder: Path, capsys: pytest.CaptureFixture[str], change: Any, more: tuple[str, ...],
                  what: str) -> None:  # fmt: skip
    change(pl.read_parquet(folder / "scores.parquet")).write_parquet(folder / "scores.parquet")
    keys = {word.partition("=")[0] for word in more}
    words = [word for word in CLICKS if word.partition("=")[0] not in keys]
    assert command("distill", [*words, "teacher.evaluated=false", *more]) == 2
    assert what in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("form", "scores", "said"),
    [
        ("logit", [0.0, 0.3, 1.0], True),
        ("probability", [0.0, 0.3, 1.0], False),
        ("value", [0.0, 0.3, 1.0], False),
        ("logit", [-0.1, 0.3, 1.0], False),
        ("logit", [0.1, 0.3, 1.1], False),
    ],
)
def test_probabilities_that_are_read_as_logits_are_said(
    form: Any, scores: list[float], said: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pl.DataFrame({"id": ["a", "b", "c"], "score": scores}).write_csv(tmp_path / "s.csv")
    features = Features({"id": torch.arange(1, 4)}, vocabularies={"id": np.array(["", "a", "b", "c"], dtype=object)})
    train = Examples(torch.zeros(3), features)
    model = GivenRows(Schema(features=sizes_of(features)), str(tmp_path / "s.csv"), ["id"], ["score"], form)
    model.make(TableDataset(train, train, train, {}, {}, ""), {})
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text for text in warnings if "teacher.form=probability" in text] == warnings
    assert len(warnings) == said


def test_trees_are_better_than_the_student_alone(folder: Path) -> None:
    """The teacher of this test has something to teach."""
    frame = pl.read_parquet(folder / "all.parquet").filter(pl.col("part") == "valid")
    assert command("distill", [*CLICKS, "teacher.evaluated=false", "run.name=d"]) == 0
    found = models(folder, "d")
    yes, no = (frame.filter(pl.col("click") == click)["score"].to_numpy() for click in (1, 0))
    auc = float((yes[:, None] > no).mean())
    assert auc > found["student alone"]["metrics"]["auc"] + 0.05
    assert found["student distilled"]["weights_hash"] != found["student alone"]["weights_hash"]
