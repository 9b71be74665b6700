"""Every model of conf/model recognises users that training lacked by their histories."""

from __future__ import annotations

import pytest
import torch
from answers_kit import serving
from contract_kit import ITEMS, USERS, board, fitted, is_personal, node, recovery

from recdistill.data.csr import Csr


@pytest.mark.parametrize("option", serving("model", "ranking"))
def test_finds_the_blocks_of_users_that_training_lacked(option: str) -> None:
    model = fitted(node("model", option))
    history = board().train.csr
    with torch.no_grad():
        scores = model.fold_in(history)
        one = model.fold_in(history.take(torch.tensor([7])))
    assert scores.shape == (USERS, ITEMS)
    torch.testing.assert_close(one[0], scores[7], atol=1e-5, rtol=1e-4)
    assert recovery(scores) > 0.9 or not is_personal(model)


@pytest.mark.parametrize("option", serving("model", "ranking"))
def test_takes_a_user_of_whom_nothing_is_known(option: str) -> None:
    model = fitted(node("model", option))
    nothing = torch.empty(0, dtype=torch.int64)
    with torch.no_grad():
        scores = model.fold_in(Csr.from_pairs(nothing, nothing, 2))
    assert scores.shape == (2, ITEMS)
    assert bool(scores.isfinite().all())
