"""The LightningModule that trains a student under a frozen teacher."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recdistill.distillers.base import Distiller
from recdistill.distillers.teacher import FrozenTeacher
from recdistill.models.base import vector_size
from recdistill.modules.supervised import StudentModule, times
from recdistill.tasks.base import Batch
from recdistill.tasks.batches import generator, mix


class DistillationModule(StudentModule):
    """loss = (1 - alpha) · hard loss + alpha · Σ weight · distiller.

    Args:
        teacher: answers for the teacher; not a submodule, so nothing that is done to this module reaches it.
        distillers: soft losses by name.
        alpha: share of the soft losses. At 0 the run is, bit for bit, the student alone.
        kwargs: as for :class:`SupervisedModule`.
    """

    def __init__(
        self, *args: Any, teacher: FrozenTeacher, distillers: dict[str, Distiller], alpha: float, **kwargs: Any
    ):
        super().__init__(*args, **kwargs)
        self.teacher, self.alpha = teacher, alpha
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(self.seed, 0xD15))
            for distiller in distillers.values():
                distiller.prepare(vector_size(self.model), teacher.dim)
        # At alpha 0 nothing of them is trained, and DDP refuses parameters without gradients.
        self.distillers = nn.ModuleDict(distillers if alpha else {})
        self.queries = self.fit_config.queries if alpha else 0
        self.coefficients[self.objective.name] = 1 - alpha
        self.coefficients |= {name: alpha * distiller.weight for name, distiller in distillers.items()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # A precision such as bf16-true has cast all parameters; what distillers compare is float32.
        self.distillers.float()
        return super().configure_optimizers()

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.teacher.to(self.device, self.train_part)

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        student = self.task.batch_view(self.model, batch, self.train_part)
        rng = generator(self.device, batch.seed)
        terms = {self.objective.name: times(batch.weight, self.objective(self.model, batch, student, rng))}
        if self.distillers:
            teacher = self.teacher.view(batch.query)
            for name, distiller in self.distillers.items():
                terms[name] = times(batch.query_weight, distiller(student, teacher, rng))
        return terms

    def describe(self) -> str:
        temperatures = {n: d.temperature for n, d in self.distillers.items() if hasattr(d, "temperature")}
        return f", alpha={self.alpha:g}" + "".join(f", {n}.temperature={t:g}" for n, t in temperatures.items())
