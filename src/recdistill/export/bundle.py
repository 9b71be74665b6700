"""A model on disk: a safetensors file and a JSON file. Nothing in it has to be unpickled."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recdistill.data.interactions import Schema
from recdistill.data.withheld import with_labels
from recdistill.errors import DivergedError, InputError
from recdistill.export.names import INFO as INFO
from recdistill.export.names import WEIGHTS as WEIGHTS
from recdistill.export.packing import Codec, codec_json, pack, unpack
from recdistill.models.base import Model
from recdistill.models.build import build
from recdistill.models.tables.base import stored_form, stored_state, tables_of
from recdistill.runs.atomic import atomic_path, file_digest, read_json, write_json

MAX_INFO_BYTES = 2**20
_KEYS = ("net", "schema", "codecs", "shapes", "data", "hash", "bytes")


def save_model(
    folder: Path,
    model: Model,
    net: dict[str, Any],
    *,
    codecs: dict[str, Codec] | None = None,
    clips: dict[str, Tensor] | None = None,
    data: str = "",
    labels: dict[str, Any] | None = None,
) -> None:
    """Writes the model.

    Args:
        folder: created if need be.
        model: whose state dict is written; of compressed tables what serving needs.
        net: its ``_target_`` and hyper-parameters.
        codecs: how tensors are stored that are not plain float32.
        clips: of quantized tensors, see :func:`~recdistill.export.packing.quantize_rows`.
        data: fingerprint of the data set it was trained on.
        labels: which labels it may know, arguments of :func:`~recdistill.data.withheld.with_labels`; None for all.

    Raises:
        DivergedError: a weight is NaN.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    codecs, clips = dict(codecs or {}), clips or {}
    codecs |= {name: replace(codecs.get(name, Codec()), sparse=True) for name in model.sparse}
    tensors: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, tensor in stored_state(model).items():
        if tensor.isnan().any():
            raise DivergedError(f"{name} of {type(model).__name__} is NaN, so the model is not written")
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
    write_json(folder / INFO, info | ({"labels": labels} if labels else {}))


def load_model(folder: Path, train: Any = None) -> Any:
    """Reads a model back in eval mode, decoded to float32. Draws no random numbers.

    Args:
        folder: that :func:`save_model` wrote; nothing in it is trusted.
        train: the training part, attached to models that score with it (graphs, histories): of one that was given few
            labels, the events with these.

    Returns:
        A :class:`~recdistill.models.base.Model`.

    Raises:
        InputError: no model, a damaged one, weights that do not fit it, or a class that a config may not
            name.
    """
    info = model_info(folder)
    state = read_state(folder, info)
    with _readable(folder), torch.random.fork_rng(devices=[]), stored_form():
        schema = Schema(**info["schema"])
        _check_shapes(info["net"], schema, state)
        model = build(info["net"], schema)
        if train is not None:
            model.bind(with_labels(train, **info["labels"]).taught if info.get("labels") else train)
        model.load_state_dict(state)
        for table in tables_of(model).values():
            table.require_sound()
    return model.eval()


def load_frozen(folder: Path, train: Any = None) -> Any:
    """As :func:`load_model`, to answer and not to train: what a model derives from its weights, such as the vectors
    that a graph spreads, is computed once (:class:`~recdistill.models.kept.Kept`)."""
    return load_model(folder, train).requires_grad_(False)


def _check_shapes(net: Any, schema: Schema, state: dict[str, Tensor]) -> None:
    """Raises ValueError where the model would have other shapes than the weights, before it takes memory."""
    try:
        with torch.device("meta"):
            expected = build(net, schema).state_dict()
    except (RuntimeError, NotImplementedError):  # a model that computes while it is built
        return
    for name in sorted(expected.keys() | state.keys()):
        wanted, found = expected.get(name), state.get(name)
        if wanted is None or found is None or wanted.shape != found.shape:
            shapes = [list(t.shape) if t is not None else "nothing" for t in (wanted, found)]
            raise ValueError(f"{name}: the model needs {shapes[0]}, the file has {shapes[1]}")


def model_info(folder: Path) -> dict[str, Any]:
    """What stands beside the weights: net, schema, codecs, shapes, data, hash, bytes.

    Raises:
        InputError: there is no such file, or it says something else.
    """
    if not (folder / INFO).is_file() or not (folder / WEIGHTS).is_file():
        raise InputError("there is no model here", where=str(folder), fix="recdistill run makes one")
    with _readable(folder):
        if (folder / INFO).stat().st_size > MAX_INFO_BYTES:
            raise ValueError(f"{INFO} has more than {MAX_INFO_BYTES:,} bytes")
        info = read_json(folder / INFO)
        if not isinstance(info, dict) or set(_KEYS) - set(info):
            raise ValueError(f"{INFO} must have {', '.join(_KEYS)}")
        return info


def read_state(folder: Path, info: dict[str, Any]) -> dict[str, Tensor]:
    """The state dict, decoded.

    Raises:
        InputError: the weights are damaged, not of the shapes that ``info`` gives, or NaN.
    """
    from safetensors.torch import load_file

    if file_digest(folder / WEIGHTS) != info["hash"]:
        raise InputError(
            "the model file does not match its hash", where=str(folder / WEIGHTS),
            why="it was damaged or changed after it was written", fix=f"remove {folder} and run again",
        )  # fmt: skip
    with _readable(folder):
        tensors = load_file(folder / WEIGHTS)
        state = {name: decode(name, tensors, info) for name in info["shapes"]}
        bad = [name for name, tensor in state.items() if tensor.isnan().any()]
        if bad:
            raise ValueError(f"{', '.join(bad)} is NaN")
    return state


def decode(name: str, tensors: dict[str, Tensor], info: dict[str, Any]) -> Tensor:
    """One tensor of the state dict."""
    shape = tuple(info["shapes"][name])
    if name not in info["codecs"]:
        if tensors[name].shape != shape:
            raise ValueError(f"{name}: {list(shape)} expected, {list(tensors[name].shape)} found")
        return tensors[name]
    keys = {part: f"{name}:{part}" for part in ("values", "scale", "kept", "indptr", "columns")}
    parts = {part: tensors[key] for part, key in keys.items() if key in tensors}
    return unpack(parts, Codec(**info["codecs"][name]), shape)


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Turns what goes wrong with a foreign file into a message that names it."""
    from safetensors import SafetensorError

    foreign = (SafetensorError, json.JSONDecodeError, UnicodeDecodeError)
    try:
        yield
    except (*foreign, KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise InputError(
            "the model cannot be read", where=str(folder), why=f"{type(error).__name__}: {error}",
            fix=f"remove {folder} and run again",
        ) from error  # fmt: skip


def count_parameters(folder: Path) -> dict[str, int]:
    """``parameters``, the values of the model's tensors, and ``nonzeros``, those that are not zero."""
    state = read_state(folder, model_info(folder)).values()
    return {
        "parameters": sum(tensor.numel() for tensor in state),
        "nonzeros": sum(int(torch.count_nonzero(tensor)) for tensor in state),
    }
