"""How a model is trained: the settings of one training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt


@dataclass(frozen=True)
class Fit:
    """How a model is trained.

    Args:
        epochs: passes over the data, at most.
        batch_size: samples per step over all processes: interactions, or users for a loss over users.
        lr: learning rate.
        weight_decay: decoupled weight decay of AdamW, on everything but biases.
        schedule: of the learning rate over all steps; "cosine" falls to 0.
        validate_every: epochs between validations.
        patience: validations without improvement before training stops, 0 for never.
        clip: largest norm of the gradient, 0 for no clipping.
        queries: users distilled per step where the hard loss is over interactions.
    """

    epochs: Annotated[int, Ge(1)] = 50
    batch_size: Annotated[int, Ge(1)] = 2048
    lr: Annotated[float, Gt(0)] = 1e-3
    weight_decay: Annotated[float, Ge(0)] = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    validate_every: Annotated[int, Ge(1)] = 1
    patience: Annotated[int, Ge(0)] = 0
    clip: Annotated[float, Ge(0)] = 0.0
    queries: Annotated[int, Ge(1)] = 256
