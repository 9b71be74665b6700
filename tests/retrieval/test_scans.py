"""Exact scans: each way of computing them gives the lists of a sort over all scores, in their order."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from recdistill.errors import InputError
from recdistill.retrieval import exact, exact_int8, scans
from recdistill.retrieval.base import PAD, Array, Lists, aligned, ordered, table_of, unseen
from recdistill.retrieval.exact import Exact
from recdistill.retrieval.exact_int8 import ExactInt8, quantised

SIZES = [(1, 1, 1), (5, 3, 9), (700, 16, 40), (40_000, 33, 10), (3000, 64, 100)]


def compiled() -> Any:
    pytest.importorskip("numba", reason="pip install 'recdistill[index]'")
    from recdistill.retrieval import kernels

    return kernels


def vnni_scan(codes: Array, scale: Array, queries: Array, k: int) -> Lists:
    compiled()
    from recdistill.retrieval import vnni

    if not vnni.available():
        pytest.skip("this processor has no AVX-512 VNNI")
    return vnni.scan_packed(vnni.packed(codes), len(codes), scale, queries, k)


FLOAT: dict[str, Callable[[], Any]] = {"numpy": lambda: scans.scan, "numba": lambda: compiled().scan}
CODES: dict[str, Callable[[], Any]] = {
    "numpy": lambda: scans.scan_codes, "numba": lambda: compiled().scan_codes, "vnni": lambda: vnni_scan,
}  # fmt: skip


def whole_table(n: int, dim: int, seed: int = 0) -> Array:
    """Small whole numbers, so that sums are exact in any order and many are equal."""
    return np.random.default_rng(seed).integers(-3, 4, (n, dim)).astype(np.float32)


def brute(scores: Array, k: int) -> Lists:
    rows = []
    for row in scores:
        best = sorted(range(len(row)), key=lambda item: (-row[item], item))[:k]
        rows.append((best + [PAD] * (k - len(best)), [float(row[i]) for i in best] + [-np.inf] * (k - len(best))))
    return Lists(np.array([items for items, _ in rows]), np.array([scores for _, scores in rows], dtype=np.float32))


def same(found: Lists, expected: Lists) -> bool:
    return np.array_equal(found.items, expected.items) and np.array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("way", FLOAT)
def test_float32(way: str, size: tuple[int, int, int]) -> None:
    n, dim, k = size
    table, queries = whole_table(n, dim), whole_table(4, dim, seed=1)
    assert same(FLOAT[way]()(table, queries, k), brute(queries @ table.T, k))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("way", CODES)
def test_codes(way: str, size: tuple[int, int, int]) -> None:
    n, dim, k = size
    rng = np.random.default_rng(2)
    codes, queries = (rng.integers(-127, 128, (rows, dim)).astype(np.int8) for rows in (n, 4))
    scale = rng.choice(np.array([0.5, 0.25, 2.0], np.float32), n)
    exact_dots = queries.astype(np.int64) @ codes.astype(np.int64).T
    assert same(CODES[way]()(codes, scale, queries, k), brute(exact_dots.astype(np.float32) * scale, k))


@pytest.mark.parametrize("way", CODES)
def test_the_largest_codes_do_not_overflow(way: str) -> None:
    codes = np.full((20, 2000), 127, np.int8)
    found = CODES[way]()(codes, np.ones(20, np.float32), -codes[:1], 3)
    assert found.scores.tolist() == [[-127.0 * 127 * 2000] * 3]
    assert found.items.tolist() == [[0, 1, 2]]


def test_without_numba_the_same_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled()
    table, queries = (np.random.default_rng(n).standard_normal((n, 24), np.float32) for n in (5000, 7))
    fast = [index.build(table).search(queries, 10) for index in (Exact(), ExactInt8(), ExactInt8(rescore=0))]
    monkeypatch.setattr(exact, "compiles", lambda: False)
    monkeypatch.setattr(exact_int8, "compiles", lambda: False)
    slow = [index.build(table).search(queries, 10) for index in (Exact(), ExactInt8(), ExactInt8(rescore=0))]
    for one, other in zip(fast, slow, strict=True):
        assert np.array_equal(one.items, other.items)
        assert np.allclose(one.scores, other.scores, rtol=1e-5)


def test_short_list_scored_again_is_the_exact_one() -> None:
    rng = np.random.default_rng(0)
    table, queries = rng.standard_normal((20_000, 32), np.float32), rng.standard_normal((50, 32), np.float32)
    wanted = Exact().build(table).search(queries, 10)
    found = ExactInt8().build(table).search(queries, 10)
    coarse = ExactInt8(rescore=0).build(table).search(queries, 10)

    def share(lists: Lists) -> float:
        return float((lists.items[:, :, None] == wanted.items[:, None]).any(2).mean())

    assert share(found) > 0.995
    assert 0.9 < share(coarse) < share(found)
    assert np.allclose(found.scores[0, 0], (queries[0] * table[found.items[0, 0]]).sum(), rtol=1e-5)
    assert np.allclose(coarse.scores, wanted.scores, rtol=0.05)


def test_bytes() -> None:
    table = whole_table(4096, 64)
    assert Exact().build(table).nbytes == table.nbytes
    assert ExactInt8(rescore=0).build(table).nbytes == table.nbytes // 4 + 4 * 4096
    assert ExactInt8().build(table).nbytes == table.nbytes + table.nbytes // 4 + 4 * 4096


def test_a_table_of_zeros() -> None:
    codes, scale = quantised(np.zeros((3, 4), np.float32))
    assert not codes.any()
    assert np.isfinite(scale).all()
    assert ExactInt8().build(np.zeros((3, 4), np.float32)).search(np.zeros((1, 4)), 2).items.tolist() == [[0, 1]]


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros(3), np.array([[1.0], [np.nan]]), np.array([[np.inf]])])
def test_what_is_no_table_is_refused(bad: Array) -> None:
    for index in (Exact(), ExactInt8()):
        with pytest.raises(InputError, match="vector"):
            index.build(bad)


@pytest.mark.parametrize("bad", [np.zeros((1, 5)), np.zeros(4), np.full((1, 4), np.nan)])
def test_what_is_no_query_is_refused(bad: Array) -> None:
    with pytest.raises(InputError, match="quer"):
        Exact().build(np.ones((3, 4))).search(bad, 2)


def test_seen_items_are_left_out() -> None:
    table, queries = whole_table(300, 8), whole_table(6, 8, seed=3)
    rng = np.random.default_rng(4)
    seen = [rng.choice(300, size, replace=False) for size in (0, 1, 7, 100, 295, 300)]
    scores = queries @ table.T
    for row, own in enumerate(seen):
        scores[row, own] = -np.inf
    expected = brute(scores, 10)
    expected = Lists(np.where(expected.scores == -np.inf, PAD, expected.items), expected.scores)
    assert same(unseen(Exact().build(table), queries, 10, seen), expected)


def test_ordered_fills_up_and_breaks_ties_by_item() -> None:
    found = ordered(np.array([[7, PAD, 2, 5]]), np.array([[1.0, 9.0, 1.0, 3.0]]), 6)
    assert found.items.tolist() == [[5, 2, 7, PAD, PAD, PAD]]
    assert found.scores[0, :3].tolist() == [3.0, 1.0, 1.0]


def test_tables_begin_at_a_cache_line() -> None:
    for n in (1, 7, 1000):
        assert aligned((n, 3), np.float32).ctypes.data % 64 == 0
        assert table_of(np.ones((n, 3))).ctypes.data % 64 == 0


def test_neither_torch_nor_numba_is_imported_before_it_is_needed() -> None:
    probe = (
        "import sys, recdistill.retrieval.exact_int8, recdistill.retrieval.exact, recdistill.retrieval.hnsw, "
        "recdistill.retrieval.ivf_sq8; assert not {'torch', 'numba', 'faiss', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
