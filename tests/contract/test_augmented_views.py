"""The second look at a step: the same queries from changed inputs, in each task whose inputs can be changed."""

from __future__ import annotations

import pytest
import torch
from answers_kit import data_of, task_of
from contract_kit import node

from recdistill.models.build import build
from recdistill.tasks.augment import leave_out
from recdistill.tasks.batches import generator

MODELS = {"sequence": "sasrec", "ctr": "dcnv2", "rating": "neumf_rating", "classification": "mlp"}


@pytest.mark.parametrize("task", MODELS)
def test_the_answers_for_changed_inputs(task: str) -> None:
    own, data = task_of(task), data_of(task)
    torch.manual_seed(1)
    model = build(node("student", MODELS[task])["net"], own.schema(data)).eval()
    model.bind(data.train)
    with torch.no_grad():  # some models start with the same answer for all
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    train = own.prepare(data.train, torch.device("cpu"))
    queries = torch.arange(3, 60)
    view = own.view(model, train, queries)
    plain = view.scores()
    torch.testing.assert_close(view.augmented(0.0, 0.0, generator("cpu", 1)).scores(), plain)
    other = view.augmented(0.5, 0.1, generator("cpu", 1))
    assert torch.equal(other.users, queries)
    assert not torch.allclose(other.scores(), plain)
    torch.testing.assert_close(view.augmented(0.5, 0.1, generator("cpu", 1)).scores(), other.scores())
    assert not torch.allclose(view.augmented(0.5, 0.1, generator("cpu", 2)).scores(), other.scores())
    torch.testing.assert_close(view.scores(), plain)


def test_a_history_with_items_left_out() -> None:
    own, data = task_of("sequence"), data_of("sequence")
    torch.manual_seed(1)
    model = build(node("student", "sasrec")["net"], own.schema(data)).eval()
    train = own.prepare(data.train, torch.device("cpu"))
    queries = torch.arange(20)
    changed = leave_out(train.timeline.upto(queries, train.max_length), train.n_items, 0.5, generator("cpu", 1))
    expected = model.query(changed) @ model.item_matrix().T
    found = own.view(model, train, queries).augmented(0.5, 0.0, generator("cpu", 1)).scores()
    torch.testing.assert_close(found, expected)
