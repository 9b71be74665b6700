"""Fine-tuning under constraints: the file decodes to exactly what the forward pass saw."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from recdistill.compression.base import Compressed, CompressionPass, constrain, release, tables
from recdistill.compression.prune import Prune
from recdistill.compression.quantize import Quantize
from recdistill.data.interactions import Schema
from recdistill.export.bundle import load_model, save_model
from recdistill.export.packing import quantize_rows
from recdistill.models.mf import MF

SCHEMA = Schema(n_users=20, n_items=30)
NET = {"_target_": "recdistill.models.mf.MF", "dim": 6, "item_bias": True}
PASSES: list[list[CompressionPass]] = [
    [Quantize(8)], [Quantize(4)], [Quantize(16)], [Quantize("bf16")], [Prune(0.4), Quantize(16)], [Prune(0.4)],
    [Prune(0.4), Quantize(8)], [Prune(0.4), Quantize(4)],
    [Quantize(4), Prune(0.4)], [Quantize(8, clip_candidates=1)],
]  # fmt: skip


def compressed(passes: list[CompressionPass], scale: float = 1.0) -> Compressed:
    torch.manual_seed(0)
    state = Compressed(MF(SCHEMA, dim=6, item_bias=True, init_std=scale), NET)
    for step in passes:
        state = step.apply(state)
    return state


def train(model: MF, steps: int = 5) -> None:
    target = torch.randn(20, 30, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1, fused=True)
    for _ in range(steps):
        optimizer.zero_grad()
        (model.scores(torch.arange(20)) - target).square().mean().backward()
        optimizer.step()


def forward(model: MF) -> dict[str, Tensor]:
    return {
        "user.weight": model.user.weight.detach().clone(),
        "item.weight": model.item.weight.detach().clone(),
    }


@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e6])
@pytest.mark.parametrize("passes", PASSES)
def test_the_file_decodes_to_what_the_forward_pass_saw(
    tmp_path: Path, passes: list[CompressionPass], scale: float
) -> None:
    state = compressed(passes, scale)
    model = state.model
    assert isinstance(model, MF)
    constrain(state)
    train(model)
    model.eval()
    seen, expected = forward(model), model.scores(torch.arange(20)).detach()
    release(model)
    save_model(tmp_path, model, NET, codecs=state.codecs, clips=state.clips)
    again = load_model(tmp_path)
    for name, weight in tables(again).items():
        assert torch.equal(weight, seen[name])
    assert torch.equal(again.scores(torch.arange(20)), expected)


@pytest.mark.parametrize("passes", PASSES)
def test_release_gives_the_model_back(passes: list[CompressionPass]) -> None:
    state = compressed(passes)
    names = list(state.model.state_dict())
    before = {name: weight.clone() for name, weight in state.model.state_dict().items()}
    constrain(state)
    release(state.model)
    assert not any(parametrize.is_parametrized(module) for module in state.model.modules())
    assert list(state.model.state_dict()) == names
    for name, weight in state.model.state_dict().items():
        assert torch.equal(weight, before[name])  # the latent weights, not the rounded ones
    assert {name for name, _ in state.model.named_parameters()} == set(names)


@pytest.mark.parametrize("passes", [[Prune(0.4)], [Prune(0.4), Quantize(4)]])
def test_zeros_stay_zero(passes: list[CompressionPass]) -> None:
    state = compressed(passes)
    zeros = {name: weight == 0 for name, weight in tables(state.model).items()}
    assert isinstance(state.model, MF)
    constrain(state)
    train(state.model, 10)
    for name, weight in forward(state.model).items():
        assert bool((weight[zeros[name]] == 0).all())
    release(state.model)
    for name, weight in tables(state.model).items():
        assert bool((weight[zeros[name]] == 0).all())
        assert int((weight == 0).sum()) == int(zeros[name].sum())


def test_the_gradient_passes_through_the_rounding() -> None:
    state = compressed([Quantize(4)])
    model = state.model
    assert isinstance(model, MF)
    constrain(state)
    probe = torch.randn(20, 6)
    (model.user.weight * probe).sum().backward()
    original = model.user.parametrizations.weight.original  # type: ignore[union-attr]
    assert torch.equal(original.grad, probe)


def test_the_forward_pass_is_on_the_grid_to_the_last_bit() -> None:
    state = compressed([Quantize(4)])
    latent = tables(state.model)["user.weight"].clone()
    assert isinstance(state.model, MF)
    constrain(state)
    codes, scale = quantize_rows(latent, 4, state.clips["user.weight"])
    assert torch.equal(state.model.user.weight.detach(), codes * scale[:, None])


def test_training_under_constraints_learns() -> None:
    state = compressed([Prune(0.2), Quantize(4)])
    model = state.model
    assert isinstance(model, MF)
    target = torch.randn(20, 30, generator=torch.Generator().manual_seed(1))
    constrain(state)

    def gap() -> float:
        return (model.scores(torch.arange(20)) - target).square().mean().item()

    before = gap()
    train(model, 60)
    assert gap() < 0.9 * before


def test_buffers_and_dense_tensors_are_left_alone() -> None:
    state = compressed([Quantize(8)])
    constrain(state)
    assert isinstance(state.model, MF)
    assert state.model.bias is not None
    assert not parametrize.is_parametrized(state.model)
    assert not any("clip" in name or "kept" in name for name in state.model.state_dict())
