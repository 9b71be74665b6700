"""Compressing a model: the passes one after another, each with its fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from recdistill.compression.base import ANCHORS, CLIPS, HINT, Compressed, CompressionPass, materialised
from recdistill.compression.quantize import Quantize
from recdistill.export.bundle import load_model, model_info, save_model
from recdistill.export.packing import Codec
from recdistill.models.build import instantiate
from recdistill.stages.gradients import gradients
from recdistill.stages.training import FitSpec

LATENT = "latent"  # the weights before rounding, from which the next pass or a fine-tuning goes on


def compress(
    source: Path,
    node: dict[str, Any],
    train: Any,
    folder: Path,
    finetune: FitSpec,
    launch: Callable[[FitSpec], None],
) -> None:
    """One pass over the model in ``source``, written to ``folder``.

    Args:
        source: a model, or the result of the pass before.
        node: config of the pass.
        train: the training part.
        folder: of the result.
        finetune: the training run of the student; its model, its settings and where it starts are set here.
        launch: runs a training.
    """
    step: CompressionPass = instantiate(node)
    before, labels = read_state(source, train), model_info(source).get("labels")
    if step.looks:
        before.gradients = partial(gradients, finetune, before.model, before.net)
    before.train = train
    state = step.apply(before)
    write_latent(folder / LATENT, state, labels)
    if step.finetune is None:
        save_model(
            folder, state.model, state.net, codecs=state.codecs, clips=state.clips, data=finetune_data(source),
            labels=labels,
        )  # fmt: skip
        return
    spec = replace(
        finetune,
        node={**finetune.node, "net": state.net, "fit": {**node["finetune"], **asdict(step.finetune)}},
        folder=str(folder),
        init=str(folder / LATENT),
        codecs={name: asdict(codec) for name, codec in state.codecs.items()},
        gradual=state.gradual,
    )
    launch(spec)


def quantized(source: Path, bits: Literal[8, 4], train: Any, folder: Path) -> None:
    """A model in fewer bits, as it is served, written to ``folder``."""
    info = model_info(source)
    state = Quantize(bits).apply(materialised(load_model(source, train), info["net"]))
    save_model(
        folder, state.model, state.net, codecs=state.codecs, clips=state.clips, data=info["data"],
        labels=info.get("labels"),
    )  # fmt: skip


def finetune_data(source: Path) -> str:
    """Fingerprint of the data that the model was trained on."""
    return str(model_info(source)["data"])


def read_state(source: Path, train: Any) -> Compressed:
    """A model with the constraints of earlier passes."""
    info = model_info(source)
    codecs = {name: Codec(**codec) for name, codec in info["codecs"].items()}
    if not codecs:
        return materialised(load_model(source, train), info["net"])
    # What was read is on the grid already; clipping it once more would move it.
    return Compressed(load_model(source, train), info["net"], codecs)


def write_latent(folder: Path, state: Compressed, labels: dict[str, Any] | None = None) -> None:
    """The unrounded weights, the clips and the vectors that tables are held to; ``labels`` as in
    :func:`~recdistill.export.bundle.save_model`."""
    from safetensors.torch import save_file

    save_model(folder, state.model, state.net, labels=labels)
    if state.clips:
        save_file(state.clips, folder / CLIPS)
    if state.anchors and state.hint:
        save_file({**state.anchors, HINT: torch.tensor(state.hint)}, folder / ANCHORS)
