"""Tuning baselines on the validation part: what is tried, what is kept, what is said (E12, E13)."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_kit import models, tree, weights

from recdistill.data.sources.synthetic import Synthetic
from recdistill.data.store import load as load_data
from recdistill.errors import InputError
from recdistill.evaluation.ranking import rank_all
from recdistill.models.linear import EASE
from recdistill.stages.tune import TRIALS, changed, combinations, dotted, edges, search, stated, trials, write_trials

Cli = Callable[..., int]
NODE: dict[str, Any] = {
    "net": {"_target_": "recdistill.models.linear.EASE", "l2": 250.0}, "objective": None, "fit": None,
}  # fmt: skip
QUICK = (
    "baselines.bpr_mf.net.dim=8", "baselines.bpr_mf.fit.epochs=2", "baselines.bpr_mf.fit.batch_size=256",
    "baselines.ials.net.dim=8",
)  # fmt: skip


def tuned(grid: Any) -> dict[str, Any]:
    return {**NODE, "tune": grid}


class TestCombinations:
    def test_a_node_without_a_grid_is_itself(self) -> None:
        for node in (NODE, tuned(None), tuned({})):
            assert combinations(node, "b.ease") == [NODE]

    def test_the_product_in_order_and_nothing_else_changed(self) -> None:
        knn = {"net": {"_target_": "recdistill.models.linear.ItemKNN", "k": 1, "shrinkage": 0.0, "idf": False}}
        found = combinations({**knn, "tune": {"net.k": [5, 7], "net.idf": [True, False]}}, "b.knn")
        assert [(node["net"]["k"], node["net"]["idf"]) for node in found] == [
            (5, True), (5, False), (7, True), (7, False),
        ]  # fmt: skip
        assert all(node["net"]["shrinkage"] == 0.0 and "tune" not in node for node in found)
        assert knn["net"]["k"] == 1

    @pytest.mark.parametrize(
        ("grid", "expected"),
        [
            ({"net.l22": [1.0]}, "did you mean net.l2?"), ({"l2": [1.0]}, "did you mean net.l2?"),
            ({"net.l2": 3.0}, "no list"), ({"net.l2": []}, "no list"), ({"net.l2": [1.0, -1.0]}, "greater than 0"),
            ({"net.l2": ["x"]}, "b.ease.net.l2"), ({"net._target_": ["os.getcwd"]}, "there is no net._target_"),
            ({"net": [{"_target_": "os.getcwd"}]}, "not allowed"), ({"tune": [1]}, "there is no tune"),
        ],
    )  # fmt: skip
    def test_what_can_not_be_tuned(self, grid: Any, expected: str) -> None:
        with pytest.raises(InputError) as caught:
            combinations(tuned(grid), "b.ease")
        assert expected in str(caught.value)
        assert "b.ease" in str(caught.value)

    def test_every_key_but_those_of_hydra(self) -> None:
        assert dotted(NODE) == ["net", "net.l2", "objective", "fit"]
        assert changed({"a": {"b": {"c": 1}, "d": 2}}, {"a.b.c": 3}) == {"a": {"b": {"c": 3}, "d": 2}}

    @pytest.mark.parametrize("count", [0, -1, 1.5, "x", True, None])
    def test_a_number_of_trials(self, count: Any) -> None:
        assert stated({}, "teacher") == 1
        assert stated({"trials": 12}, "teacher") == 12
        with pytest.raises(InputError, match="no number of trials"):
            stated({"trials": count}, "teacher")

    def test_a_grid_of_a_teacher_is_not_passed_over_in_silence(self) -> None:
        with pytest.raises(InputError, match="not tuned"):
            stated({"tune": {"net.dim": [1, 2]}}, "teacher")


def fit(node: dict[str, Any], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "model").write_text(str(node["n"]))


class TestSearch:
    @settings(max_examples=40, deadline=None)
    @given(scores=st.lists(st.integers(0, 3), min_size=1, max_size=6), stop=st.integers(0, 9), after=st.booleans())
    def test_the_first_of_the_best_also_when_it_was_killed(
        self, scores: list[int], stop: int, after: bool, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Killed in the middle of any trial or of judging it, and started again."""
        folder = tmp_path_factory.mktemp("search")
        made: list[int] = []

        def fails(node: dict[str, Any], where: Path) -> None:
            if not after and node["n"] == stop:
                where.mkdir()
                raise KeyboardInterrupt
            made.append(node["n"])
            fit(node, where)

        def judge(where: Path, *, fails: bool = False) -> float:
            number = int((where / "model").read_text())
            if fails and after and number == stop:
                raise KeyboardInterrupt
            return float(scores[number])

        choices = [{"n": number} for number in range(len(scores))]
        try:
            values = search(folder, choices, fails, lambda where: judge(where, fails=True))
        except KeyboardInterrupt:
            values = search(folder, choices, lambda node, where: (made.append(node["n"]), fit(node, where))[1], judge)
        assert values == scores
        assert (folder / "model").read_text() == str(scores.index(max(scores)))
        assert tree(folder) == ["model", TRIALS]
        assert sorted(set(made)) == list(range(len(scores)))
        assert len(made) == len(scores) + (after and stop < len(scores))


