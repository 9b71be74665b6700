"""What answers are compared on: only what the teacher's list holds and what is drawn beside it, in any part of it."""

from __future__ import annotations

import pytest
import torch
from distiller_parts import make_mf

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.base import Needs
from recdistill.distillers.candidates import candidates, entropy, kl
from recdistill.distillers.lists import FLOOR
from recdistill.distillers.teacher import LiveTeacher
from recdistill.distillers.views import ModelView
from recdistill.tasks.batches import generator

USERS = torch.arange(3)


def views(train: Interactions) -> tuple[ModelView, object]:
    schema = Schema(train.n_users, train.n_items)
    return ModelView(make_mf(schema, 1), USERS, train.csr), LiveTeacher(make_mf(schema, 2, 5), train).view(USERS)


@pytest.mark.parametrize("others", [0, 4])
def test_each_item_stands_where_both_models_say(full_user: Interactions, others: int) -> None:
    """User 0 has an empty list, user 1 one of two items, user 2 one of four."""
    student, teacher = views(full_user)
    both = candidates(student, teacher, 4, others, generator("cpu", 7))
    logits = both.of(student)
    assert logits.shape == both.teacher.shape == (3, 4 + others)
    assert both.items is not None
    assert both.hidden is not None
    assert (both.others is None) == (others == 0)
    seen = [set(full_user.csr.take(torch.tensor([user])).indices.tolist()) for user in range(3)]
    all_s, all_t = student.scores(), teacher.scores()  # type: ignore[attr-defined]
    for user in range(3):
        listed = sorted(set(range(6)) - seen[user], key=lambda item: -all_t[user, item].item())[:4]
        expected = listed + [-1] * (4 - len(listed))
        if both.others is not None:
            expected += [-1 if item in {*listed, *seen[user]} else item for item in both.others.tolist()]
        for place, item in enumerate(expected):
            assert bool(both.hidden[user, place]) == (item < 0)
            for found, answer in ((logits, all_s), (both.teacher, all_t)):
                wanted = FLOOR if item < 0 else answer[user, item].item()
                assert found[user, place].item() == pytest.approx(wanted)


def test_what_is_hidden_gets_no_gradient(full_user: Interactions) -> None:
    student, teacher = views(full_user)
    both = candidates(student, teacher, 4, 4, generator("cpu", 7))
    kl(both.teacher.log_softmax(-1), both.of(student).log_softmax(-1)).sum().backward()
    table = student.model.user.weight.grad  # type: ignore[union-attr]
    assert isinstance(table, torch.Tensor)
    assert table[0].abs().max() == 0, "user 0 has nothing on the list nor beside it"
    assert table[2].abs().max() > 0


def test_rows_have_classes() -> None:
    class View:
        def __init__(self, logits: torch.Tensor):
            self.logits = logits

        def scores(self) -> torch.Tensor:
            return self.logits

    student, teacher = View(torch.randn(4, 3)), View(torch.randn(4, 3))
    both = candidates(student, teacher, 100, 500)
    assert both.items is None
    assert both.hidden is None
    assert torch.equal(both.teacher, teacher.logits)
    assert torch.equal(both.of(student), student.logits)


def test_of_rows_a_list_is_all_classes() -> None:
    assert Needs(top_k=100).of_rows() == Needs(scores=True)
    assert Needs(top_k=3, scores=True, layers=("a",)).of_rows() == Needs(scores=True, layers=("a",))
    assert Needs(layers=("a",)).of_rows() == Needs(layers=("a",))


def test_divergence_and_entropy() -> None:
    p, q = torch.tensor([0.1, 0.3, 0.2, 0.2, 0.2]), torch.tensor([0.2, 0.2, 0.3, 0.2, 0.1])
    assert kl(p.log(), q.log()).item() == pytest.approx(0.1099, abs=5e-5)
    assert entropy(p.log()).item() == pytest.approx(1.6670 - 0.1099, abs=1e-4)
