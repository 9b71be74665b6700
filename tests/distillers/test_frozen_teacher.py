"""The frozen teacher: it never learns, and stored answers are its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from distiller_parts import MAKERS, make_mf, prepared
from torch import Tensor, nn

from recdistill.data.interactions import Dataset, Interactions, Schema
from recdistill.distillers import signals, stored
from recdistill.distillers.base import Needs, Setting, View, on_list
from recdistill.distillers.signals import check_needs, compute_signals
from recdistill.distillers.stored import SIGNALS, StoredTeacher
from recdistill.distillers.teacher import LiveTeacher
from recdistill.distillers.views import ModelView
from recdistill.errors import InputError
from recdistill.models.base import FactorModel, RankingModel
from recdistill.models.lightgcn import LightGCN
from recdistill.models.popularity import Popularity
from recdistill.tasks.batches import generator

EVERYTHING = Needs(top_k=5, scores=True, embeddings=True)


class Moody(FactorModel):
    """A model that answers differently in train mode, and whose buffers change there."""

    def __init__(self, schema: Schema):
        super().__init__(schema)
        self.user = nn.Embedding(schema.n_users, 4)
        self.item = nn.Embedding(schema.n_items, 4)
        self.norm, self.dropout = nn.BatchNorm1d(4), nn.Dropout(0.5)

    def factors(self) -> tuple[Tensor, Tensor]:
        return self.dropout(self.norm(self.user.weight)), self.item.weight


class Flat(RankingModel):
    """A model without vectors."""

    def __init__(self, schema: Schema):
        super().__init__(schema)
        self.table = nn.Parameter(torch.randn(schema.n_users, schema.n_items))

    def scores(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        rows = self.table[users]
        if items is None:
            return rows
        return rows[:, items] if items.dim() == 1 else rows.gather(1, items)


def answers(view: View, items: Tensor) -> list[Tensor]:
    found = [
        view.scores(),
        view.scores(items),
        view.scores(items.expand(len(view.users), -1)),
        *view.top_items(5),
    ]
    found += [view.log_normaliser(), view.log_normaliser(2.0)]
    return found


def test_dropout_and_batch_norm_stay_asleep(schema: Schema, train: Interactions) -> None:
    torch.manual_seed(0)
    model = Moody(schema).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    class Student(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.teacher = LiveTeacher(model, train)

    student = Student()
    student.train()
    users, items = torch.tensor([3, 1]), torch.tensor([2, 2, 0])
    assert not any(module.training for module in model.modules())
    first = answers(student.teacher.view(users), items)
    student.train()
    second = answers(student.teacher.view(users), items)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
        assert not a.requires_grad
    assert list(student.parameters()) == []
    assert list(student.state_dict()) == []
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    vectors = (student.teacher.view(users).user_vectors(), student.teacher.view(users).item_vectors(items))
    assert not any(v.requires_grad for v in vectors)


def test_no_gradient_even_where_someone_asks_for_one(schema: Schema, train: Interactions) -> None:
    model = Flat(schema)
    teacher = LiveTeacher(model, train)
    model.requires_grad_(True)
    view = teacher.view(torch.arange(3))
    assert not any(a.requires_grad for a in answers(view, torch.tensor([1])))


@pytest.mark.parametrize("kind", ["mf", "flat"])
def test_the_students_precision_is_not_the_teachers(schema: Schema, train: Interactions, kind: str) -> None:
    model = make_mf(schema, 1) if kind == "mf" else Flat(schema)
    teacher, users, items = LiveTeacher(model, train), torch.arange(4), torch.tensor([1, 5])
    exact = answers(teacher.view(users), items)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for a, b in zip(answers(teacher.view(users), items), exact, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("kind", ["mf", "lightgcn", "flat"])
def test_stored_answers_are_the_live_ones(
    schema: Schema, train: Interactions, tmp_path: Path, name: str, kind: str
) -> None:
    student = make_mf(schema, 1)
    model: RankingModel
    if kind == "flat":
        if name == "hint":
            pytest.skip("no vectors")
        torch.manual_seed(3)
        model = Flat(schema)
    else:
        model = make_mf(schema, 2, 5) if kind == "mf" else LightGCN(schema, dim=6, init_std=1.0)
    model.bind(train)
    distiller = prepared(name)
    compute_signals(model, train, distiller.needs(), tmp_path, chunk=5)
    live, stored = LiveTeacher(model, train), StoredTeacher(tmp_path)
    live.to(torch.device("cpu"), train)
    stored.to(torch.device("cpu"))
    users = torch.tensor([0, 11, 4])
    view = ModelView(student, users, train.csr)
    values = [distiller(view, teacher.view(users), generator("cpu", 4)).mean().item() for teacher in (live, stored)]
    assert values[0] == pytest.approx(values[1], abs=1e-6, rel=1e-6)
    assert stored.view(users).n_items == live.view(users).n_items == train.n_items


@pytest.mark.parametrize("kind", ["mf", "flat"])
def test_every_stored_answer(schema: Schema, train: Interactions, tmp_path: Path, kind: str) -> None:
    model: RankingModel = make_mf(schema, 1) if kind == "mf" else Flat(schema)
    compute_signals(model, train, Needs(top_k=7, scores=True, embeddings=kind == "mf"), tmp_path)
    live, stored = LiveTeacher(model, train), StoredTeacher(tmp_path)
    users, items = torch.tensor([3, 0, 3]), torch.tensor([2, 2, 16])
    a, b = live.view(users), stored.view(users)
    for x, y in zip(answers(a, items), answers(b, items), strict=True):
        torch.testing.assert_close(x, y, atol=1e-6, rtol=1e-6)
    assert stored.dim == live.dim == (4 if kind == "mf" else 0)
    if kind == "mf":
        torch.testing.assert_close(a.user_vectors(), b.user_vectors())
        torch.testing.assert_close(a.item_vectors(items), b.item_vectors(items))


def test_lists_hold_no_training_items(full_user: Interactions, tmp_path: Path) -> None:
    model = make_mf(Schema(3, 6), 1)
    compute_signals(model, full_user, Needs(top_k=4), tmp_path)
    users = torch.arange(3)
    for teacher in (LiveTeacher(model, full_user), StoredTeacher(tmp_path)):
        items, scores = teacher.view(users).top_items(4)
        listed = on_list(scores)
        assert listed.sum(1).tolist() == [0, 2, 4]
        row, place = listed.nonzero(as_tuple=True)
        assert not bool(full_user.csr.contains(users[row], items[row, place]).any())
        full = model.scores(users)
        torch.testing.assert_close(scores[listed], full.gather(1, items)[listed])
        assert bool((scores[:, :-1] >= scores[:, 1:]).all())


def test_signals_come_from_the_training_part_alone(schema: Schema, train: Interactions, tmp_path: Path) -> None:
    # Whatever the other parts hold: they are no argument of compute_signals, and Dataset.train is all it
    # takes.
    ids = torch.arange(20).numpy().astype(str)
    hashes = set()
    for seed in (1, 2):
        rng = torch.Generator().manual_seed(seed)
        test = Interactions(torch.randint(12, (9,), generator=rng), torch.randint(17, (9,), generator=rng), 12, 17)
        data = Dataset(train, test, test, ids, ids, {}, {}, "x")
        compute_signals(make_mf(schema, 1), data.train, EVERYTHING, tmp_path / str(seed))
        hashes.add((tmp_path / str(seed) / SIGNALS).read_bytes())
    assert len(hashes) == 1


@pytest.mark.parametrize("place", [0, 9, -1])
def test_a_flipped_byte_is_found(schema: Schema, train: Interactions, tmp_path: Path, place: int) -> None:
    compute_signals(make_mf(schema, 1), train, EVERYTHING, tmp_path)
    content = bytearray((tmp_path / SIGNALS).read_bytes())
    content[place] ^= 1
    (tmp_path / SIGNALS).write_bytes(content)
    with pytest.raises(InputError, match="damaged") as caught:
        StoredTeacher(tmp_path)
    assert caught.value.exit_code == 2
    assert "computed anew" in str(caught.value)


def test_a_killed_write_leaves_nothing(
    schema: Schema, train: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recdistill.distillers.tensor_file.TensorFile.put", fail)
    with pytest.raises(KeyboardInterrupt):
        compute_signals(make_mf(schema, 1), train, EVERYTHING, tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="no teacher signals"):
        StoredTeacher(tmp_path)


def test_the_info_is_plain(schema: Schema, train: Interactions, tmp_path: Path) -> None:
    compute_signals(make_mf(schema, 1), train, EVERYTHING, tmp_path)
    info = json.loads((tmp_path / stored.SIGNALS_INFO).read_text())
    assert info["needs"] == {
        "top_k": 5, "scores": True, "embeddings": True, "top_users": 0, "layers": [], "members": False,
        "confidences": False, "tails": [],
    }  # fmt: skip
    assert info["n_items"] == 17


def test_needs_that_cannot_be_met(schema: Schema, train: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no user and item vectors"):
        check_needs(Popularity(schema), Needs(embeddings=True), train.n_users)
    monkeypatch.setattr(signals, "MAX_SCORE_BYTES", 4 * 12 * 17 - 1)
    with pytest.raises(InputError, match="GiB"):
        check_needs(Popularity(schema), Needs(scores=True), train.n_users)
    check_needs(make_mf(schema, 1), EVERYTHING, train.n_users)


def test_a_list_longer_than_the_catalogue_is_a_short_one(schema: Schema, train: Interactions, tmp_path: Path) -> None:
    model, users = make_mf(schema, 1), torch.arange(train.n_users)
    compute_signals(model, train, Needs(top_k=40), tmp_path)
    stored = StoredTeacher(tmp_path)
    stored.to(torch.device("cpu"), train)
    live = ModelView(model, users, train.csr)
    for view in (live, stored.view(users)):
        items, scores = view.top_items(40)
        assert items.shape == scores.shape == (train.n_users, 40)
        for user in range(train.n_users):
            seen = set(train.item[train.user == user].tolist())
            listed = on_list(scores[user])
            assert set(items[user][listed].tolist()) == set(range(train.n_items)) - seen
            assert scores[user][~listed].eq(-torch.inf).all()
            assert set(items[user][~listed].tolist()) <= seen or not seen


def test_needs_add_up() -> None:
    assert Needs(3) | Needs(5, scores=True) | Needs(embeddings=True) == Needs(5, True, True)


def test_hint_without_vectors_says_so() -> None:
    with pytest.raises(InputError, match="needs a student"):
        MAKERS["hint"]().prepare(Setting(0, 4))
