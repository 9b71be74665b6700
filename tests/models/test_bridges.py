"""Bridges between domains against loops: vectors, scores, who is known, how close they are, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from recdistill.data.interactions import Dataset, Interactions, Schema
from recdistill.distillers.views import ModelView
from recdistill.errors import InputError
from recdistill.models.base import FactorModel
from recdistill.models.bridges import Carried, Reach, SharedCatalogue, SharedUsers, read_mapping, rows_of
from recdistill.models.closeness import RIDGE, source_probability


class Table(FactorModel):
    def __init__(self, user: Tensor, item: Tensor):
        super().__init__(Schema(len(user), len(item)))
        self.user, self.item = user, item

    def factors(self) -> tuple[Tensor, Tensor]:
        return self.user, self.item


def dataset(
    users: list[str], items: list[str], pairs: list[tuple[int, int]], labelled: list[bool] | None = None
) -> Any:
    user, item = (torch.tensor([pair[side] for pair in pairs]) for side in (0, 1))
    mask = None if labelled is None else torch.tensor(labelled)
    train = Interactions(user, item, len(users), len(items), labelled=mask)
    none = Interactions(user[:0], item[:0], len(users), len(items))
    return Dataset(train, none, none, np.array(users), np.array(items), {}, {"parts": {}}, "x")


def domains(seed: int, power: float) -> tuple[Any, Any, Table, SharedUsers]:
    """Source of users a..f, target of users c..i, in which each has some of five items; the last item has nobody."""
    rng = np.random.default_rng(seed)
    source = dataset(list("abcdef"), ["1", "2"], [(u, u % 2) for u in range(6)])
    pairs = [(u, i) for u in range(7) for i in range(4) if rng.random() < 0.5] or [(0, 0)]
    target = dataset(list("ifedgch"), list("pqrst"), pairs, [bool(rng.random() < 0.8) for _ in pairs])
    model = Table(torch.from_numpy(rng.normal(size=(6, 3))).float(), torch.zeros(2, 3))
    return source, target, model, SharedUsers(power)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20), st.sampled_from([0.0, 0.5, 1.0]))
def test_shared_users_score_by_their_neighbours_in_the_source(seed: int, power: float) -> None:
    source, target, model, bridge = domains(seed, power)
    carried, reach = bridge.cross(model, source, target)
    vector = {u: model.user[n].double() for n, u in enumerate(source.users)}
    taught = {pair for pair, labelled in zip(
        zip(target.train.user.tolist(), target.train.item.tolist(), strict=True), target.train.labelled.tolist(),
        strict=True) if labelled}  # fmt: skip
    for u, name in enumerate(target.users):
        assert bool(reach.queries[u]) is (name in vector)
        for i in range(5):
            owners = [v for v, j in taught if j == i and target.users[v] in vector]
            assert bool(reach.items[i]) is bool(owners)
            wanted = 0.0
            if name in vector:
                for v in owners:
                    cosine = torch.nn.functional.cosine_similarity(vector[name], vector[target.users[v]], dim=0)
                    wanted += float(cosine) / len(owners) ** power
            assert float(carried.scores(torch.tensor([u]))[0, i]) == pytest.approx(wanted, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20))
def test_closeness_is_the_auc_of_a_users_own_items_without_their_say(seed: int) -> None:
    source, target, model, bridge = domains(seed, 0.5)
    carried, reach = bridge.cross(model, source, target)
    taught = target.train.taught.csr
    found: dict[int, float] = {}
    for u in range(7):
        mine = taught.rows(torch.tensor([u]))[1].tolist()
        others = [i for i in range(5) if i not in mine and reach.items[i]]
        values = []
        for i in mine:
            count = sum(bool(reach.queries[v]) for v in range(7) if i in taught.rows(torch.tensor([v]))[1])
            score = float(carried.user[u] @ carried.item[i]) - float(carried.user[u].square().sum()) * max(
                count, 1) ** -0.5  # fmt: skip
            rivals = (carried.user[u] @ carried.item[others].T).tolist()
            values.append(sum((score > s) + (score == s) / 2 for s in rivals) / max(len(others), 1))
        if mine:
            found[u] = min(max(2 * float(np.mean(values)) - 1, 0), 1)
    for u in range(7):
        wanted = found.get(u, float(np.mean(list(found.values()))) if found else 0.0)
        assert float(reach.closeness[u]) == pytest.approx(wanted if reach.queries[u] else 0.0, abs=2e-4)


def test_what_the_teacher_does_not_know_is_on_no_list() -> None:
    reach = Reach(torch.tensor([True, False]), torch.tensor([True, False, True]), torch.ones(2))
    model = Carried.of(Schema(2, 3), torch.tensor([[1.0], [0.0]]), torch.tensor([[-1.0], [0.0], [-2.0]]), reach)
    train = Interactions(torch.tensor([0]), torch.tensor([2]), 2, 3)
    view = ModelView(model, torch.tensor([0, 1]), train.csr)
    items, scores = view.top_items(2)
    assert items[0, 0] == 0
    assert scores.isinf().tolist() == [[False, True], [True, True]]
    users, scores = view.flipped(torch.tensor([0, 1])).top_items(2)
    assert users[0, 0] == 0
    assert scores.isinf().tolist() == [[False, True], [True, True]]


def test_no_common_user_is_refused() -> None:
    source, target, model, bridge = domains(0, 0.5)
    with pytest.raises(InputError, match="no user"):
        bridge.cross(model, source, replace(target, users=np.array([f"{u}!" for u in target.users])))


WORDS = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=3)  # numpy cuts zeros off the end


@given(st.lists(WORDS, unique=True), st.lists(WORDS))
def test_ids_are_labels(ids: list[str], wanted: list[str]) -> None:
    found = rows_of(np.array(wanted, dtype=object), np.array(ids, dtype=object))
    assert found.tolist() == [ids.index(word) if word in ids else -1 for word in wanted]
    assert rows_of(np.array(["01", "NA"]), np.array(["1", "NA"])).tolist() == [-1, 1]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_mapping_renames_scores_and_vectors(tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / f"ids.{form}"
    frame = pl.DataFrame({"teacher_id": ["02", "NA", "9"], "item_id": ["x", "z", "y"]})
    frame.write_csv(file) if form == "csv" else frame.write_parquet(file)
    source = dataset(["a", "b"], ["1", "02", "NA"], [(0, 0), (1, 1), (1, 2)])
    target = dataset(["b", "c"], ["x", "y", "z"], [(0, 0), (1, 1), (1, 2)])
    model = Table(torch.randn(2, 4), torch.randn(3, 4))
    with caplog.at_level("INFO"):
        carried, reach = SharedCatalogue(str(file)).cross(model, source, target)
    assert reach.queries.tolist() == [True, False]
    assert reach.items is not None
    assert reach.items.tolist() == [True, False, True]
    users, items = torch.tensor([0]), torch.tensor([0, 2])
    assert torch.equal(carried.scores(users, items), model.scores(torch.tensor([1]), torch.tensor([1, 2])))
    assert torch.equal(carried.item[items], model.item[1:])
    assert "2 of 3 items are the teacher's under another id, 1 of its 3 rows" in caplog.text


def test_a_teacher_of_another_catalogue_needs_a_mapping(tmp_path: Path) -> None:
    source, target, model, _ = domains(0, 0.5)
    with pytest.raises(InputError, match="another catalogue") as caught:
        SharedCatalogue(None).cross(model, source, target)
    assert "transfer.mapping=FILE.csv" in str(caught.value.fix)
    file = tmp_path / "ids.csv"
    file.write_text("teacher_id,item_id\n8,p\n")
    with pytest.raises(InputError, match="maps no item"):
        SharedCatalogue(str(file)).cross(model, source, target)


@pytest.mark.parametrize(("text", "match"), [
    ("teacher_id,item_id\n1,p\n2,p\n", "item 'p' has two rows"),
    ("teacher_id,item_id\n,p\n", "without teacher_id"),
    ("teacher,item_id\n1,p\n", "teacher_id"),
])  # fmt: skip
def test_a_bad_mapping_is_refused(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "ids.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=match):
        read_mapping(str(file))


def test_one_teacher_id_may_be_two_items(tmp_path: Path) -> None:
    file = tmp_path / "ids.csv"
    file.write_text("teacher_id,item_id\n1,p\n1,q\n")
    source, target, model, _ = domains(0, 0.5)
    carried, _ = SharedCatalogue(str(file)).cross(Table(model.user, torch.randn(2, 3)), source, target)
    assert torch.equal(carried.item[0], carried.item[1])
    assert carried.item[0].any()


def test_the_domain_is_told_by_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(0, 1, (300, 3)), rng.normal(0.7, 1.3, (90, 3))
    found = source_probability(torch.from_numpy(source), torch.from_numpy(target))
    both = np.concatenate([source, target])
    both = (both - both.mean(0)) / both.std(0, ddof=1)
    label = np.repeat([1, 0], [300, 90])
    both = np.concatenate([both, np.ones((len(both), 1))], 1)
    weight = np.where(label, 0.5 / 300, 0.5 / 90)
    oracle = LogisticRegression(C=1 / RIDGE, fit_intercept=False, tol=1e-10, max_iter=1000)
    oracle.fit(both, label, sample_weight=weight)
    np.testing.assert_allclose(found.numpy(), oracle.predict_proba(both[300:])[:, 1], atol=1e-5)
    assert float(source_probability(torch.from_numpy(source), torch.from_numpy(source)).sub(0.5).abs().max()) < 1e-6
