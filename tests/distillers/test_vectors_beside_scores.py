"""Distillers of vectors where these are not the scores, as of NeuMF: as teacher, as student, live and stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from distiller_parts import make_mf
from safetensors.torch import load_file
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers import signals, stored
from recdistill.distillers.base import Distiller, Needs, Setting
from recdistill.distillers.experts import DE, PHR, TeacherAssistants
from recdistill.distillers.features import Hint
from recdistill.distillers.filtered import GraphFiltered
from recdistill.distillers.signals import check_needs, compute_signals
from recdistill.distillers.stored import StoredTeacher
from recdistill.distillers.teacher import LiveTeacher
from recdistill.distillers.topology import FTD, HTD
from recdistill.distillers.views import ModelView
from recdistill.errors import InputError
from recdistill.models.base import RankingModel, vector_size
from recdistill.models.neumf import NeuMF
from recdistill.tasks.batches import generator

USERS = torch.tensor([3, 1, 0, 3])
ITEMS = torch.tensor([5, 0, 5])
DISTILLERS: dict[str, Callable[[], Distiller]] = {
    "hint": lambda: Hint(items=9),
    "de": lambda: DE(experts=3, rows=9),
    "phr": lambda: PHR(rows=9),
    "teacher_assistants": lambda: TeacherAssistants(assistants=2, rank=2, rows=9),
    "ftd": lambda: FTD(rows=9),
    "htd": lambda: HTD(groups=2, rows=9),
    "graph_filtered": lambda: GraphFiltered(),
}
PAIRS = [("neumf", "neumf"), ("mf", "neumf"), ("neumf", "mf")]


def make_neumf(schema: Schema, seed: int, dim: int = 4) -> NeuMF:
    torch.manual_seed(seed)
    return NeuMF(schema, dim=dim, layers=2, init_std=1.0)


def made(kind: str, schema: Schema, seed: int, dim: int) -> RankingModel:
    return make_neumf(schema, seed, dim) if kind == "neumf" else make_mf(schema, seed, dim)


def prepared(name: str, student: RankingModel, teacher: RankingModel, train: Interactions) -> Distiller:
    distiller = DISTILLERS[name]()
    torch.manual_seed(7)
    distiller.prepare(Setting(vector_size(student), vector_size(teacher), train=train, queries=train.n_users))
    return distiller


@pytest.mark.parametrize("name", DISTILLERS)
@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_stored_vectors_teach_what_live_ones_do(
    schema: Schema, train: Interactions, tmp_path: Path, name: str, teacher: str, student: str
) -> None:
    model, learner = made(teacher, schema, 1, 6), made(student, schema, 2, 3)
    distiller = prepared(name, learner, model, train)
    compute_signals(model, train, distiller.needs(), tmp_path, chunk=2)
    live, stored = LiveTeacher(model, train), StoredTeacher(tmp_path)
    assert live.dim == stored.dim == vector_size(model)
    view = ModelView(learner, USERS, train.csr)
    losses = [distiller(view, answers.view(USERS), generator("cpu", 1)) for answers in (live, stored)]
    assert losses[0] > 0
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", DISTILLERS)
def test_the_tables_of_the_product_learn_and_nothing_else(schema: Schema, train: Interactions, name: str) -> None:
    student, teacher = make_neumf(schema, 2, 3), make_neumf(schema, 1, 6)
    distiller = prepared(name, student, teacher, train)
    loss = distiller(ModelView(student, USERS, train.csr), LiveTeacher(teacher, train).view(USERS), generator("cpu", 1))
    loss.backward()
    learned = {key for key, weight in student.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert learned == {"user.weight", "item.weight"}
    assert all(weight.grad is None for weight in teacher.parameters())


def test_a_hint_is_the_mean_gap_of_the_tables(schema: Schema, train: Interactions) -> None:
    student, teacher, distiller = make_neumf(schema, 2), make_neumf(schema, 1), Hint(mapper="none", side="user")
    distiller.prepare(Setting(4, 4, train=train))
    loss = distiller(ModelView(student, USERS, train.csr), LiveTeacher(teacher, train).view(USERS), generator("cpu", 1))
    gaps = [(teacher.user.weight[u, k] - student.user.weight[u, k]).item() ** 2 for u in USERS for k in range(4)]
    assert loss.item() == pytest.approx(sum(gaps) / len(gaps), rel=1e-6)


def answers(view: object) -> dict[str, Tensor]:
    ask: ModelView = view  # type: ignore[assignment]  # live and stored views have these alike
    flipped = ask.flipped(ITEMS)
    return {
        "vectors": ask.user_vectors(), "items": ask.item_vectors(ITEMS), "scores": ask.scores(),
        "some": ask.scores(ITEMS), "normaliser": ask.log_normaliser(2.0), "flipped": flipped.user_vectors(),
        "flipped others": flipped.item_vectors(USERS), "flipped scores": flipped.scores(),
    }  # fmt: skip


def test_scores_come_from_the_network_beside_the_vectors(schema: Schema, train: Interactions, tmp_path: Path) -> None:
    model = make_neumf(schema, 1)
    compute_signals(model, train, Needs(scores=True, embeddings=True), tmp_path, chunk=2)
    live, stored = (answers(teacher.view(USERS)) for teacher in (LiveTeacher(model, train), StoredTeacher(tmp_path)))
    for name, answer in live.items():
        torch.testing.assert_close(stored[name], answer, msg=name)
    with torch.no_grad():
        assert torch.equal(live["flipped"], model.item.weight[ITEMS])
        torch.testing.assert_close(live["scores"], model.scores(USERS))
        assert not torch.allclose(live["scores"], live["vectors"] @ model.item.weight.T)


def test_vectors_alone_are_never_taken_for_scores(schema: Schema, train: Interactions, tmp_path: Path) -> None:
    compute_signals(make_neumf(schema, 1), train, Needs(embeddings=True), tmp_path)
    assert set(load_file(tmp_path / stored.SIGNALS)) == {"user_vectors", "item_vectors"}
    with pytest.raises(KeyError, match="factors"):
        StoredTeacher(tmp_path).view(USERS).scores()


def test_scores_alone_are_stored_without_vectors(schema: Schema, train: Interactions, tmp_path: Path) -> None:
    compute_signals(make_neumf(schema, 1), train, Needs(scores=True), tmp_path)
    assert set(load_file(tmp_path / stored.SIGNALS)) == {"scores"}
    assert StoredTeacher(tmp_path).dim == 0


def test_vectors_take_no_matrix_of_scores(schema: Schema, train: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "MAX_SCORE_BYTES", 0)
    check_needs(make_neumf(schema, 1), Needs(embeddings=True), train.n_users)
    with pytest.raises(InputError, match="all scores of the teacher NeuMF"):
        check_needs(make_neumf(schema, 1), Needs(scores=True, embeddings=True), train.n_users)
