"""A model on disk: a safetensors file and a JSON file. Nothing in it has to be unpickled."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import InputError
from recdistill.export.packing import Codec, codec_json, pack, unpack
from recdistill.models.base import RankingModel
from recdistill.models.build import build
from recdistill.runs.atomic import atomic_path, file_digest, read_json, write_json

WEIGHTS = "model.safetensors"
INFO = "model.json"


def save_model(
    folder: Path,
    model: RankingModel,
    net: dict[str, Any],
    *,
    codecs: dict[str, Codec] | None = None,
    clips: dict[str, Tensor] | None = None,
    data: str = "",
) -> None:
    """Writes the model.

    Args:
        folder: created if need be.
        model: whose state dict is written.
        net: its ``_target_`` and hyper-parameters.
        codecs: how tensors are stored that are not plain float32.
        clips: of quantized tensors, see :func:`~recdistill.export.packing.quantize_rows`.
        data: fingerprint of the data set it was trained on.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    codecs, clips = codecs or {}, clips or {}
    tensors: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, tensor in model.state_dict().items():
        shapes[name] = list(tensor.shape)
        if name not in codecs:
            tensors[name] = tensor.detach().cpu().contiguous()
            continue
        for part, stored in pack(tensor, codecs[name], clips.get(name)).items():
            tensors[f"{name}:{part}"] = stored.contiguous()
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    info = {
        "net": net, "schema": asdict(model.schema), "codecs": codec_json(codecs), "shapes": shapes,
        "data": data, "hash": file_digest(folder / WEIGHTS), "bytes": (folder / WEIGHTS).stat().st_size,
    }  # fmt: skip
    write_json(folder / INFO, info)


def load_model(folder: Path, train: Interactions | None = None) -> RankingModel:
    """Reads a model back in eval mode, decoded to float32.

    Args:
        folder: that :func:`save_model` wrote.
        train: attached to models that score with the training data (graphs, histories).

    Raises:
        InputError: the weights are damaged or do not fit the model.
    """
    from safetensors.torch import load_file

    info = read_json(folder / INFO)
    if file_digest(folder / WEIGHTS) != info["hash"]:
        raise InputError(
            "the model file does not match its hash", where=str(folder / WEIGHTS),
            why="it was damaged or changed after it was written", fix=f"remove {folder} and run again",
        )  # fmt: skip
    tensors = load_file(folder / WEIGHTS)
    state = {name: decode(name, tensors, info) for name in info["shapes"]}
    model = build(info["net"], Schema(**info["schema"]))
    if train is not None:
        model.bind(train)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError("the weights do not fit the model", where=str(folder), why=str(error)) from error
    return model.eval()


def decode(name: str, tensors: dict[str, Tensor], info: dict[str, Any]) -> Tensor:
    """One tensor of the state dict."""
    if name not in info["codecs"]:
        return tensors[name]
    parts = {part: tensors[f"{name}:{part}"] for part in ("values", "scale", "kept") if f"{name}:{part}" in tensors}
    return unpack(parts, Codec(**info["codecs"][name]), tuple(info["shapes"][name]))


def model_info(folder: Path) -> dict[str, Any]:
    """What stands beside the weights: net, schema, codecs, shapes, data, hash, bytes."""
    info: dict[str, Any] = read_json(folder / INFO)
    return info


def count_parameters(folder: Path) -> int:
    """Values that the file stores and that are not zero."""
    from safetensors.torch import load_file

    info, tensors = model_info(folder), load_file(folder / WEIGHTS)
    return sum(int(torch.count_nonzero(decode(name, tensors, info))) for name in info["shapes"])
