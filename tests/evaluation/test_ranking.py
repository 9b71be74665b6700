"""The ranking engine: a loop oracle with ties, masks, odd inputs. What table E asks for is in test_table_e.py."""

from __future__ import annotations

import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_kit import csr, evaluate, oracle

from recdistill.errors import InputError
from recdistill.evaluation.ranking import (
    evaluable,
    metrics_from_ranks,
    overlap_at_k,
    rank_all,
    rank_batch,
    relevant_ranks,
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_agrees_with_loops_when_scores_tie(data: st.DataObject) -> None:
    n_users, n_items = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 14))
    levels = data.draw(st.integers(1, 5))  # few distinct scores: ties everywhere, inside and at the boundary
    level = st.integers(1, levels).map(float)
    table = data.draw(st.lists(st.lists(level, min_size=n_items, max_size=n_items),
                               min_size=n_users, max_size=n_users))  # fmt: skip
    sets = st.lists(st.sets(st.integers(0, n_items + 1)), min_size=n_users, max_size=n_users)
    relevant, seen = data.draw(sets), data.draw(sets)
    ks = data.draw(st.lists(st.integers(1, 16), min_size=1, max_size=3, unique=True))
    if not any(relevant):
        relevant[0] = {0}
    result = evaluate(
        torch.tensor(table),
        csr([(u, i) for u, items in enumerate(relevant) for i in items], n_users),
        csr([(u, i) for u, items in enumerate(seen) for i in items], n_users),
        ks=ks,
        chunk=data.draw(st.integers(1, 5)),
    )
    assert result.users.tolist() == [u for u, items in enumerate(relevant) if items]
    for at, user in enumerate(result.users.tolist()):
        for k in ks:
            expected = oracle(table[user], relevant[user], seen[user], k)
            ours = {name: float(result.per_user[name][at]) for name in expected}
            assert ours == pytest.approx(expected, abs=1e-12)


def test_one_user_with_two_scores_is_not_constant() -> None:
    scores = torch.zeros(3, 200)
    scores[1, 150] = -1  # below the top list, so that only a look at the whole row tells
    assert evaluate(scores, csr([(0, 0), (1, 0), (2, 0)], 3), ks=[5]).warnings == []


def test_constant_but_for_masked_items_is_constant() -> None:
    scores = torch.zeros(1, 9)
    scores[0, 3] = 5
    assert evaluate(scores, csr([(0, 0)], 1), csr([(0, 3)], 1), ks=[5]).warnings == ["constant_scores"]


def test_nan_is_found_by_the_bare_function_too() -> None:
    with pytest.raises(InputError, match="user 0, item 1"):
        relevant_ranks(torch.tensor([[1.0, torch.nan]]), (torch.tensor([0]), torch.tensor([0])), 1)


def test_cold_items_among_the_seen_are_skipped() -> None:
    result = evaluate(torch.tensor([[3.0, 2.0]]), csr([(0, 1)], 1), csr([(0, 0), (0, 5)], 1), ks=[1])
    assert float(result.per_user["hr@1"]) == 1


def test_no_scores_outlive_their_batch() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def score(users: torch.Tensor) -> torch.Tensor:
        assert not [None for ref in alive if ref() is not None]
        scores = torch.rand(len(users), 40)
        alive.append(weakref.ref(scores))
        return scores

    result = rank_all(
        score, users=torch.arange(30), relevant=csr([(u, u) for u in range(30)], 30), seen=csr([], 30), n_items=40,
        ks=[5], chunk=4,
    )  # fmt: skip
    assert len(alive) == 8
    kept = [result.top, result.shown, result.near.at, *result.per_user.values()]
    assert all(tensor.untyped_storage().nbytes() < 4 * 30 * 40 for tensor in kept)


def test_the_scores_of_the_model_are_left_alone() -> None:
    popularity = torch.tensor([3.0, 2.0, 1.0])
    table = popularity.repeat(2, 1)
    relevant, seen = csr([(0, 1), (1, 0)], 2), csr([(0, 0)], 2)
    for scores in (popularity.expand(2, 3), table):  # a mask written into either would corrupt the model
        result = rank_batch(scores, torch.arange(2), relevant, seen, [1])
        assert result.per_user["hr@1"].tolist() == [1, 1]
    assert popularity.tolist() == [3, 2, 1]
    assert table.tolist() == [[3, 2, 1], [3, 2, 1]]


def test_coverage_counts_items_in_some_list() -> None:
    scores = torch.tensor([[4.0, 3, 2, 1], [4.0, 3, 1, 2], [4.0, 1, 3, 2]])
    result = evaluate(scores, csr([(u, 0) for u in range(3)], 3), ks=[1, 2])
    assert result.coverage == {1: 0.25, 2: 0.75}
    assert result.means()["coverage@2"] == 0.75


def test_users_without_relevant_items_are_left_out() -> None:
    relevant = csr([(1, 0)], 3)
    result = evaluate(torch.rand(3, 5), relevant, ks=[5])
    assert evaluable(relevant).tolist() == result.users.tolist() == [1]
    batch = rank_batch(torch.rand(3, 5), torch.arange(3), relevant, csr([], 3), ks=[5])
    assert batch.users.tolist() == [1]


def test_an_empty_share_is_fine_and_an_empty_part_is_not() -> None:
    nobody = torch.zeros(0, dtype=torch.int64)
    args = {"seen": csr([], 2), "n_items": 5, "ks": [5]}
    share = rank_all(lambda u: torch.rand(len(u), 5), users=nobody, relevant=csr([(1, 0)], 2), **args)
    assert share.n_users == 0
    assert share.top.shape == (0, 5)
    wide = rank_all(
        lambda u: torch.rand(len(u), 999), users=nobody, relevant=csr([(1, 0)], 2), **args | {"n_items": 999}
    )
    assert wide.n_users == 0
    with pytest.raises(InputError, match="no user has a relevant item"):
        rank_all(lambda u: torch.rand(len(u), 5), users=torch.arange(2), relevant=csr([], 2), **args)


def test_scores_of_another_catalogue_are_refused() -> None:
    with pytest.raises(InputError, match=r"'teacher' gave scores of shape \[2, 4\], expected \[2, 5\]"):
        rank_all(
            lambda u: torch.rand(len(u), 4), users=torch.arange(2), relevant=csr([(0, 0), (1, 0)], 2),
            seen=csr([], 2), n_items=5, name="teacher",
        )  # fmt: skip


@pytest.mark.parametrize("ks", [[], [0], [-3, 10]])
def test_list_lengths_must_be_positive(ks: list[int]) -> None:
    with pytest.raises(InputError, match="list lengths"):
        evaluate(torch.rand(1, 4), csr([(0, 0)], 1), ks=ks)


def test_metrics_of_a_row_without_relevant_items_are_zero() -> None:
    row = torch.tensor([1])
    out = metrics_from_ranks(torch.tensor([0]), row, torch.tensor([0, 1]), [5])
    assert out["ndcg@5"].tolist() == [0, 1]
    assert all(values.dtype == torch.float64 for values in out.values())


def test_overlap_ignores_order_and_padding() -> None:
    a = torch.tensor([[1, 2, 3], [1, -1, -1], [-1, -1, -1], [4, 5, 6]])
    b = torch.tensor([[3, 1, 9], [1, -1, -1], [-1, -1, -1], [4, -1, -1]])
    assert overlap_at_k(a, b, 3).tolist() == pytest.approx([2 / 3, 1, 0, 1 / 3])
    assert overlap_at_k(a, b, 1).tolist() == [0, 1, 0, 1]
