"""Models from files: lists and vectors of another program, by the ids of the data; files that do not fit."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from recdistill.data.interactions import Dataset, Interactions, Schema
from recdistill.distillers.base import Needs, on_list
from recdistill.distillers.signals import compute_signals
from recdistill.distillers.stored import StoredTeacher
from recdistill.distillers.views import ModelView
from recdistill.errors import InputError
from recdistill.export.bundle import load_model, save_model
from recdistill.models.given import GivenLists, GivenVectors

USERS = ["007", "7", "NA", "é"]
ITEMS = ["1", "01", "x", "y", "z", "NA"]
SCHEMA = Schema(len(USERS), len(ITEMS))
SEEN = [(0, 0), (1, 1), (2, 2), (3, 3)]


def data() -> Dataset:
    user, item = torch.tensor(SEEN).T
    train = Interactions(user, item, len(USERS), len(ITEMS))
    ids = [np.array(names, dtype=object) for names in ([*USERS, "a cold one"], [*ITEMS, "later"])]
    return Dataset(train, train, train, *ids, report={}, manifest={}, fingerprint="f")


def write(file: Path, rows: list[tuple[Any, ...]], by: str = "score") -> str:
    frame = pl.DataFrame(rows, schema=["user", "item", by], orient="row")
    if file.suffix == ".parquet":
        frame.write_parquet(file)
    else:
        frame.write_csv(file, separator="\t" if file.suffix == ".tsv" else ",")
    return str(file)


def lists(path: str, **more: Any) -> GivenLists:
    model = GivenLists(SCHEMA, path, **more)
    model.make(data(), {})
    return model.eval()


RANDOM = np.random.default_rng(0)
ROWS = [(USERS[u], ITEMS[i], float(RANDOM.normal())) for u in range(3) for i in (RANDOM.permutation(6)[: 3 + u])]


def oracle(rows: list[tuple[Any, ...]], k: int) -> list[list[tuple[int, float]]]:
    """The list of each user by a plain loop."""
    found = []
    for u, user in enumerate(USERS):
        own = [(ITEMS.index(i), s) for who, i, s in rows if who == user and (u, ITEMS.index(i)) not in SEEN]
        found.append(sorted(own, key=lambda pair: -pair[1])[:k])
    return found


@pytest.mark.parametrize("k", [2, 5, 100])
@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv"])
def test_scores_are_those_of_the_file(ending: str, k: int, tmp_path: Path) -> None:
    model = lists(write(tmp_path / f"lists.{ending}", ROWS), k=k)
    scores = model.scores(torch.arange(4))
    for user, own in enumerate(oracle(ROWS, k)):
        for item, score in own:
            assert scores[user, item].item() == pytest.approx(score)
        rest = [i for i in range(6) if i not in dict(own)]
        assert len({scores[user, i].item() for i in rest}) == 1
        if own:
            span = own[0][1] - own[-1][1] or max(1.0, abs(own[-1][1]))
            assert scores[user, rest[0]].item() == pytest.approx(own[-1][1] - span, abs=1e-6)
    assert scores[3].tolist() == [0.0] * 6
    items = torch.tensor([[3, 1], [0, 5]])
    assert torch.equal(model.scores(torch.tensor([2, 0]), items), scores[[2, 0]].gather(1, items))
    assert torch.equal(model.scores(torch.tensor([2, 0]), items[0]), scores[[2, 0]][:, items[0]])


def test_ranks_stand_for_scores(tmp_path: Path) -> None:
    """The n-th of what is left without training items scores -log n."""
    rows = [("007", "1", 0), ("007", "z", 7), ("007", "x", 1), ("007", "y", 4)]  # the first is a training item
    model = lists(write(tmp_path / "l.csv", rows, "rank"), rank="rank")
    assert model.scores(torch.tensor([0]))[0, [2, 3, 4]].tolist() == pytest.approx([0, -math.log(2), -math.log(3)])


@pytest.mark.parametrize(
    ("highest", "step"), [(1.0, 1e-12), (1_700_000_000.0, 1.0), (-16777215.0, 1.0), (5.0, 0.0), (1e-45, 2e-45)]
)
def test_scores_alike_in_single_precision_keep_their_order(highest: float, step: float, tmp_path: Path) -> None:
    order = ["z", "x", "NA", "y", "01"]
    rows = [("007", item, highest - step * place) for place, item in enumerate(order)]
    model, train = lists(write(tmp_path / "l.parquet", rows)), data().train
    compute_signals(model, train, Needs(top_k=6, scores=True), tmp_path / "signals")
    users = torch.tensor([0])
    for view in ModelView(model, users, train.csr), StoredTeacher(tmp_path / "signals").view(users):
        items, scores = view.top_items(6)
        found = [ITEMS[item] for item in items[0][on_list(scores[0])]]
        assert found == order if step else set(found) == set(order)
        assert view.scores()[0, [ITEMS.index(item) for item in order]].tolist() == pytest.approx(
            [score for *_, score in rows], abs=1e-6 * abs(highest) + 1e-40
        )


def test_distillers_see_the_list_alone(tmp_path: Path) -> None:
    """Live and stored, and with the roles swapped."""
    model, train = lists(write(tmp_path / "l.parquet", ROWS)), data().train
    needs = Needs(top_k=6, scores=True, top_users=4)
    compute_signals(model, train, needs, tmp_path / "signals")
    views = [ModelView(model, torch.arange(4), train.csr), StoredTeacher(tmp_path / "signals").view(torch.arange(4))]
    for view in views:
        items, scores = view.top_items(6)
        for user, own in enumerate(oracle(ROWS, 100)):
            kept = on_list(scores[user])
            assert items[user][kept].tolist() == [item for item, _ in own]
        flipped = view.flipped(torch.arange(6))
        users, scores = flipped.top_items(4)
        for item in range(6):
            having = {(u, s) for u, own in enumerate(oracle(ROWS, 100)) for i, s in own if i == item}
            order = [u for u, s in sorted(having, key=lambda pair: -pair[1])]
            assert users[item][on_list(scores[item])].tolist() == order


def test_comes_back_from_disk_without_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "l.parquet", ROWS)
    model = lists(path, k=4)
    save_model(tmp_path / "m", model, {"_target_": "recdistill.models.given.GivenLists", "path": path, "k": 4})
    Path(path).unlink()
    assert torch.equal(load_model(tmp_path / "m").scores(torch.arange(4)), model.scores(torch.arange(4)))


def test_strangers_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [*ROWS, ("stranger", "x", 1.0), ("7", "later", 2.0), ("a cold one", "x", 1.0)]
    with caplog.at_level(logging.INFO):
        model = lists(write(tmp_path / "l.csv", rows))
    assert "3 of 15 rows are of users or items that the training part lacks" in caplog.text
    assert "lists of 3 of 4 users" in caplog.text
    assert torch.equal(model.scores(torch.arange(4)), lists(write(tmp_path / "k.csv", ROWS)).scores(torch.arange(4)))


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_what_fills_a_short_list_is_none_of_it(ending: str, tmp_path: Path) -> None:
    rows = [("7", "x", 1.0), ("7", "y", np.finfo(np.float32).min.item()), ("7", "z", 2.0)]
    view = ModelView(lists(write(tmp_path / f"l.{ending}", rows)), torch.tensor([1]), data().train.csr)
    items, scores = view.top_items(6)
    assert items[0][on_list(scores[0])].tolist() == [4, 2]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("7", "x", 1.0), ("NA", "y", 1.0), ("7", "x", 2.0)], "user '7' has item 'x' 2 times"),
        ([("7", "x", 1.0), ("7", "y", float("nan"))], "a score that is no number up to 1e+37 in column 'score'"),
        ([("7", "x", 1.0), ("7", "y", float("inf"))], "a score that is no number up to 1e+37 in column 'score'"),
        ([("7", "x", 1.0), ("7", "y", 1e38)], "a score that is no number up to 1e+37 in column 'score'"),
        ([("7", "x", None), ("7", "y", -3.4028235e38)], "a score that is no number up to 1e+37 in column 'score'"),
        ([("7", None, 1.0)], "missing item id in column 'item'"),
        ([("0007", "x", 1.0), ("8", "y", 1.0)], "2 rows, and none is of a user and an item of the training part"),
        ([("007", "1", 1.0)], "lists what users have in the training part, and nothing else"),
    ],
)
def test_rows_that_are_refused(rows: list[Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        lists(write(tmp_path / "l.parquet", rows))
    assert said in error.value.what
    if "2 times" in said:
        assert error.value.where == f"{tmp_path}/l.parquet:1, {tmp_path}/l.parquet:3"
    if "no finite" in said and rows[0][2]:
        assert "l.parquet:2:score" in str(error.value.where)
    if "none is of" in said:
        assert "'0007', '8'" in str(error.value.why)
        assert "'007', '7', 'NA'" in str(error.value.why)


@pytest.mark.parametrize("score", [[1.0], b"\xff"])
def test_a_score_of_several_parts_is_no_number(score: object, tmp_path: Path) -> None:
    pl.DataFrame({"user": ["7"], "item": ["x"], "score": [score]}).write_parquet(tmp_path / "l.parquet")
    with pytest.raises(InputError) as error:
        lists(str(tmp_path / "l.parquet"))
    assert error.value.where == f"{tmp_path}/l.parquet:1:score"


@pytest.mark.parametrize("content", ["header", "blank", "damaged"])
def test_a_file_that_holds_nothing_is_named_by_its_own_key(content: str, tmp_path: Path) -> None:
    file = tmp_path / ("l.csv" if content == "blank" else "l.parquet")
    if content == "header":
        pl.DataFrame(schema={"user": pl.String, "item": pl.String, "score": pl.Float64}).write_parquet(file)
    else:
        file.write_text("\n\nx\n")
    with pytest.raises(InputError) as error:
        lists(str(file))
    assert "another file: net.path=FILE" in str(error.value.fix)


def ranked(file: Path, rows: list[tuple[Any, ...]]) -> str:
    frame = pl.DataFrame(rows, schema=["user", "rank", "item", "confidence"], orient="row", strict=False)
    if file.suffix == ".parquet":
        frame.write_parquet(file)
    else:
        frame.write_csv(file)
    return str(file)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_confidences_stay_with_their_items(ending: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Through training items, strangers, places that are not kept, and the disk."""
    rows = [("7", 3, "y", 0.25), ("7", 1, "01", 0.9), ("7", 5, "z", 0.75), ("7", 2, "who", 0.1), ("7", 9, "NA", 0.3),
            ("NA", 1, "y", 1.0), ("NA", 2, "1", 0.0)]  # fmt: skip
    path = ranked(tmp_path / f"l.{ending}", rows)
    net = {"rank": "rank", "confidence": "confidence", "k": 2}
    with caplog.at_level(logging.INFO):
        model = lists(path, **net)
    assert "1 of 7 rows are of users or items that the training part lacks" in caplog.text
    save_model(tmp_path / "m", model, {"_target_": "recdistill.models.given.GivenLists", "path": path, **net})
    for mine in (model, load_model(tmp_path / "m")):
        view = ModelView(mine, torch.tensor([2, 1, 0]), data().train.csr)
        items, scores = view.top_items(3)
        assert view.top_confidences(3).tolist() == [[1, 0, 0], [0.25, 0.75, 0], [0, 0, 0]]
        assert items[on_list(scores)].tolist() == [3, 0, 3, 4]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("7", 1, "x", 0.5), ("7", 2, "y", 1.001)], "a confidence that is not from 0 to 1 in column 'confidence'"),
        ([("7", 1, "x", -0.1)], "a confidence that is not from 0 to 1 in column 'confidence'"),
        ([("7", 1, "x", float("nan"))], "a confidence that is not from 0 to 1 in column 'confidence'"),
        ([("7", 1, "x", 0.5), ("7", 2, "y", None)], "a confidence that is not from 0 to 1 in column 'confidence'"),
        ([("7", 1, "x", 0.5), ("NA", 1, "x", 0.5), ("7", 1, "y", 0.5)], "user '7' has rank 1.0 2 times"),
        ([("7", 1, "x", 0.5), ("7", 2, "x", 0.5)], "user '7' has item 'x' 2 times"),
        ([("7", 1, "x", 0.5), ("7", None, "y", 0.5)], "a rank that is no number up to 1e+37 in column 'rank'"),
    ],
)
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_ranks_and_confidences_that_are_refused(rows: list[Any], said: str, ending: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        lists(ranked(tmp_path / f"l.{ending}", rows), rank="rank", confidence="confidence")
    assert said in error.value.what
    assert f"l.{ending}" in (error.value.where or "")


def test_a_column_of_confidences_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sure"):
        lists(ranked(tmp_path / "l.parquet", [("7", 1, "x", 0.5)]), rank="rank", confidence="sure")


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column 'score'") as error:
        lists(write(tmp_path / "l.csv", ROWS, "rating"))
    assert "net.score=COLUMN" in str(error.value.fix)
    assert "rating" in str(error.value.why)


@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_vectors_of_another_program(ending: str, tmp_path: Path) -> None:
    """In another order; who has none gets the mean of the others."""
    vectors = {side: RANDOM.normal(size=(len(ids), 3)).astype(np.float32) for side, ids in
               (("user", USERS), ("item", ITEMS))}  # fmt: skip
    for side, ids in (("user", USERS), ("item", ITEMS)):
        order, file = list(range(len(ids)))[::-1][:-1], tmp_path / f"{side}.{ending}"
        if ending == "npy":
            np.save(file, vectors[side][order])
            file.with_suffix(".ids").write_text("".join(f"{ids[n]}\n" for n in order), encoding="utf-8")
        else:
            rows = {side: [ids[n] for n in order], "vector": vectors[side][order].tolist()}
            pl.DataFrame(rows).write_parquet(file)
        vectors[side][0] = vectors[side][1:].mean(0)
    files = [str(tmp_path / f"{side}.{ending}") for side in ("user", "item")]
    model = GivenVectors(SCHEMA, *files, dim=3)
    model.make(data(), {})
    found = model.scores(torch.arange(4)).numpy()
    np.testing.assert_allclose(found, vectors["user"] @ vectors["item"].T, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="have 3 numbers, not 8") as error:
        GivenVectors(SCHEMA, *files, dim=8).make(data(), {})
    assert error.value.fix == "net.dim=3"
