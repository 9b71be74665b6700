"""The gradients of a training run's loss, for passes that look at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recdistill.models.base import Model
from recdistill.modules.supervised import weighted_sum
from recdistill.stages.blame import keys_below
from recdistill.stages.training import TRAINING_PARTS, FitSpec, make_module, task_of
from recdistill.stages.withheld import given
from recdistill.tasks.batches import mix


def gradients(spec: FitSpec, model: Model, net: dict[str, Any], steps: int) -> Iterator[dict[str, Tensor]]:
    """Those of the loss of a training run at its first steps, by name of the parameter, without training.

    The model is asked as it is when it serves: nothing is dropped, and nothing in it moves.
    """
    task = task_of(spec)
    whole = task.load(Path(spec.data), TRAINING_PARTS)
    data = given(whole, spec.labels, spec.privileged, seed=spec.seed)
    with keys_below(spec.key or spec.role, spec.node), torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(spec.seed, 0x7A1))
        module = make_module(replace(spec, node={**spec.node, "net": net}), model, data, task, whole)
        module.on_fit_start()
        epoch, done = 0, 0
        while done < steps:
            module.start_epoch(epoch)
            model.eval()
            plan = module.plan(epoch)
            for step in range(min(plan.steps, steps - done)):
                model.zero_grad()
                weighted_sum(module.loss_terms(plan.batch(step)), module.coefficients).backward()  # type: ignore[no-untyped-call]
                yield {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
            epoch, done = epoch + 1, done + plan.steps
        model.zero_grad()
