"""Alignment with vectors of texts, against the formula in plain Python; whose vectors, and what is missing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from distiller_parts import make_mf
from list_parts import randn
from torch import Tensor
from torch.nn import functional as F

from recdistill.data.features import Features
from recdistill.data.interactions import Interactions
from recdistill.distillers.base import Needs, Setting
from recdistill.distillers.rlmrec import RLMRec, info_nce
from recdistill.distillers.teacher import LiveTeacher
from recdistill.distillers.views import ModelView
from recdistill.errors import InputError
from recdistill.models.base import FactorModel
from recdistill.models.fusion import centred
from recdistill.tasks.batches import generator


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def oracle(rows: Tensor, others: Tensor, ids: Tensor, known: Tensor, temperature: float) -> float:
    """Row by row, over the first occurrence of each id."""
    terms, named = [], ids.tolist()
    for i in range(len(rows)):
        if known[i]:
            z = {named[j]: cosine(rows[i].tolist(), others[j].tolist()) / temperature
                 for j in range(len(rows)) if known[j]}  # fmt: skip
            terms.append(math.log(sum(map(math.exp, z.values()))) - z[named[i]])
    return temperature * sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_info_nce_is_the_loop(temperature: float) -> None:
    ids, known = torch.tensor([4, 7, 4, 1, 9, 1]), torch.tensor([True, True, True, False, True, False])
    rows, others = randn(10, 3)[ids], randn(10, 3, seed=1)[ids]
    expected = oracle(rows, others, ids, known, temperature)
    assert info_nce(rows, others, ids, known, temperature).item() == pytest.approx(expected)
    assert info_nce(rows.repeat(3, 1), others.repeat(3, 1), ids.repeat(3), known.repeat(3), temperature).item() == (
        pytest.approx(expected)
    )
    assert info_nce(rows, others, ids, ~(ids > 0), temperature).item() == 0


def test_at_a_high_temperature_it_is_how_far_cosines_are_from_their_mean() -> None:
    rows, others, ids = randn(5, 3), randn(5, 3, seed=1), torch.arange(5)
    z = F.normalize(rows, dim=1) @ F.normalize(others, dim=1).T
    expected = (z.mean(1) - z.diagonal()).mean().item()
    found = info_nce(rows, others, ids, ids >= 0, 1e6).item() - 1e6 * math.log(5)
    assert found == pytest.approx(expected, abs=1e-4)


def test_gradcheck_and_large_vectors() -> None:
    ids, known = torch.tensor([0, 1, 2, 1]), torch.tensor([True, True, False, True])
    given = randn(4, 3).requires_grad_(), randn(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, ids, known, 0.3), given)
    large = (1e6 * randn(4, 3)).requires_grad_()
    info_nce(large, given[1].detach(), ids, known, 0.01).backward()
    assert large.grad is not None
    assert bool(large.grad.isfinite().all())


def with_texts(train: Interactions, users: bool = False) -> Interactions:
    """Vectors of six numbers, of all items but two; and of a cold one."""
    texts = randn(train.n_items + 1, 6, seed=3).float() + 2
    texts[[0, 5]] = torch.nan
    own = Features(vector={"text": randn(train.n_users, 6, seed=4).float()}) if users else Features()
    return replace(train, item_features=Features(vector={"text": texts}), user_features=own)


def value_of(distiller: RLMRec, student: FactorModel, teacher: FactorModel, train: Interactions) -> Tensor:
    users = torch.tensor([3, 1, 0, 3])
    view = ModelView(student, users, train.csr)
    loss: Tensor = distiller(view, LiveTeacher(teacher, train).view(users), generator("cpu", 1))
    return loss


@pytest.mark.parametrize("mode", ["contrastive", "generative"])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("users", [False, True])
def test_it_is_the_loop(
    student: FactorModel, teacher: FactorModel, train: Interactions, mode: Any, named: bool, users: bool
) -> None:
    train = with_texts(train, users)
    distiller = RLMRec(mode, "text" if named else None, rows=30, popular=0.0, masked=0.4, temperature=0.5)
    torch.manual_seed(0)
    distiller.prepare(Setting(4, 6, train=train, queries=train.n_users))
    rng = generator("cpu", 1)
    drawn, asked = torch.randint(train.n_items, (30,), generator=rng), torch.tensor([3, 1, 0, 3])
    expected = []
    for side, ids, mine, its in zip(("item", "user"), (drawn, asked), student.factors()[::-1], teacher.factors()[::-1],
                                    strict=True):  # fmt: skip
        if named:
            if side == "user" and not users:
                continue
            its = centred(getattr(train, f"{side}_features").vector["text"][: len(mine)])
        e, t = mine[ids].detach(), its[ids].detach()
        g, known = distiller.maps[side], t.isfinite().all(1)
        if mode == "contrastive":
            pair = e, g(t)
        else:
            pair = g(e * (torch.rand(e.shape, generator=rng) >= 0.4)), t
        expected.append(oracle(pair[0], pair[1], ids, known, 0.5))
    found = value_of(distiller, student, teacher, train).item()
    assert found == pytest.approx(sum(expected) / len(expected), rel=1e-4)


def test_by_a_name_it_takes_nothing_of_the_teacher(train: Interactions, student: FactorModel) -> None:
    train, distiller = with_texts(train), RLMRec(vectors="text", rows=20)
    distiller.prepare(Setting(4, 0, train=train, queries=len(train)))
    assert distiller.needs() == Needs()
    assert not distiller.teaches
    assert RLMRec().teaches
    values = [value_of(distiller, student, make_mf_of(train, seed), train).item() for seed in (2, 3)]
    assert values[0] == values[1]
    assert not [name for name in distiller.state_dict() if "content" in name], "the data have them"


def make_mf_of(train: Interactions, seed: int) -> FactorModel:
    from recdistill.data.interactions import Schema

    return make_mf(Schema(train.n_users, train.n_items), seed)


def test_vectors_of_users_are_not_those_of_events(train: Interactions) -> None:
    train = with_texts(train, users=True)
    for queries, sides in ((train.n_users, {"item", "user"}), (len(train), {"item"})):
        distiller = RLMRec(vectors="text")
        distiller.prepare(Setting(4, 0, train=train, queries=queries))
        assert set(distiller.maps) == sides


def test_an_item_without_a_text_is_left_alone(train: Interactions, student: FactorModel, teacher: FactorModel) -> None:
    train, distiller = with_texts(train), RLMRec(vectors="text", rows=200)
    distiller.prepare(Setting(4, 0, train=train))
    value_of(distiller, student, teacher, train).backward()
    grad = dict(student.named_parameters())["item.weight"].grad
    assert grad is not None
    moved = (grad != 0).any(1).tolist()
    assert [item for item, there in enumerate(moved) if not there] == [0, 5]


@pytest.mark.parametrize("mode", ["contrastive", "generative"])
def test_what_is_aligned_comes_near(train: Interactions, teacher: FactorModel, mode: Any) -> None:
    """Neighbours by text become neighbours of the student."""
    train = with_texts(train)
    student, distiller = make_mf_of(train, 5), RLMRec(mode, "text", rows=100)
    torch.manual_seed(0)
    distiller.prepare(Setting(4, 0, train=train))
    known = [i for i in range(train.n_items) if i not in (0, 5)]
    text = F.normalize(centred(train.item_features.vector["text"][: train.n_items])[known], dim=1)
    wanted = text @ text.T

    def alike() -> float:
        own = F.normalize(student.factors()[1][known].detach(), dim=1)
        return torch.corrcoef(torch.stack([(own @ own.T).flatten(), wanted.flatten()]))[0, 1].item()

    before = alike()
    optimizer = torch.optim.Adam([*student.parameters(), *distiller.parameters()], lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        value_of(distiller, student, teacher, train).backward()
        optimizer.step()
    assert alike() > before + 0.1


@pytest.mark.parametrize(("name", "said"), [("texts", "no vectors 'texts'"), ("look", "no vectors 'look'")])
def test_vectors_that_are_not_there(train: Interactions, name: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        RLMRec(vectors=name).prepare(Setting(4, 4, train=with_texts(train)))
    assert said in error.value.what
    with pytest.raises(InputError, match="rlmrec needs vectors of the items"):
        RLMRec(vectors=name).prepare(Setting(4, 4, train=train))
    with pytest.raises(InputError, match="needs a student with user and item vectors"):
        RLMRec().prepare(Setting(0, 4, train=train))
