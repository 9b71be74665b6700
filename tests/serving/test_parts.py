"""Bundles that are not what they say, weights without torch, batches, lists by hand, and the shelf."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import shutil
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from serving_kit import MODELS, Client, make_bundle

from recdistill.errors import InputError
from recdistill.export.manifest import MANIFEST, write_manifest
from recdistill.export.packing import Codec, pack, unpack
from recdistill.serving.batcher import Batcher, BusyError
from recdistill.serving.served import Place, open_served, places_of, stamp_of
from recdistill.serving.settings import Settings
from recdistill.serving.vectors import FoldIn, Vectors, top
from recdistill.serving.weights import TABLE, decode


def opened(folder: Path) -> Any:
    return open_served(Place("m", folder), Settings())


@pytest.fixture
def copy(bundles: dict[str, Path], tmp_path: Path) -> Path:
    shutil.copytree(bundles["mf"], tmp_path / "export")
    return tmp_path / "export"


def signed(folder: Path) -> None:
    """A manifest that fits: whoever changed the files wrote it anew."""
    facts = {key: said for key, said in json.loads((folder / "manifest.json").read_text()).items()
             if key not in ("files", "format")}  # fmt: skip
    (folder / "manifest.json").unlink()
    write_manifest(folder, facts)


FILES = ("model.onnx", "model.safetensors", "model.json", "users.parquet", "items.parquet", "histories.parquet")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_changed_is_named(name: str, copy: Path) -> None:
    content = (copy / name).read_bytes()
    for changed in (content[: len(content) // 2], content[:-1] + bytes([content[-1] ^ 1]), b""):
        (copy / name).write_bytes(changed)
        with pytest.raises(InputError, match=name):
            opened(copy)
    (copy / name).unlink()
    with pytest.raises(InputError, match=name):
        opened(copy)


@pytest.mark.parametrize("name", FILES)
def test_what_is_signed_anew_is_still_looked_at(name: str, copy: Path) -> None:
    """A manifest says that files are those that were exported, not that they are sound."""
    content = (copy / name).read_bytes()
    for changed in (
        content[: len(content) // 2],
        b"",
        b"\xff" * 200,
        b'{"a": ' * 5000,
        struct.pack("<Q", 2**62) + content,
    ):
        (copy / name).write_bytes(changed)
        signed(copy)
        with pytest.raises(InputError) as caught:
            opened(copy)
        assert caught.value.exit_code == 2


def test_weights_that_can_not_be(copy: Path) -> None:
    """NaN, other shapes, overlaps and sizes that would not fit into memory."""
    from safetensors.numpy import load_file, save_file

    info = json.loads((copy / "model.json").read_text())
    tensors = load_file(copy / "model.safetensors")
    bad = tensors[TABLE].copy()
    bad[3, 1] = np.nan
    for changed in (bad, bad[:-1], np.zeros((24, 0), np.float32), bad.astype(np.float64), bad.T.copy()):
        save_file({**tensors, TABLE: changed}, copy / "model.safetensors")
        signed(copy)
        with pytest.raises(InputError):
            opened(copy)
    save_file(tensors, copy / "model.safetensors")
    for shape in ([24, 2**40], [2**40, 8], [24], [24, -1], "x", [24, 8, 1]):
        (copy / "model.json").write_text(json.dumps({**info, "shapes": {**info["shapes"], TABLE: shape}}))
        signed(copy)
        with pytest.raises(InputError):
            opened(copy)
    (copy / "model.json").write_text(json.dumps(info))
    header = json.dumps({TABLE: {"dtype": "F32", "shape": [24, 4], "data_offsets": [0, 384]},
                         "other": {"dtype": "F32", "shape": [24, 4], "data_offsets": [192, 576]}}).encode()  # fmt: skip
    (copy / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(576))
    signed(copy)
    with pytest.raises(InputError, match="can't be read"):
        opened(copy)


@pytest.mark.parametrize(
    "said",
    [3, [], {}, {"unobserved": 0.1}, {"unobserved": "1", "ridge": 3.0}, {"unobserved": 0.025, "ridge": -3.0},
     {"unobserved": 0.025, "ridge": 1e300}, {"unobserved": 1e-300, "ridge": 1e-300}, {"unobserved": True, "ridge": 1}],
)  # fmt: skip
def test_constants_of_folding_in_that_can_not_be(said: Any, copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    assert set(manifest["fold_in"]) == {"unobserved", "ridge"}
    (copy / MANIFEST).write_text(json.dumps({**manifest, "fold_in": said}))
    with pytest.raises(InputError, match="fold_in"):
        opened(copy)


def test_constants_of_folding_in_may_be_whole_numbers(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps({**manifest, "fold_in": {"unobserved": 1, "ridge": 3}}))
    vectors = opened(copy).vectors
    assert vectors.fold == FoldIn(1, 3)
    exact = vectors.table.astype(np.float64)
    np.testing.assert_allclose(vectors._gram, exact.T @ exact)


def test_a_table_of_zeros_scores_zeros() -> None:
    found = Vectors(np.zeros((4, 3), np.float32), FoldIn(0.025, 3.0)).of_history(np.array([1]), np.array([1]), 4)
    assert found.item.tolist() == [0, 2, 3]
    assert found.score.tolist() == [0, 0, 0]


def test_searches_in_threads_are_bounded(bundles: dict[str, Path], serving: Callable[..., Client],
                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    client = serving(bundles["mf"], "serve.max_queue=2")
    monkeypatch.setattr("recdistill.serving.vectors.LARGE", 0)
    body = json.dumps({"history": ["1"]}).encode()

    async def together() -> list[Any]:
        return await asyncio.gather(*(client.ask("POST", "/v1/recommend", body) for _ in range(9)))

    found = [status for status, _ in client.run(together())]
    assert set(found) == {200, 503}
    assert found.count(200) >= 2
    assert client.post("/v1/recommend", {"history": ["1"]})[0] == 200


def test_a_bug_is_in_the_log(bundles: dict[str, Path], serving: Callable[..., Client],
                             monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    said = io.StringIO()
    log, handler = logging.getLogger("recdistill.serving"), logging.StreamHandler(said)
    client = serving(bundles["mf"])
    monkeypatch.setattr(Vectors, "of_history", lambda *_: 1 / 0)
    log.addHandler(handler)
    try:
        with contextlib.suppress(ZeroDivisionError):  # raised again, once it is answered
            assert client.post("/v1/recommend", {"history": ["1"]})[0] == 500
    finally:
        log.removeHandler(handler)
    assert "/v1/recommend failed" in said.getvalue()
    assert "ZeroDivisionError" in said.getvalue()


def test_a_catalogue_that_does_not_fit(copy: Path) -> None:
    import polars as pl

    items = pl.read_parquet(copy / "items.parquet")
    for changed in (items[:-1], pl.concat([items, items[:1]]), items.rename({"item": "name"}), items[:0]):
        changed.write_parquet(copy / "items.parquet")
        signed(copy)
        with pytest.raises(InputError):
            opened(copy)
    items.write_parquet(copy / "items.parquet")
    pairs = pl.read_parquet(copy / "histories.parquet")
    for changed in (pairs.with_columns(item=pairs["item"] + 24), pairs.with_columns(user=-pairs["user"] - 1)):
        changed.write_parquet(copy / "histories.parquet")
        signed(copy)
        with pytest.raises(InputError):
            opened(copy)


def test_a_graph_of_another_catalogue(copy: Path) -> None:
    """One user or item more or less than the graph has: seen before the first request."""
    import polars as pl

    for name in ("users.parquet", "items.parquet"):
        rows = pl.read_parquet(copy / name)
        first = rows.columns[0]
        more = rows[:1].with_columns(pl.lit("one more").alias(first))
        for changed in (pl.concat([rows, more]), rows[:-1]):
            if name == "users.parquet" and len(changed) < len(rows):
                continue  # a graph may know more users than are named
            changed.write_parquet(copy / name)
            (copy / "histories.parquet").unlink(missing_ok=True)
            signed(copy)
            with pytest.raises(InputError):
                opened(copy)
        rows.write_parquet(copy / name)


@pytest.mark.parametrize("bits", [32, 16, "bf16", 8, 4])
@pytest.mark.parametrize("zeros", [None, 0.5, 0.97])
def test_weights_are_decoded_as_torch_does(bits: Any, zeros: float | None) -> None:
    torch.manual_seed(0)
    for shape in ((40, 8), (3, 5), (7, 1), (300, 64)):
        weight = torch.randn(shape)
        if zeros is not None:
            weight *= torch.rand(shape) > zeros
        codec = Codec(bits, sparse=zeros is not None)
        stored = pack(weight, codec)
        found = decode({name: part.numpy() for name, part in stored.items()},
                       {"bits": bits, "sparse": zeros is not None}, shape)  # fmt: skip
        np.testing.assert_array_equal(found, unpack(stored, codec, shape).numpy())


def test_the_top_is_that_of_a_sort() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(1, 30))
        scores = rng.integers(-3, 4, n).astype(np.float32)
        scores[rng.random(n) < 0.3] = -np.inf
        k = int(rng.integers(1, 35))
        wanted = [row for row in np.argsort(-scores, kind="stable") if scores[row] > -np.inf][:k]
        assert top(scores, k).item.tolist() == wanted


# Batches.


def batches(inline: bool, **more: Any) -> tuple[Batcher[int, int], list[list[int]]]:
    ran: list[list[int]] = []

    def run(asked: Sequence[int]) -> list[int]:
        ran.append(list(asked))
        if -1 in asked:
            raise ValueError("bad")
        time.sleep(0.01)
        return [10 * one for one in asked]

    return Batcher(run, inline=inline, **more), ran


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("max_wait", [0.0, 0.02])
def test_each_gets_its_own_answer(inline: bool, max_wait: float) -> None:
    batcher, ran = batches(inline, max_batch=4, max_wait=max_wait)

    async def together() -> list[int]:
        return await asyncio.gather(*(batcher.ask(one) for one in range(10)))

    assert asyncio.run(together()) == [10 * one for one in range(10)]
    assert [one for batch in ran for one in batch] == list(range(10))
    assert max(map(len, ran)) == 4
    assert len(ran) <= 4
    assert len(batcher) == 0


@pytest.mark.parametrize("inline", [True, False])
def test_an_error_is_that_of_its_batch_alone(inline: bool) -> None:
    batcher, _ = batches(inline, max_batch=2)

    async def together() -> list[Any]:
        first = await asyncio.gather(*(batcher.ask(one) for one in (-1, 1, 2, 3)), return_exceptions=True)
        return [*first, await batcher.ask(4)]

    found = asyncio.run(together())
    assert [type(one) for one in found[:2]] == [ValueError, ValueError]
    assert found[2:] == [20, 30, 40]


def test_who_left_is_not_computed_and_too_many_are_refused() -> None:
    batcher, ran = batches(True, max_queue=3, max_wait=0.02)

    async def together() -> None:
        waiting = [asyncio.create_task(batcher.ask(one)) for one in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await batcher.ask(9)
        waiting[1].cancel()
        assert await waiting[0] == 0
        assert await waiting[2] == 20

    asyncio.run(together())
    assert ran == [[0, 2]]


def test_a_queue_that_is_full_is_a_503(bundles: dict[str, Path], serving: Callable[..., Client]) -> None:
    full = serving(bundles["mf"], "serve.max_queue=2", "serve.max_wait_ms=20")

    async def together() -> list[Any]:
        return await asyncio.gather(*(full.ask("POST", "/v1/recommend", b'{"user": "1"}') for _ in range(5)))

    assert sorted(status for status, _ in full.run(together())) == [200, 200, 503, 503, 503]
    assert full.post("/v1/recommend", {"user": "1"})[0] == 200


# Places.


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_a_missing_extra_is_named(package: str, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from recdistill.serving.server import serve

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs {package}") as caught:
        serve([str(bundles["mf"])], ["serve.port=0"])
    assert caught.value.fix == "pip install 'recdistill[serve]'"


def test_large_tables_are_searched_in_a_thread(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    here = client.post("/v1/similar", {"item": "5"})
    monkeypatch.setattr("recdistill.serving.vectors.LARGE", 0)
    assert client.post("/v1/similar", {"item": "5"}) == here


def test_a_run_is_all_of_its_bundles(tmp_path: Path, bundles: dict[str, Path]) -> None:
    run = tmp_path / "films"
    for name in ("export", "export_teacher", "export_student"):
        shutil.copytree(bundles["mf"], run / name)
    assert [place.name for place in places_of([str(run)])] == ["last", "student", "teacher"]
    assert [place.name for place in places_of([str(run), f"x={bundles['mf']}"])] == [
        "films_last", "films_student", "films_teacher", "x"]  # fmt: skip
    assert [place.name for place in places_of([f"a={run}"])] == ["a_last", "a_student", "a_teacher"]
    assert [place.name for place in places_of([f"x={run / 'export'}", str(run / "export_teacher")])] == [
        "x", "films_teacher"]  # fmt: skip
    assert stamp_of(run / "nothing") is None


def test_one_run_of_a_grid_is_named(tmp_path: Path, bundles: dict[str, Path]) -> None:
    for job in ("0", "1"):
        shutil.copytree(bundles["mf"], tmp_path / job / "export")
    with pytest.raises(InputError, match=f"one of the runs in it: recdistill serve {tmp_path / '0'}"):
        places_of([str(tmp_path)])


def test_a_model_with_a_thread_answers_the_same(bundles: dict[str, Path], serving: Callable[..., Client],
                                                monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    inline = serving(bundles["next"]).post("/v1/recommend", {"history": ["1", "2", "3"]})
    monkeypatch.setattr("recdistill.serving.served.INLINE_MS", 0.0)
    threaded = serving(bundles["next"])
    assert threaded.post("/v1/recommend", {"history": ["1", "2", "3"]})[1]["items"] == inline[1]["items"]


def test_vectors_of_an_apart_export_are_taken(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, *MODELS["mf"])
    vectors = opened(folder).vectors.table
    np.save(folder / "items.npy", np.ascontiguousarray(vectors[:, ::-1]) * 3)
    signed(folder)
    np.testing.assert_allclose(opened(folder).vectors.table, vectors[:, ::-1] * 3, atol=1e-6)