def rows_of(run: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads((run / "summary.json").read_text())["rows"]}


def test_e13_the_five_baselines_are_one_word_away(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And E12: the student alone is there, and every row has its number of trials."""
    assert cli("run", "baselines=standard", *QUICK, "run.name=a", "+teacher.trials=7", "compression=[quantize]") == 0
    text, run = capsys.readouterr().out, tmp_path / "outputs/a"
    rows = rows_of(run)
    grids = {"popularity": 1, "item_knn": 12, "ease": 5, "ials": 12, "bpr_mf": 4}
    assert {name for name, row in rows.items() if row["role"] == "baseline"} == set(grids)
    assert {name: rows[name]["trials"] for name in grids} == grids
    assert rows["student alone"]["trials"] == rows["student distilled"]["trials"] == rows["quantize"]["trials"] == 1
    assert rows["teacher"]["trials"] == rows["teacher int8"]["trials"] == 7
    assert "12 trials" in text
    assert "12 trials" in (run / "table.md").read_text()
    assert "12 trials" in (run / "report.html").read_text()
    with (run / "summary.csv").open() as file:
        assert {row["name"]: int(row["trials"]) for row in csv.DictReader(file)} == {
            name: row["trials"] for name, row in rows.items()
        }
    assert json.loads((run / "models" / "ease" / TRIALS).read_text())["tried"][0] == {"net.l2": 50.0}

    assert cli("run", "baselines=standard", *QUICK, "run.name=b", "+teacher.trials=7", "compression=[quantize]") == 0
    assert "tuning" not in capsys.readouterr().out
    assert {name: row["weights_hash"] for name, row in rows_of(tmp_path / "outputs/b").items()} == {
        name: row["weights_hash"] for name, row in rows.items()
    }


def test_the_best_on_the_validation_part_is_the_row(cli: Cli, tmp_path: Path) -> None:
    """Against fitting and ranking every choice by hand."""
    values = [0.5, 3000.0, 20.0, 20.0]
    assert cli("run", "baselines=[ease]", f"baselines.ease.tune={{net.l2:{values}}}", "distiller=none") == 0
    found = json.loads((models(Path("outputs/cache"), "tune")[0] / TRIALS).read_text())
    data = load_data(models(tmp_path / "outputs/cache", "data")[0], ("train", "valid"))
    expected, hashes = [], []
    for l2 in values:
        model = EASE(data.schema, l2=l2)
        model.fit(data.train)
        ranked = rank_all(
            model.scores, users=torch.arange(data.train.n_users), relevant=data.valid.csr, seen=data.train.csr,
            n_items=data.train.n_items,
        )  # fmt: skip
        expected.append(ranked.means()["ndcg@10"])
        hashes.append(model.weight)
    assert found["values"] == pytest.approx(expected, abs=1e-9)
    assert found["chosen"] == expected.index(max(expected))
    assert len(set(expected)) > 1, "else the test could not fail"
    from safetensors.torch import load_file

    kept = load_file(models(Path("outputs/cache"), "tune")[0] / "model.safetensors")["weight"]
    torch.testing.assert_close(kept, hashes[found["chosen"]])


@pytest.mark.parametrize(
    ("values", "best", "expected"),
    [([1, 2, 3], 1, ["a"]), ([1, 2, 3], 3, ["a"]), ([3, 1, 2], 2, []), ([1, 2], 1, []), (["x", "y", "z"], "x", []),
     ([False, True, 2], True, [])],
)  # fmt: skip
def test_a_best_value_at_the_edge_is_named(tmp_path: Path, values: list[Any], best: Any, expected: list[str]) -> None:
    scores = [float(value is best) for value in values]
    said = write_trials(tmp_path, {"a": values}, scores, "ndcg@10")
    assert ("at the edge of what was tried: a" in said) is bool(expected)
    assert edges(tmp_path) == expected


def given_files(folder: Path) -> list[str]:
    folder.mkdir(exist_ok=True)
    events = Synthetic(n_users=70, n_items=50, niches=6, seed=0).read().events.select("user", "item")
    part = torch.rand(events.height, generator=torch.Generator().manual_seed(0))
    for name, low, high in (("train", 0, 0.7), ("valid", 0.7, 0.85), ("test", 0.85, 1)):
        events.filter(pl.Series(((part >= low) & (part < high)).numpy())).write_csv(folder / f"{name}.csv")
    return ["data=files", f"data.path={folder}"]


def test_the_test_part_chooses_nothing(cli: Cli, tmp_path: Path) -> None:
    """With random rows in the test file the same values are found, and the same model is kept."""
    words = [*given_files(tmp_path / "in"), "baselines=[ease,ials]", "baselines.ials.net.dim=4", "distiller=none"]
    assert cli("run", *words, "cache=a") == 0
    rows = ["user,item", *(f"u{(7 * i) % 70:05},i{(11 * i) % 50:05}" for i in range(200))]
    (tmp_path / "in" / "test.csv").write_text("\n".join(rows) + "\n")
    assert cli("run", *words, "cache=b") == 0
    one, two = models(Path("a"), "tune"), models(Path("b"), "tune")
    assert len(one) == len(two) == 2
    assert [weights(folder) for folder in one] == [weights(folder) for folder in two]
    assert [(folder / TRIALS).read_text() for folder in one] == [(folder / TRIALS).read_text() for folder in two]


def test_without_a_validation_part_the_first_is_taken_and_said(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*given_files(tmp_path / "in"), "data.valid=null", "baselines=[popularity,ease]", "distiller=none"]
    assert cli("run", *words, "run.name=a") == 0
    assert "no validation part to tune on: ease" in " ".join(capsys.readouterr().out.split())
    row = rows_of(tmp_path / "outputs/a")["ease"]
    assert row["trials"] == 1
    info = json.loads((tmp_path / "outputs/a/models/ease/model.json").read_text())
    assert info["net"]["l2"] == 50.0


def test_a_wrong_grid_is_refused_before_anything_is_made(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for word, expected in (
        ("++baselines.ease.tune={net.l22:[1]}", "did you mean net.l2?"),
        ("baselines.ease.tune={net.l22:[1]}", "++baselines.ease.tune"),
        ("baselines.ease.tune={net.l2:[0]}", "baselines.ease.net.l2"),
        ("+teacher.trials=many", "teacher.trials"),
    ):
        assert cli("run", "baselines=[ease]", word) == 2
        assert expected in capsys.readouterr().err
    assert not (tmp_path / "outputs/cache").exists()


def test_check_tries_one_of_a_grid(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("check", "baselines=[ease,bpr_mf]", *QUICK[:3]) == 0
    text = capsys.readouterr().out
    assert "tuning" not in text
    assert "bpr_mf" in text
    assert not (tmp_path / "outputs").exists()


def test_one_model_of_a_search_is_kept(cli: Cli) -> None:
    assert cli("run", "baselines=[item_knn]", "distiller=none") == 0
    folder = models(Path("outputs/cache"), "tune")[0]
    assert tree(folder) == ["history.json", "model.json", "model.safetensors", "stamp.json", TRIALS]
    assert trials(folder) == 12
    shutil.rmtree(folder)
