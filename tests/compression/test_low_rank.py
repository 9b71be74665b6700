"""Layers and tables as two factors: the truncated SVD, by rank, by energy and by bytes."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recdistill.compression.base import Compressed, constrain, release
from recdistill.compression.embedding import Embedding
from recdistill.compression.low_rank import LowRank, pays, rank_of_energy, ranks_of_budget
from recdistill.compression.prune import Prune
from recdistill.compression.quantize import Quantize
from recdistill.compression.sizes import bytes_of, in_words
from recdistill.data.interactions import Schema
from recdistill.errors import InputError
from recdistill.export.bundle import INFO, WEIGHTS, load_model, save_model
from recdistill.models.build import build
from recdistill.models.tables.md import MD
from recdistill.runs.atomic import read_json, write_json
from table_kit import rows_of, schema_of, shaken, table

SASREC = {"_target_": "recdistill.models.sasrec.SASRec", "dim": 16, "layers": 1}
DNN = {"_target_": "recdistill.models.dnn.DNN", "dim": 8, "hidden": [24, 16], "batch_norm": True}
HISTORY = torch.tensor([[1, 2, 3, 40], [4, 16, 39, 40]])


def made(net: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    schema = schema_of(table()) if net is DNN else Schema(n_users=9, n_items=40, max_length=4)
    model = build(net, schema)
    if net is DNN:
        model.bind(table())
    return shaken(model).float().eval()


def answers(model: Any) -> Tensor:
    with torch.no_grad():
        return model(rows_of(table())) if "dnn" in type(model).__module__ else model.query(HISTORY) @ (
            model.item_matrix().T)  # fmt: skip


@pytest.mark.parametrize("net", [SASREC, DNN])
@pytest.mark.parametrize("settings", [{"rank": 3}, {"energy": 0.6}])
def test_each_layer_is_its_truncated_svd(tmp_path: Path, net: dict[str, Any], settings: Any) -> None:
    model = made(net)
    small = LowRank(**settings).apply(Compressed(model, net))
    full = copy.deepcopy(model)
    assert len(small.net["ranks"]) > 2
    for name, rank in small.net["ranks"].items():
        weight = model.get_submodule(name).weight.detach().double().numpy()
        left, size, right = np.linalg.svd(weight, full_matrices=False)
        share = np.cumsum(size**2) / np.sum(size**2)
        assert rank == settings.get("rank", int(np.argmax(share >= 0.6)) + 1)
        truncated = torch.from_numpy(left[:, :rank] * size[:rank] @ right[:rank]).float()
        torch.testing.assert_close(small.model.get_submodule(name).weight, truncated, atol=1e-5, rtol=1e-5)
        with torch.no_grad():
            full.get_submodule(name).weight.copy_(truncated)
    torch.testing.assert_close(answers(small.model), answers(full), atol=1e-4, rtol=1e-4)
    save_model(tmp_path, small.model, small.net)
    again = load_model(tmp_path)
    assert torch.equal(answers(again), answers(small.model))
    rounded = Quantize(8).apply(small)
    assert any(name.endswith("inner.weight") for name in rounded.codecs)


@pytest.mark.parametrize("budget", [6_000, 9_000, "8kB"])
def test_the_weights_fit_the_budget(tmp_path: Path, budget: Any) -> None:
    model = made(SASREC)
    save_model(tmp_path / "whole", model, SASREC)
    small = LowRank(budget=budget).apply(Compressed(model, SASREC))
    stored = sum(part.nbytes for part in small.model.state_dict().values())
    size = bytes_of(budget, "")
    assert 0.9 * size < stored <= size
    save_model(tmp_path / "small", small.model, small.net)
    assert (tmp_path / "small" / WEIGHTS).stat().st_size < (tmp_path / "whole" / WEIGHTS).stat().st_size + 2_000


def test_a_larger_budget_keeps_more_of_the_energy() -> None:
    spectra = {"a": torch.tensor([9.0, 3.0, 1.0, 0.5]), "b": torch.tensor([5.0, 5.0, 5.0, 5.0])}
    shapes = {"a": (4, 50), "b": (4, 6)}
    kept = []
    for budget in range(256, 900, 4):
        ranks = ranks_of_budget(spectra, shapes, budget)
        assert sum(4 * min(r * sum(shapes[n]), shapes[n][0] * shapes[n][1]) for n, r in ranks.items()) <= budget
        kept.append(sum(float(spectra[n][:r].square().sum() / spectra[n].square().sum()) for n, r in ranks.items()))
    assert kept == sorted(kept)
    assert kept[-1] == 2.0
    with pytest.raises(InputError, match=r"a budget of 255 bytes is too small.*"):
        ranks_of_budget(spectra, shapes, 255)


def test_a_budget_that_cannot_be_met_says_what_could() -> None:
    with pytest.raises(InputError) as caught:
        LowRank(budget=500).apply(Compressed(made(SASREC), SASREC))
    assert "with rank 1 everywhere the weights take" in str(caught.value)


def test_a_budget_above_the_model_leaves_it() -> None:
    model = made(SASREC)
    assert LowRank(budget="1MB").apply(Compressed(model, SASREC)).model is model


def test_fine_tuning_trains_both_factors(tmp_path: Path) -> None:
    state = LowRank(rank=3).apply(Compressed(made(SASREC), SASREC))
    state = Quantize(8).apply(Prune(0.3).apply(state))
    constrain(state)
    model: Any = state.model
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        (model.query(HISTORY) @ model.item_matrix().T).square().mean().backward()
        optimizer.step()
    seen = answers(model)
    release(model)
    save_model(tmp_path, model, state.net, codecs=state.codecs, clips=state.clips)
    assert torch.equal(answers(load_model(tmp_path)), seen)


def test_vectors_by_energy_and_by_bytes() -> None:
    net = {"_target_": "recdistill.models.mf.MF", "dim": 12}
    torch.manual_seed(0)
    model: Any = build(net, Schema(n_users=30, n_items=20))
    size = np.linalg.svd(model.scores(torch.arange(30)).detach().double().numpy(), compute_uv=False)[:12]
    small = LowRank(energy=0.8).apply(Compressed(copy.deepcopy(model), net))
    assert small.net["dim"] == int(np.argmax(np.cumsum(size**2) / np.sum(size**2) >= 0.8)) + 1
    assert LowRank(budget=4 * 50 * 5 + 3).apply(Compressed(model, net)).net["dim"] == 5
    with pytest.raises(InputError, match="too small"):
        LowRank(budget=100).apply(Compressed(model, net))


def test_what_does_not_pay_stays() -> None:
    assert pays(3, 16, 16)
    assert not pays(8, 16, 16)
    assert rank_of_energy(torch.tensor([2.0, 1.0, 0.0]), 0.8) == 1
    assert rank_of_energy(torch.tensor([2.0, 1.0, 0.0]), 0.81) == 2
    small = LowRank(rank=6).apply(Compressed(made(SASREC), SASREC))
    assert "position" not in small.net["ranks"]  # 4 rows
    assert isinstance(small.model.position, nn.Embedding)
    with pytest.raises(InputError, match="no layer of SASRec is smaller as two factors"):
        LowRank(rank=40).apply(Compressed(made(SASREC), SASREC))


def test_orders_and_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="one of rank, energy and budget, here are none"):
        LowRank()
    with pytest.raises(InputError, match="here are rank and energy"):
        LowRank(rank=2, energy=0.5)
    with pytest.raises(InputError, match="must come before"):
        LowRank(rank=2).check(SASREC, [Quantize(8)])
    with pytest.raises(InputError, match="two factors already"):
        LowRank(rank=2).check(SASREC, [LowRank(rank=4)])
    with pytest.raises(InputError, match="needs plain tables"):
        LowRank(rank=2).check({**SASREC, "table": {"_target_": "recdistill.models.tables.qr.QR"}}, [])
    with pytest.raises(InputError, match="take no other form"):
        Embedding(partial(MD), finetune=None).check(SASREC, [LowRank(rank=4)])
    with pytest.raises(InputError, match="EASE has none"):
        LowRank(rank=2).check({"_target_": "recdistill.models.linear.EASE"}, [])
    for wrong in ("2 elephants", "", "-3", "0"):
        with pytest.raises(InputError):
            LowRank(budget=wrong)


def test_a_file_may_not_name_other_layers(tmp_path: Path) -> None:
    small = LowRank(rank=3).apply(Compressed(made(SASREC), SASREC))
    save_model(tmp_path, small.model, small.net)
    for ranks in ({"nowhere": 2}, {"item": 10**9}, {"item": "2"}, {"dropout": 2}):
        info = read_json(tmp_path / INFO)
        write_json(tmp_path / INFO, {**info, "net": {**SASREC, "ranks": ranks}})
        with pytest.raises(InputError, match="cannot be read"):
            load_model(tmp_path)


def test_sizes_as_people_write_them() -> None:
    assert [bytes_of(size, "") for size in (7, "2MB", "1.5 kB", "1KiB", "3 b")] == [7, 2_000_000, 1_500, 1024, 3]
    assert [in_words(n) for n in (7, 1_500, 2_000_000, 3 * 10**9)] == ["7 bytes", "1.5 kB", "2 MB", "3 GB"]
