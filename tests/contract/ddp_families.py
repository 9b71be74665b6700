"""Gradients of each family's loss: of one process, or of one of several that share a step, wrapped as by Lightning."""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist
from families_kit import FAMILIES, build, fit
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recdistill.modules.supervised import weighted_sum

STEPS = 2


class Step(nn.Module):
    """The loss of a share of a step."""

    def __init__(self, module: Any):
        super().__init__()
        self.module = module

    def forward(self, batch: Any) -> Tensor:
        self.terms = self.module.loss_terms(batch)
        return weighted_sum(self.terms, self.module.coefficients)


def gradients(name: str, rank: int = 0, world: int = 1) -> tuple[list[Tensor], dict[str, float]]:
    """Those of the student and of the distillers, after some steps of plain descent; and this share's terms."""
    module = build(name, fit=fit())
    step = Step(module)
    # By default DDP fails at the next step where a parameter got no gradient: find_unused_parameters is off.
    wrapped: nn.Module = DistributedDataParallel(step) if world > 1 else step
    plan = module.task.epoch(module.train_part, module.objective, seed=1, epoch=0, batch_size=13, queries=7)
    module.start_epoch(0)
    module.model.eval()  # dropout and batch normalisation are of each process's own
    parameters = [p for p in module.parameters() if p.requires_grad]
    module.steps = plan.steps
    for number in range(STEPS):
        module.position = (0, number)
        module.advance(0.25)
        wrapped.zero_grad()
        wrapped(plan.batch(number, rank, world)).backward()
        found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
        with torch.no_grad():
            for p, grad in zip(parameters, found, strict=True):
                p -= 0.1 * grad
    return found, {key: term.item() for key, term in step.terms.items()}


def work(rank: int, world: int, folder: str, answer: Connection) -> None:
    """Sends what :func:`gradients` gives for every family."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    found: dict[str, Any] = {}
    for name in FAMILIES:
        try:
            grads, terms = gradients(name, rank, world)
            found[name] = ([grad.numpy() for grad in grads], terms)
        except RuntimeError as error:
            found[name] = f"process {rank}: {error}"
            break  # the others would wait for this one
    answer.send(found)
    answer.close()
    if not any(isinstance(one, str) for one in found.values()):
        dist.destroy_process_group()
