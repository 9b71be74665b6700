"""How a model is trained: the settings of one training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt, MinLen


@dataclass(frozen=True)
class Fit:
    """How a model is trained.

    Args:
        epochs: passes over the data, at most.
        batch_size: samples per step over all processes: interactions, or users for a loss over users.
        lr: learning rate.
        weight_decay: on everything but biases.
        decay: "decoupled", that of AdamW, or "coupled": a penalty weight_decay / 2 · ‖w‖² in the loss, of all rows at
            every step, as older papers have it (Loshchilov and Hutter, ICLR 2019, section 2, tells the two apart).
        schedule: of the learning rate over the steps after the warm-up; "cosine" falls to 0.
        warmup: first steps, in which the learning rate grows in proportion to their number; 0 for none.
        validate_every: epochs between validations.
        patience: validations without improvement before training stops, 0 for never.
        clip: largest norm of the gradient, 0 for no clipping.
        queries: users distilled at once where the hard loss is over interactions; places of the step's histories where
            it is over these, all where they are no more.
        every: steps from one that distils to the next, whose soft losses then count for all of them; None for 1, but
            where the hard loss is over interactions as many as keep the soft losses cheap: 48 · queries / batch_size.
        accumulate: parts that a step is computed in, one after another, to save memory; 1 is all at once.
        ema: decay of the average over the steps of the weights, which is then what is evaluated and kept;
            0 for the weights themselves.
        item_init: vectors that the item table starts from, a file or the name of a feature, see
            :mod:`recdistill.models.item_init`; None for random ones.
    """

    epochs: Annotated[int, Ge(1)] = 50
    batch_size: Annotated[int, Ge(1)] = 2048
    lr: Annotated[float, Gt(0)] = 1e-3
    weight_decay: Annotated[float, Ge(0)] = 0.0
    decay: Literal["decoupled", "coupled"] = "decoupled"
    schedule: Literal["constant", "cosine"] = "constant"
    validate_every: Annotated[int, Ge(1)] = 1
    patience: Annotated[int, Ge(0)] = 0
    clip: Annotated[float, Ge(0)] = 0.0
    queries: Annotated[int, Ge(1)] = 256
    every: Annotated[int, Ge(1)] | None = None
    warmup: Annotated[int, Ge(0)] = 0
    accumulate: Annotated[int, Ge(1)] = 1
    ema: Annotated[float, Ge(0), Lt(1)] = 0.0
    item_init: Annotated[str, MinLen(1)] | None = None
