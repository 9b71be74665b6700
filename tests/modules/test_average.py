"""The average of the weights against a loop by hand; it is what is evaluated, kept and gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from training_kit import callback, hashed, outcome

from recdistill.errors import Terminated
from recdistill.models.blocks import BatchNorm
from recdistill.models.fit import Fit
from recdistill.modules import checkpoints
from recdistill.modules.average import Average
from recdistill.modules.checkpoints import LAST, KeepBest, load_plain
from recdistill.modules.supervised import SupervisedModule
from recdistill.stages.training import finish
from recdistill.tasks.ranking import Ranking

DECAY = 0.9


@pytest.fixture
def averaged(settings: Fit) -> Fit:
    return Fit(**{**vars(settings), "ema": DECAY})


def weights_of(module: SupervisedModule) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.model.named_parameters()}


def history_of(module: SupervisedModule) -> list[dict[str, Tensor]]:
    """The weights after each step of a training to come."""
    seen: list[dict[str, Tensor]] = []
    update = module.average.update  # type: ignore[union-attr]

    def watch() -> None:
        seen.append(weights_of(module))
        update()

    module.average.update = watch  # type: ignore[union-attr, method-assign]
    return seen


def by_hand(history: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    average = dict(history[0])
    for weights in history[1:]:
        average = {name: DECAY * average[name] + (1 - DECAY) * value for name, value in weights.items()}
    return average


def test_it_is_the_loop_and_torch_s_own() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    ours, theirs = Average(model, DECAY), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
    seen = []
    for _ in range(20):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        ours.update()
        theirs.update_parameters(model)
        seen.append({name: p.detach().clone() for name, p in model.named_parameters()})
    for name, value in by_hand(seen).items():
        torch.testing.assert_close(ours.values[name], value)
        torch.testing.assert_close(ours.values[name], dict(theirs.module.named_parameters())[name].detach())


def test_half_precision_is_averaged_in_float32() -> None:
    model = nn.Linear(1, 1, bias=False).bfloat16()
    average = Average(model, 0.999)
    for value in (0.0, *[1.0] * 100):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update()
    assert average.values["weight"].item() == pytest.approx(1 - 0.999**100, rel=1e-4)
    average.put_in()
    assert model.weight.dtype == torch.bfloat16
    average.take_out()
    assert model.weight.item() == 1


@pytest.mark.parametrize("alpha", [None, 0.5])
def test_it_is_what_is_evaluated_and_kept(
    alpha: float | None, student: Any, train: Any, data: Any, averaged: Fit, tmp_path: Path
) -> None:
    module = student(alpha, fit=averaged)
    history = history_of(module)
    trainer = train(module, tmp_path)
    best = callback(trainer, KeepBest)
    expected = by_hand(history[: (best.best_epoch + 1) * 17])
    for name, value in expected.items():
        torch.testing.assert_close(best.weights[name], value)
        assert not torch.equal(best.weights[name], history[(best.best_epoch + 1) * 17 - 1][name])
    for name, value in weights_of(module).items():  # training itself goes on with its own weights
        assert torch.equal(value, history[-1][name])
    finish(trainer, module)
    result = Ranking().evaluate(module.model.eval(), data, "valid", [5, 10])
    assert result.means()["ndcg@10"] == pytest.approx(best.best, abs=1e-6)


def test_training_itself_is_the_same(student: Any, train: Any, settings: Fit, averaged: Fit, tmp_path: Path) -> None:
    plain, module = student(0.5, fit=settings), student(0.5, fit=averaged)
    kept = [outcome(train(m, tmp_path / str(n)), m) for n, m in enumerate((plain, module))]
    assert kept[0]["weights"] == kept[1]["weights"]
    assert kept[0]["optimizer"] == kept[1]["optimizer"]
    assert kept[0]["best"] != kept[1]["best"]
    assert len(list(plain.parameters())) == len(list(module.parameters()))


@pytest.mark.parametrize("position", [(0, 1), (1, 7), (2, 17), (3, 0)])
def test_it_goes_on(
    position: tuple[int, int], student: Any, train: Any, averaged: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = student(0.5, fit=averaged)
    expected = outcome(train(whole, tmp_path / "whole"), whole)
    first = student(0.5, fit=averaged)
    monkeypatch.setattr(checkpoints, "stop_requested", lambda: first.position == position)
    with pytest.raises(Terminated):
        train(first, tmp_path / "cut")
    content = load_plain(tmp_path / "cut" / LAST)
    assert set(content["recdistill"]["average"]) == {name for name, _ in first.model.named_parameters()}
    assert content["state_dict"].keys() == first.state_dict().keys()
    monkeypatch.undo()
    second = student(0.5, fit=averaged)
    assert outcome(train(second, tmp_path / "cut"), second) == expected
    assert hashed(second.average.values) == hashed(whole.average.values)


def test_it_is_kept_where_nothing_is_validated(student: Any, trainer_of: Any, averaged: Fit, tmp_path: Path) -> None:
    module = student(fit=averaged)
    history = history_of(module)
    trainer = trainer_of(module, tmp_path, limit_val_batches=0)
    trainer.limit_val_batches = 0
    trainer.fit(module)
    assert not callback(trainer, KeepBest).weights
    finish(trainer, module)
    for name, value in by_hand(history).items():
        torch.testing.assert_close(weights_of(module)[name], value)


# Batch normalisation.


def normalised(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 16), BatchNorm(16), nn.ReLU(), nn.Linear(16, 1))


def test_running_statistics_belong_to_the_weights() -> None:
    model = normalised(0)
    x, noise = torch.randn(2000, 6), torch.randn(2000)
    y = (x[:, 0] * x[:, 1] + 0.1 * noise).unsqueeze(1)
    average, optimizer = Average(model, 0.99), torch.optim.SGD(model.parameters(), lr=0.2)
    for step in range(600):
        rows = torch.arange(step * 100, step * 100 + 100) % 2000
        # The inputs grow, so that the last step's statistics are no longer those of the average.
        loss = nn.functional.mse_loss(model(x[rows] * (1 + step / 200)), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update()
    trained = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    average.put_in()
    model.eval()

    def evaluated() -> float:
        with torch.no_grad():
            return float(nn.functional.mse_loss(model(x * 3.5), y))

    def refreshed(batches: list[Tensor]) -> float:
        update_bn(batches, model)
        return evaluated()

    ours = evaluated()
    average.take_out()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in model.state_dict().items())
    average.put_in()
    latest = {name: tensor for name, tensor in trained.items() if "running" in name}
    model.load_state_dict(latest, strict=False)
    stale = evaluated()
    anew = refreshed([x * (1 + step / 200) for step in range(400, 600)])
    assert abs(ours - anew) < 0.25 * abs(stale - anew)
