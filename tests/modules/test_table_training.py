"""Trainings of models with compressed tables: prefixes, anchors, and where they go on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from training_kit import outcome

from recdistill.compression.base import ANCHORS, HINT, Compressed, constrain, read_latent
from recdistill.data.interactions import Dataset, Schema
from recdistill.errors import Terminated
from recdistill.models.fit import Fit
from recdistill.models.mf import MF
from recdistill.models.tables.base import Table, TableKind, read_form
from recdistill.models.tables.md import MD
from recdistill.models.tables.pq import PQ
from recdistill.models.tables.qr import QR
from recdistill.modules import checkpoints
from recdistill.modules.supervised import StudentModule
from recdistill.stages.compress import write_latent
from recdistill.tasks.objectives import BPR, Softmax

KINDS: dict[str, TableKind] = {
    "md": partial(MD, serve=0.25), "pq": partial(PQ, parts=2, codes=8), "qr": partial(QR, share=0.3),
}  # fmt: skip


def module_of(data: Dataset, kind: str, fit: Fit, **more: Any) -> StudentModule:
    torch.manual_seed(3)
    model = MF(Schema(data.train.n_users, data.train.n_items), dim=8, init_std=0.3, table=KINDS[kind])
    model.bind(data.train)
    assert isinstance(model.user, Table)
    return StudentModule(model, BPR(negatives=2), fit, data, seed=5, ks=[5, 10], **more)


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_gone_on_is_the_same(
    kind: str, data: Dataset, settings: Fit, train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = module_of(data, kind, settings)
    expected = outcome(train(whole, tmp_path / "whole"), whole)
    first = module_of(data, kind, settings)
    monkeypatch.setattr(checkpoints, "stop_requested", lambda: first.position == (1, 4))
    with pytest.raises(Terminated):
        train(first, tmp_path / "cut")
    monkeypatch.undo()
    torch.manual_seed(991)
    second = module_of(data, kind, settings)
    assert outcome(train(second, tmp_path / "cut"), second) == expected


class Watched(StudentModule):
    """Keeps the batch and the gradient of its last step."""

    batch: Any
    gradient: dict[str, torch.Tensor]

    def optimize(self, optimizer: Any, parts: list[Any], step: int) -> dict[str, float]:
        self.batch = parts[0]
        return super().optimize(optimizer, parts, step)

    def clip(self, optimizer: Any) -> None:  # noqa: ARG002
        self.gradient = {name: part.grad.clone() for name, part in self.model.named_parameters()}


def test_a_step_has_the_mean_gradient_over_all_prefixes(data: Dataset, tmp_path: Path, train: Any) -> None:
    fit = Fit(epochs=1, batch_size=10_000, lr=0.01)
    model = module_of(data, "md", fit).model
    module = Watched(model, Softmax(), fit, data, seed=5, ks=[5, 10], max_steps=1)
    before = {name: part.detach().clone() for name, part in model.named_parameters()}
    train(module, tmp_path)
    with torch.no_grad():
        for name, part in model.named_parameters():
            part.copy_(before[name])
    model.train().zero_grad()
    losses = []
    for number in range(3):
        read_form(module.tables, number)
        assert [table.read for table in module.tables] == [2 * 2**number] * 2
        losses.append(module.loss_terms(module.batch)["softmax"])
    torch.stack(losses).mean().backward()
    assert len({round(loss.item(), 6) for loss in losses}) == 3
    for name, part in model.named_parameters():
        torch.testing.assert_close(module.gradient[name], part.grad, msg=name)


def test_validation_sees_what_is_served(data: Dataset, settings: Fit) -> None:
    module = module_of(data, "md", settings)
    items = module.model.eval().factors()[1]
    assert torch.linalg.matrix_rank(items) == 2


def test_a_model_is_held_to_its_anchor(data: Dataset, settings: Fit, train: Any, tmp_path: Path) -> None:
    """What the stage of compression writes is what a fine-tuning reads; a strong hint keeps the vectors."""
    gaps = []
    for hint in (0.0, 100.0):
        module = module_of(data, "qr", settings)
        anchors = {name: getattr(module.model, name).weight.detach().clone() for name in ("user", "item")}
        net = {"_target_": "recdistill.models.mf.MF", "dim": 8}
        state = Compressed(module.model, net, anchors=anchors, hint=hint)
        folder = tmp_path / str(hint)
        plain = Compressed(MF(module.model.schema, dim=8), net, anchors=anchors, hint=hint)
        write_latent(folder, plain)
        assert (folder / ANCHORS).exists() == bool(hint)
        again = read_latent(folder, module.model, net, {})
        assert again.hint == hint
        assert HINT not in again.anchors
        assert set(again.anchors) == (set(anchors) if hint else set())
        constrain(again)
        train(module, tmp_path / f"run{hint}")
        gaps.append(float((module.model.item.weight.detach() - anchors["item"]).square().mean()))
        assert state.anchors is anchors
    assert gaps[1] < 0.1 * gaps[0]
