"""Zeros that come while a model is fine-tuned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recdistill.compression.base import Compressed, CompressionPass, constrain, release, tables
from recdistill.compression.gradual import Gradual, Method, gradual_rules
from recdistill.compression.prune import Prune
from recdistill.compression.quantize import Quantize
from recdistill.data.interactions import Schema
from recdistill.errors import InputError
from recdistill.export.bundle import load_model, save_model
from recdistill.models.fit import Fit
from recdistill.models.mf import MF

SCHEMA = Schema(n_users=20, n_items=30)
NET = {"_target_": "recdistill.models.mf.MF", "dim": 6}


def constrained(*passes: CompressionPass) -> Compressed:
    torch.manual_seed(0)
    state = Compressed(MF(SCHEMA, dim=6, init_std=1.0), NET)
    for step in passes:
        state = step.apply(state)
    constrain(state)
    return state


def test_scores_of_movement_are_those_of_the_paper() -> None:
    """S = -lr Σ ∂L/∂w' ∘ w, with the mask of the moment in w'."""
    state = constrained(Prune(0.5, "movement", finetune=Fit()))
    (rule, weight), _ = gradual_rules(state.model)
    assert rule.scores is not None
    expected = torch.zeros_like(weight)
    probe = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.SGD(state.model.parameters(), lr=0.1)
    for step in range(8):
        rule.advance(weight, step / 8)
        optimizer.zero_grad()
        masked = state.model.user.weight
        (masked * probe).sum().sin().backward()
        inside = (weight.detach() * rule.kept * probe).sum().cos() * probe  # ∂L/∂w'
        expected -= 0.1 * inside * weight.detach()
        torch.testing.assert_close(weight.grad, inside * rule.kept)
        optimizer.step()
        torch.testing.assert_close(rule.scores.detach(), expected)
    chosen = expected.flatten().topk(rule.kept.numel() // 2, largest=False).indices
    rule.choose(weight, 0.5)
    assert bool((rule.kept.flatten()[chosen] == 0).all())


@pytest.mark.parametrize("method", ["magnitude", "movement"])
def test_the_share_of_zeros_follows_the_cubic_schedule(method: Method) -> None:
    rule = Gradual(torch.Size([100, 10]), 0.8, method, until=0.5)
    weight = torch.randn(100, 10)
    shares = []
    for step in range(100):
        rule.advance(weight, step / 100)
        shares.append(float((rule.kept == 0).float().mean()))
        assert shares[-1] == pytest.approx(0.8 * (1 - (1 - min(1, step / 50)) ** 3), abs=1e-3)
    assert shares[0] == 0
    assert shares[-1] == pytest.approx(0.8)
    assert rule.settled


@pytest.mark.parametrize("method", ["magnitude", "movement"])
@pytest.mark.parametrize("also", [[], [Quantize(4)], [Quantize(16)]])
def test_the_file_has_the_zeros_that_were_asked_for(
    tmp_path: Path, method: Method, also: list[CompressionPass]
) -> None:
    state = constrained(*also, Prune(0.6, method, until=0.5, finetune=Fit()))
    optimizer = torch.optim.Adam(state.model.parameters(), lr=0.01)
    target = torch.randn(20, 30)
    rules = gradual_rules(state.model)
    assert len(rules) == 2
    for step in range(20):
        for rule, weight in rules:
            rule.advance(weight, step / 20)
        optimizer.zero_grad()
        (state.model.scores(torch.arange(20)) - target).square().mean().backward()
        optimizer.step()
    seen = {name: state.model.get_submodule(name.split(".")[0]).weight.detach().clone()
            for name in ("user.weight", "item.weight")}  # fmt: skip
    release(state.model)
    save_model(tmp_path, state.model, NET, codecs=state.codecs, clips=state.clips)
    for name, weight in tables(load_model(tmp_path)).items():
        assert torch.equal(weight, seen[name])
        assert float((weight == 0).float().mean()) >= 0.6 - 0.01


def test_a_training_that_was_too_short_still_ends_with_all_zeros() -> None:
    state = constrained(Prune(0.6, until=0.5, finetune=Fit()))
    release(state.model)
    assert all(int((weight == 0).sum()) == round(0.6 * weight.numel()) for weight in tables(state.model).values())
    assert set(state.model.state_dict()) == {"user.weight", "item.weight"}


def test_without_a_fine_tuning_it_is_refused() -> None:
    with pytest.raises(InputError, match="movement pruning happens while"):
        Prune(0.5, "movement")
    with pytest.raises(InputError, match="gradual pruning happens while"):
        Prune(0.5, until=0.5)
