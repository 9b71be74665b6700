"""A student's lists in the middle of a step that has gradients."""

from __future__ import annotations

import torch

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.views import ModelView
from recdistill.models.mf import MF

USERS, ITEMS = 6, 900  # wide enough for the blocks of the fast look-up


def view() -> ModelView:
    torch.manual_seed(0)
    train = Interactions(torch.arange(USERS), torch.arange(USERS) * 7, USERS, ITEMS)
    return ModelView(MF(Schema(USERS, ITEMS), dim=5, init_std=1.0), torch.tensor([4, 0, 4]), train.csr)


def test_lists_are_those_of_a_full_sort_without_training_items() -> None:
    student = view()
    items, values = student.top_items(10)
    scores = student.scores().detach().clone()
    scores[torch.arange(3), student.users * 7] = -torch.inf
    expected = scores.sort(-1, descending=True)
    assert torch.equal(items, expected.indices[:, :10])
    assert torch.equal(values, expected.values[:, :10])
    assert not values.requires_grad


def test_a_list_takes_no_gradients_away_from_what_is_asked_next() -> None:
    grads = []
    for lists_first in (False, True):
        student = view()
        if lists_first:
            student.top_items(10)
        (student.scores().square().mean() + student.log_normaliser().sum()).backward()
        grads.append([parameter.grad for parameter in student.model.parameters()])
    for plain, after in zip(*grads, strict=True):
        assert plain is not None
        assert torch.equal(plain, after)


def test_scores_that_were_asked_for_first_are_not_written_to() -> None:
    student = view()
    before = student.scores().detach().clone()
    student.top_items(10)
    assert torch.equal(student.scores().detach(), before)
