"""Ensembles against plain loops in float64, and where their members come from and go to."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions, Schema
from recdistill.data.rows import Rows
from recdistill.distillers.views import ModelView
from recdistill.export.bundle import load_model, save_model
from recdistill.models import ensemble
from recdistill.models.base import RankingModel, TableModel
from recdistill.models.ensemble import RankingEnsemble, RatingEnsemble, SequenceEnsemble, TableEnsemble
from recdistill.models.given import GivenLists
from recdistill.models.lightgcn import LightGCN
from recdistill.models.linear import EASE
from recdistill.models.mf import MF

NET = "recdistill.models."
MEMBERS: dict[str, Any] = {
    "mf": {"net": {"_target_": f"{NET}mf.MF", "dim": 3, "init_std": 1.0}, "objective": None, "fit": None},
    "graph": {"net": {"_target_": f"{NET}lightgcn.LightGCN", "dim": 4, "init_std": 1.0}},
    "ease": {"net": {"_target_": f"{NET}linear.EASE", "l2": 1.0}},
}


def made(schema: Schema, train: Interactions, combine: str) -> RankingEnsemble:
    torch.manual_seed(0)
    members: dict[str, RankingModel] = {
        "mf": MF(schema, dim=3, init_std=1.0), "graph": LightGCN(schema, dim=4, init_std=1.0), "ease": EASE(schema, 1.0)
    }  # fmt: skip
    for member in members.values():
        member.bind(train)
    members["ease"].fit(train)  # type: ignore[operator]
    model = RankingEnsemble(schema, MEMBERS, combine)  # type: ignore[arg-type]
    model.make(None, members)
    model.bind(train)
    return model.eval().requires_grad_(False)


def combined(scores: list[Any], seen: set[int], combine: str) -> Any:
    """Of one user, by the formulas."""
    n = len(scores[0])
    standard = [(z - z.mean()) / z.std() for z in scores]
    if combine == "zscore":
        return sum(standard) / len(standard)
    if combine == "rank":
        total = np.zeros(n)
        for z in scores:
            left = [-math.inf if i in seen else z[i] for i in range(n)]
            for i in range(n):
                equals = [one == left[i] for one in left]
                total[i] += 1 / (60 + sum(one > left[i] for one in left) + (1 + sum(equals)) / 2)
        return np.log(total)
    sharp = []
    for z in standard:
        top = sorted((z[i] for i in range(n) if i not in seen), reverse=True)
        p = np.exp(top) / np.exp(top).sum()
        sharp.append(1 + (p * np.log(p)).sum() / math.log(n))
    return sum(s * z for s, z in zip(sharp, standard, strict=True)) / sum(sharp)


@pytest.mark.parametrize("combine", ["zscore", "rank", "confidence"])
def test_ranking_is_the_formula(combine: str, schema: Schema, train: Interactions) -> None:
    model, users = made(schema, train, combine), torch.tensor([3, 0, 11])
    found = model.scores(users)
    for row, user in enumerate(users):
        one = [member.scores(user.view(1))[0].double().numpy() for member in model.parts()]
        seen = set(train.csr.take(user.view(1)).indices.tolist())
        np.testing.assert_allclose(found[row], combined(one, seen, combine), rtol=1e-4, atol=1e-5)
    items = torch.tensor([[1, 2], [16, 0], [5, 5]])
    assert torch.equal(model.scores(users, items), found.gather(1, items))
    assert torch.equal(model.scores(users, items[0]), found[:, items[0]])


def test_items_of_many_users_are_scored_in_chunks(
    schema: Schema, train: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, items = made(schema, train, "zscore"), torch.tensor([4, 1])
    whole = model.scores(torch.arange(12), items)
    monkeypatch.setattr(ensemble, "CHUNK", 5 * schema.n_items)
    assert torch.allclose(model.scores(torch.arange(12), items), whole, atol=1e-6)
    view = ModelView(model, torch.arange(12), train.csr)
    assert torch.allclose(view.flipped(torch.tensor([4, 1])).scores(), whole.T, atol=1e-6)


@pytest.mark.parametrize("combine", ["zscore", "rank", "confidence"])
def test_new_users_and_another_process(combine: str, schema: Schema, train: Interactions, tmp_path: Path) -> None:
    """What is stored is all that is needed, and known histories give the scores of who has them."""
    model = made(schema, train, combine)
    net = {"_target_": f"{NET}ensemble.RankingEnsemble", "_recursive_": False, "combine": combine, "members": MEMBERS}
    save_model(tmp_path, model, net)
    again = load_model(tmp_path, train)
    assert torch.equal(again.scores(torch.arange(12)), model.scores(torch.arange(12)))
    alone = RankingEnsemble(schema, {"ease": MEMBERS["ease"]}, combine)  # type: ignore[arg-type]
    alone.make(None, {"ease": model.parts()[2]})
    alone.bind(train)
    users = torch.tensor([2, 5])
    torch.testing.assert_close(alone.fold_in(train.csr.take(users)), alone.scores(users))
    nobody = Csr.from_pairs(torch.empty(0).long(), torch.empty(0).long(), 1)
    assert bool(model.fold_in(nobody).isfinite().all())


@pytest.mark.parametrize("combine", ["zscore", "rank", "confidence"])
def test_alike_scores_and_full_histories(combine: str) -> None:
    """Of no use, but finite: a model that says nothing, and a user who has everything."""
    flat, own = torch.zeros(2, 5), torch.randn(2, 5)
    seen = Csr.from_pairs(torch.zeros(5).long(), torch.arange(5), 2)
    found = ensemble.together([flat, own], seen, combine)
    assert bool(found.isfinite().all())
    assert bool(ensemble.together([own * 1e8, own * 1e-8], seen, combine).isfinite().all())


@pytest.mark.parametrize("combine", ["zscore", "rank", "confidence"])
def test_who_scores_all_alike_has_no_vote(combine: str) -> None:
    """By row: the others decide as if it were not there, and its number matters as little as the items' order."""
    torch.manual_seed(0)
    one, other, seen = torch.randn(3, 9), torch.randn(3, 9), Csr.from_pairs(torch.tensor([1]), torch.tensor([4]), 3)
    some = other.clone()
    some[0], some[2] = 0.1, 0.0
    found = ensemble.together([one, some], seen, combine)
    alone, both = (ensemble.together(parts, seen, combine) for parts in ([one], [one, other]))
    torch.testing.assert_close(found[0] - found[0].mean(), alone[0] - alone[0].mean(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[1], both[1])
    torch.testing.assert_close(found[2] - found[2].mean(), alone[2] - alone[2].mean(), rtol=1e-4, atol=1e-6)
    nobody = ensemble.together([some[2:], some[2:]], seen.take(torch.tensor([2])), combine)
    assert len(nobody.unique()) == 1


@pytest.mark.parametrize("combine", ["zscore", "rank", "confidence"])
def test_lists_that_lack_a_user_have_no_vote(combine: str, schema: Schema, train: Interactions) -> None:
    """And what no list has comes in no order of ids."""
    members: dict[str, Any] = {"given": GivenLists(schema, "x", k=3), "mf": MF(schema, dim=3, init_std=1.0)}
    given = members["given"]
    given.length[1:], given.items[:], given.score[:] = 3, torch.tensor([7, 2, 9]), torch.tensor([3.0, 2.0, 1.0])
    nets: dict[str, Any] = {
        "given": {"net": {"_target_": f"{NET}given.GivenLists", "path": "x"}}, "mf": MEMBERS["mf"]
    }  # fmt: skip
    model, alone = (RankingEnsemble(schema, {name: nets[name] for name in names}, combine)  # type: ignore[arg-type]
                    for names in (("given", "mf"), ("mf",)))  # fmt: skip
    for one in (model, alone):
        one.make(None, {name: members[name] for name in one.members})
        one.bind(train)
    with torch.no_grad():
        found, expected = (one.scores(torch.arange(12)) for one in (model, alone))
    assert found[0].argsort().equal(expected[0].argsort())
    assert not found[1].argsort().equal(expected[1].argsort())
    assert model.informed is None, "the other member knows all"
    only = RankingEnsemble(schema, {"given": nets["given"]}, combine)  # type: ignore[arg-type]
    only.make(None, {"given": given})
    only.bind(train)
    assert only.informed is not None
    assert only.informed.tolist() == [False] + [True] * 11
    seen = train.csr.rows(torch.tensor([1]))[1].tolist()
    rest = [item for item in range(schema.n_items) if item not in (7, 2, 9, *seen)]
    assert len(only.scores(torch.tensor([1]))[0, rest].unique()) == 1


@pytest.mark.parametrize("combine", ["zscore", "confidence"])
def test_sequences_add_their_standardised_scores(combine: str) -> None:
    schema = Schema(n_items=30, max_length=6)
    members: dict[str, Any] = {
        "a": {"net": {"_target_": f"{NET}gru4rec.GRU4Rec", "dim": 4}},
        "b": {"net": {"_target_": f"{NET}sasrec.SASRec", "dim": 8}},
    }
    torch.manual_seed(0)
    model = SequenceEnsemble(schema, members, combine).eval()  # type: ignore[arg-type]
    history = torch.tensor([[3, 4, 5, 30, 30, 30], [1, 2, 3, 4, 5, 6], [30] * 6])
    with torch.no_grad():
        found = model.query(history) @ model.item_matrix().T
        scores = [(m.query(history) @ m.item_matrix().T).double().numpy() for m in model.parts()]
    for row in range(2):
        expected = combined([z[row] for z in scores], set(), combine)
        np.testing.assert_allclose(found[row], expected - expected.mean(), atol=1e-4)
    assert not found[2].any()


class Fixed(TableModel):
    """Gives what it is told."""

    def __init__(self, output: Tensor):
        super().__init__(Schema())
        self.output = output

    def forward(self, rows: Rows) -> Tensor:  # noqa: ARG002
        return self.output


ROWS = Rows(torch.zeros(7, 0).long(), torch.zeros(7, 0))


def of_rows(kind: type[Any], outputs: list[Tensor], *combine: str) -> Tensor:
    model = kind.__new__(kind)
    TableModel.__init__(model, Schema())
    model.make(None, {str(n): Fixed(output) for n, output in enumerate(outputs)})
    if combine:
        (model.combine,) = combine
    found: Tensor = model(ROWS)
    return found


@pytest.mark.parametrize("classes", [0, 4])
def test_tables_answer_by_their_formulas(classes: int) -> None:
    torch.manual_seed(0)
    outputs = [3 * torch.randn((7, classes) if classes else (7,)) for _ in range(3)]
    mean = torch.stack(outputs).mean(0)
    assert torch.allclose(of_rows(TableEnsemble, outputs, "logit"), mean)
    assert torch.allclose(of_rows(RatingEnsemble, outputs), mean)
    as_probability = torch.sigmoid if not classes else (lambda z: z.softmax(-1))
    p = [as_probability(z).double() for z in outputs]
    found = as_probability(of_rows(TableEnsemble, outputs, "probability").double())
    assert torch.allclose(found, sum(p) / 3, atol=1e-6)  # type: ignore[arg-type]
    surer = of_rows(TableEnsemble, outputs, "confidence")
    for row in range(7):
        sure = []
        for one in p:
            q = one[row] if classes else torch.stack([one[row], 1 - one[row]])
            sure.append(1 + float((q * q.log()).sum()) / math.log(len(q)))
        expected = sum(s * z[row] for s, z in zip(sure, outputs, strict=True)) / sum(sure)
        assert torch.allclose(surer[row], expected, atol=1e-4)


def test_sure_clicks_stay_finite() -> None:
    outputs = [torch.full((7,), 1e4), torch.full((7,), -1e4)]
    for combine in ("logit", "probability", "confidence"):
        assert bool(of_rows(TableEnsemble, outputs, combine).isfinite().all())


def test_members_are_copied_with_it(schema: Schema, train: Interactions) -> None:
    model = made(schema, train, "zscore")
    before = model.scores(torch.arange(3))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.parts()[0].user.weight.zero_()
    assert torch.equal(model.scores(torch.arange(3)), before)
