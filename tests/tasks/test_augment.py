"""What a change of a history keeps, and how often it does what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.rows import Rows
from recdistill.tasks.augment import blur, crop, leave_out, mask, reorder

PAD, TOKEN = 50, 51
HISTORIES = st.lists(st.lists(st.integers(0, 49), max_size=12), min_size=1, max_size=6)
SHARES = st.floats(0, 1)


def rows(lists: list[list[int]]) -> Tensor:
    width = max(1, *map(len, lists))
    return torch.tensor([items + [PAD] * (width - len(items)) for items in lists])


def kept(row: Tensor) -> list[int]:
    items = [item for item in row.tolist() if item != PAD]
    assert row.tolist() == items + [PAD] * (len(row) - len(items))  # padding is behind the end alone
    return items


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=100)
@given(HISTORIES, SHARES, st.integers(0, 99))
def test_crop_keeps_items_in_a_row(lists: list[list[int]], share: float, seed: int) -> None:
    history = rows(lists)
    before = history.clone()
    for items, row in zip(lists, crop(history, PAD, share, rng(seed)), strict=True):
        left = kept(row)
        assert len(left) == min(len(items), max(1, int(len(items) * share)))
        assert any(items[i : i + len(left)] == left for i in range(len(items) + 1))
    assert torch.equal(history, before)


@settings(deadline=None, max_examples=100)
@given(HISTORIES, SHARES, st.integers(0, 99))
def test_mask_puts_tokens_in_place_of_items(lists: list[list[int]], share: float, seed: int) -> None:
    for items, row in zip(lists, mask(rows(lists), PAD, share, TOKEN, rng(seed)), strict=True):
        left = kept(row)
        assert len(left) == len(items)
        assert left.count(TOKEN) == int(len(items) * share)
        assert all(new in (old, TOKEN) for old, new in zip(items, left, strict=True))


@settings(deadline=None, max_examples=100)
@given(HISTORIES, SHARES, st.integers(0, 99))
def test_reorder_moves_items_within_a_window(lists: list[list[int]], share: float, seed: int) -> None:
    for items, row in zip(lists, reorder(rows(lists), PAD, share, rng(seed)), strict=True):
        left = kept(row)
        assert Counter(left) == Counter(items)
        moved = [i for i, (old, new) in enumerate(zip(items, left, strict=True)) if old != new]
        if moved:
            assert moved[-1] - moved[0] < int(len(items) * share)
            inside = slice(moved[0], moved[-1] + 1)
            assert Counter(left[inside]) == Counter(items[inside])


@pytest.mark.parametrize(
    ("change", "outcomes"),
    [
        (lambda h, g: crop(h, PAD, 0.5, g), 3),  # where the two of four that stay begin
        (lambda h, g: mask(h, PAD, 0.5, TOKEN, g), 6),  # which two of four are masked
        (lambda h, g: reorder(h, PAD, 1.0, g), 24),  # all orders of four
    ],
)
def test_all_outcomes_are_as_likely(change: Callable[[Tensor, torch.Generator], Tensor], outcomes: int) -> None:
    n = 24000
    found = Counter(map(tuple, change(torch.arange(4).expand(n, -1), rng(0)).tolist()))
    assert len(found) == outcomes
    expected = n / outcomes
    chi2 = sum((count - expected) ** 2 / expected for count in found.values())
    assert chi2 < outcomes - 1 + 5 * (2 * (outcomes - 1)) ** 0.5


def test_the_window_that_is_reordered_begins_anywhere() -> None:
    changed = reorder(torch.arange(6).expand(5000, -1), PAD, 0.34, rng(0))  # two neighbours of six
    swapped = (changed != torch.arange(6)).nonzero()[:, 1].bincount(minlength=6)
    assert swapped.min() > 0
    assert swapped[1:5].double().std() / swapped[1:5].double().mean() < 0.1


@settings(deadline=None, max_examples=100)
@given(HISTORIES, SHARES, st.integers(0, 99))
def test_leave_out_keeps_the_last_item_and_the_order(lists: list[list[int]], share: float, seed: int) -> None:
    history = rows(lists)
    before = history.clone()
    for items, row in zip(lists, leave_out(history, PAD, share, rng(seed)), strict=True):
        left = kept(row)
        assert len(left) == len(items) - int(max(len(items) - 1, 0) * share)
        assert left[-1:] == items[-1:]
        at = iter(items)
        assert all(item in at for item in left), "in their order"
    assert torch.equal(history, before)


def test_leave_out_draws_every_item_equally_often() -> None:
    gone: Counter[int] = Counter()
    for row in leave_out(torch.arange(5).repeat(4000, 1), PAD, 0.25, rng(1)):
        gone.update(set(range(5)) - set(row.tolist()))
    assert gone[4] == 0
    assert all(900 < gone[item] < 1100 for item in range(4))


def a_table(n: int) -> Rows:
    draw = rng(3)
    return Rows(
        torch.randint(1, 9, (n, 3), generator=draw), 1 + torch.rand(n, 2, generator=draw),
        {"tags": Csr(torch.arange(0, 2 * n + 1, 2), torch.randint(1, 5, (2 * n,), generator=draw))},
        {"image": 1 + torch.rand(n, 4, generator=draw)},
    )  # fmt: skip


def test_blur_forgets_a_share_of_the_fields() -> None:
    table = a_table(4000)
    found = blur(table, 0.25, 0.0, rng(1))
    for before, after in (
        (table.categorical, found.categorical),
        (table.numeric, found.numeric),
        (table.vector["image"], found.vector["image"]),
    ):
        changed = before != after
        assert changed.float().mean(0).sub(0.25).abs().max() < 0.03
        assert bool((after[changed] == 0).all())
    sets, left = table.multi["tags"], found.multi["tags"]
    empty = left.counts() == 0
    assert abs(empty.float().mean().item() - 0.25) < 0.03
    for row in range(50):
        members = left.take(torch.tensor([row])).indices.tolist()
        assert members == ([] if empty[row] else sets.take(torch.tensor([row])).indices.tolist())


def test_blur_adds_noise_to_numbers_alone() -> None:
    table = a_table(4000)
    found = blur(table, 0.0, 0.5, rng(1))
    assert torch.equal(found.categorical, table.categorical)
    assert torch.equal(found.multi["tags"].indices, table.multi["tags"].indices)
    for before, after in ((table.numeric, found.numeric), (table.vector["image"], found.vector["image"])):
        assert (after - before).std().item() == pytest.approx(0.5, rel=0.05)
        assert abs((after - before).mean().item()) < 0.03
    again = blur(table, 0.0, 0.5, rng(1))
    assert torch.equal(again.numeric, found.numeric)
    same = blur(table, 0.0, 0.0, rng(1))
    assert torch.equal(same.numeric, table.numeric)
