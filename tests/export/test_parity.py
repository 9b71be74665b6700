"""The parity check lets ties and rounding pass, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.errors import ParityError
from recdistill.export.base import Queries
from recdistill.export.graphs import Inputs, best
from recdistill.export.parity import check, close
from recdistill.models.linear import EASE
from recdistill.models.multvae import MultVAE

USERS, ITEMS = 40, 30
SCORES = torch.randn(USERS, ITEMS, generator=torch.Generator().manual_seed(0)).masked_fill(
    torch.eye(USERS, ITEMS) > 0, -torch.inf
)
TIED = SCORES.mul(2).round()
LISTS = Queries(USERS, lambda asked: {"query": asked}, lambda asked: SCORES[asked])


def answers(scores: Tensor, k: int = 12) -> Callable[[Inputs], tuple[Tensor, ...]]:
    return lambda inputs: best(scores[inputs["query"]], torch.empty(len(inputs["query"]), 0, dtype=torch.int64), k)


def test_the_same_and_what_rounding_moves_pass() -> None:
    assert check(LISTS, answers(SCORES), "x") == {"queries": USERS, "max_difference": 0.0, "same_top_10": 1.0}
    found = check(LISTS, answers(SCORES + 1e-6), "x")
    assert 0 < found["max_difference"] < 1e-5


def test_ties_may_stand_in_either_order() -> None:
    queries = Queries(USERS, lambda asked: {"query": asked}, lambda asked: TIED[asked])

    def backwards(inputs: Inputs) -> tuple[Tensor, ...]:
        value, item = best(TIED[inputs["query"]].flip(1), torch.empty(len(inputs["query"]), 0, dtype=torch.int64), 12)
        return value, torch.where(item >= 0, ITEMS - 1 - item, item)

    assert not torch.equal(
        backwards({"query": torch.arange(USERS)})[1], answers(TIED)({"query": torch.arange(USERS)})[1]
    )
    assert check(queries, backwards, "x")["same_top_10"] == 1.0


def twice(inputs: Inputs) -> tuple[Tensor, ...]:
    """The best item at two places, with the scores that should stand there."""
    value, item = answers(SCORES)(inputs)
    return value, torch.cat([item[:, :1], item[:, :-1]], 1)


@pytest.mark.parametrize(
    "wrong",
    [
        answers(SCORES + 0.01), answers(SCORES.flip(1)), answers(SCORES.nan_to_num(neginf=9.0)),
        answers(SCORES * torch.nan), answers(SCORES, 3), twice,
        lambda inputs: answers(SCORES)({"query": inputs["query"][:1].expand_as(inputs["query"])}),
    ],
    ids=["scores", "items", "seen", "nan", "short", "twice", "batch"],
)  # fmt: skip
def test_anything_else_is_an_error(wrong: Callable[[Inputs], tuple[Tensor, ...]]) -> None:
    with pytest.raises(ParityError, match=r"model\.onnx") as caught:
        check(LISTS, wrong, "model.onnx")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("by", [0.0, 1e-6, 0.01, torch.nan])
def test_predictions_of_rows(by: float) -> None:
    rows = torch.rand(50)
    queries = Queries(50, lambda asked: {"row": asked}, lambda asked: rows[asked], torch.sigmoid)
    if by in (0.0, 1e-6):
        assert check(queries, lambda inputs: (rows[inputs["row"]] + by,), "x")["max_difference"] < 1e-5
    else:
        with pytest.raises(ParityError):
            check(queries, lambda inputs: (rows[inputs["row"]] + by,), "x")


@pytest.mark.parametrize("kind", [EASE, MultVAE])
def test_sets_score_as_histories_do(kind: type, train, schema) -> None:  # type: ignore[no-untyped-def]
    model = kind(schema)
    model.bind(train)
    if kind is EASE:
        model.fit(train)
    sets = torch.zeros(train.n_users, train.n_items)
    sets[train.user, train.item] = 1
    model.eval()
    torch.testing.assert_close(model.score_sets(sets), model.fold_in(train.csr))


def test_owners_of_sets() -> None:
    sets = Csr(torch.tensor([0, 0, 3, 3, 4, 4]), torch.tensor([5, 1, 2, 9]))
    assert sets.owners().tolist() == [1, 1, 1, 3]
    assert Csr(torch.tensor([0, 0]), torch.zeros(0, dtype=torch.int64)).owners().tolist() == []


def test_of_rounded_scores_the_share_of_equal_items_is_told() -> None:
    noisy = SCORES + 0.3 * torch.randn(SCORES.shape, generator=torch.Generator().manual_seed(1))
    found = close(LISTS, answers(noisy), "x", floor=0.5)
    share = 0.0
    for user in range(USERS):
        ours, theirs = (set(scores[user].topk(10).indices.tolist()) for scores in (SCORES, noisy))
        share += len(ours & theirs) / 10 / USERS
    assert found["overlap@10"] == pytest.approx(share)
    assert share < 1
    _, listed = answers(noisy)({"query": torch.arange(USERS)})
    apart = (noisy - SCORES).abs().nan_to_num(0.0).gather(1, listed[:, :10])
    assert found["max_difference"] == pytest.approx(float(apart.max()))
    with pytest.raises(ParityError, match=r"overlap@10 is 0.\d+, the floor is 0.99"):
        close(LISTS, answers(noisy), "x", floor=0.99)


@pytest.mark.parametrize("classes", [False, True])
def test_of_rounded_predictions_the_agreement_is_told(classes: bool) -> None:
    exact = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    exact = exact if classes else exact[:, 0]
    noisy = exact + 0.2 * torch.rand(exact.shape, generator=torch.Generator().manual_seed(1))
    rows = Queries(50, lambda asked: {"x": asked}, lambda asked: exact[asked], predict=torch.sigmoid)
    found = close(rows, lambda inputs: (noisy[inputs["x"]],), "x", floor=0.0)
    if classes:
        assert found["same_class"] == pytest.approx(float((exact.argmax(1) == noisy.argmax(1)).float().mean()))
    else:
        assert found["correlation"] == pytest.approx(float(torch.corrcoef(torch.stack([exact, noisy]))[0, 1]), abs=1e-6)
    assert found["max_difference"] == pytest.approx(float((exact - noisy).abs().max()))
    with pytest.raises(ParityError, match="the floor is"):
        close(
            rows, lambda inputs: (torch.zeros_like(noisy)[inputs["x"]] + noisy.flip(0)[inputs["x"]],), "x", floor=0.99
        )
