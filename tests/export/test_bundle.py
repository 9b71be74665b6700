"""Models on disk: what comes back is what was written, and a foreign folder is refused by name."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import DivergedError, InputError
from recdistill.export.bundle import INFO, WEIGHTS, count_parameters, load_model, model_info, save_model
from recdistill.export.packing import Codec, best_clip
from recdistill.models.base import RankingModel
from recdistill.models.lightgcn import LightGCN
from recdistill.models.linear import EASE
from recdistill.models.mf import MF
from recdistill.models.popularity import Popularity
from recdistill.runs.atomic import file_digest

NET = {"_target_": "recdistill.models.mf.MF", "dim": 4, "item_bias": True}


@pytest.fixture
def model(schema: Schema) -> MF:
    torch.manual_seed(0)
    return MF(schema, dim=4, item_bias=True, init_std=1.0)


@pytest.fixture
def folder(model: MF, tmp_path: Path) -> Path:
    save_model(tmp_path / "m", model, NET, data="abc")
    return tmp_path / "m"


def test_round_trip_of_every_model(schema: Schema, train: Interactions, tmp_path: Path) -> None:
    nets: list[tuple[RankingModel, dict[str, Any]]] = [
        (MF(schema, dim=3), {"_target_": "recdistill.models.mf.MF", "dim": 3}),
        (LightGCN(schema, dim=3), {"_target_": "recdistill.models.lightgcn.LightGCN", "dim": 3}),
        (EASE(schema), {"_target_": "recdistill.models.linear.EASE"}),
        (Popularity(schema), {"_target_": "recdistill.models.popularity.Popularity"}),
    ]
    users = torch.arange(train.n_users)
    for number, (model, net) in enumerate(nets):
        model.bind(train)
        if hasattr(model, "fit"):
            model.fit(train)
        save_model(tmp_path / str(number), model, net)
        state = torch.get_rng_state()
        again = load_model(tmp_path / str(number), train)
        assert torch.equal(torch.get_rng_state(), state)
        assert not again.training
        assert torch.equal(again.scores(users), model.scores(users))


@pytest.mark.parametrize("codec", [Codec(8), Codec(4), Codec(32, True), Codec(8, True), Codec(4, True)])
def test_stored_in_fewer_bits_and_again(model: MF, tmp_path: Path, codec: Codec) -> None:
    with torch.no_grad():
        model.user.weight[:, 1] = 0.0
    codecs = {"user.weight": codec, "item.weight": codec}
    clips = {name: best_clip(model.state_dict()[name], 8) for name in codecs} if codec.bits != 32 else {}
    save_model(tmp_path / "a", model, NET, codecs=codecs, clips=clips)
    save_model(tmp_path / "b", load_model(tmp_path / "a"), NET, codecs=codecs)
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()
    again = load_model(tmp_path / "a")
    state = list(again.state_dict().values())
    assert count_parameters(tmp_path / "a") == {
        "parameters": sum(t.numel() for t in state), "nonzeros": sum(int(t.count_nonzero()) for t in state),
    }  # fmt: skip
    assert bool((again.state_dict()["user.weight"][:, 1] == 0).all())


def test_what_stands_beside_the_weights(folder: Path, schema: Schema) -> None:
    info = model_info(folder)
    assert info["net"] == NET
    assert Schema(**info["schema"]) == schema
    assert info["data"] == "abc"
    assert info["bytes"] == (folder / WEIGHTS).stat().st_size
    assert info["shapes"]["bias"] == [17]


def test_weights_that_are_nan_are_not_written(model: MF, tmp_path: Path) -> None:
    with torch.no_grad():
        model.item.weight[3, 1] = torch.nan
    with pytest.raises(DivergedError, match=r"item\.weight of MF is NaN"):
        save_model(tmp_path / "m", model, NET)
    assert not (tmp_path / "m" / WEIGHTS).exists()


@pytest.mark.parametrize("place", [0, 20, -1])
def test_a_flipped_byte(folder: Path, place: int) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[place] ^= 4
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(InputError, match="does not match its hash"):
        load_model(folder)


def forge(folder: Path, content: bytes | None = None, **changes: Any) -> None:
    """A file that someone prepared: other bytes and other words, with a hash that fits."""
    if content is not None:
        (folder / WEIGHTS).write_bytes(content)
    info = json.loads((folder / INFO).read_text()) | {"hash": file_digest(folder / WEIGHTS)} | changes
    (folder / INFO).write_text(json.dumps(info))


def tensors_of(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    forge(folder)


def nan(tensors: dict[str, torch.Tensor]) -> None:
    tensors["user.weight"][0, 0] = torch.nan


def drop(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["user.weight"]


def shrink(tensors: dict[str, torch.Tensor]) -> None:
    tensors["user.weight"] = tensors["user.weight"][:3].clone()


@pytest.mark.parametrize(("change", "message"), [(nan, "NaN"), (drop, "user.weight"), (shrink, "expected")])
def test_foreign_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None], message: str) -> None:
    tensors_of(folder, change)
    with pytest.raises(InputError, match=message) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)
    assert caught.value.exit_code == 2


def test_headers(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + size])
    header["item.weight"]["data_offsets"] = header["user.weight"]["data_offsets"]
    overlapping = json.dumps(header).encode()
    for content in (
        struct.pack("<Q", 2**62) + whole[8:], struct.pack("<Q", 10**8) + whole[8:],
        whole[:-5], whole[:5], b"",
        struct.pack("<Q", len(overlapping)) + overlapping + whole[8 + size :],
    ):  # fmt: skip
        forge(folder, content)
        with pytest.raises(InputError, match="cannot be read"):
            load_model(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": {"n_users": 10**12, "n_items": 17}}, {"schema": {"n_users": 13, "n_items": 17}},
        {"schema": {"n_users": "many"}}, {"schema": {"users": 3}}, {"schema": 3},
        {"net": NET | {"dim": 5}}, {"net": NET | {"dim": 10**12}}, {"net": NET | {"item_bias": False}},
        {"net": NET | {"depth": 3}}, {"net": "MF"}, {"net": {}},
        {"shapes": {"user.weight": [10**7, 10**6]}}, {"shapes": {"user.weight": [-1, 4]}}, {"shapes": [1]},
        {"codecs": {"user.weight": {"bits": 8, "sparse": False}}}, {"codecs": {"user.weight": {"bits": 7}}},
        {"codecs": {"user.weight": {"bits": 4, "sparse": True}}, "shapes": {"user.weight": [10**9, 10**9]}},
    ],
)  # fmt: skip
def test_words_that_do_not_fit_the_weights(folder: Path, changes: dict[str, Any]) -> None:
    forge(folder, **changes)
    with pytest.raises(InputError):
        load_model(folder)


@pytest.mark.parametrize(
    "net",
    [
        {"_target_": "os.system", "command": "true"}, {"_target_": "torch.load", "f": "x"},
        {"_target_": "recdistill.runs.atomic.write_json", "path": "x", "content": 1},
        NET | {"dim": {"_target_": "os.getpid"}}, NET | {"dim": {"_target_": "subprocess.check_output",
        "args": ["id"]}}, NET | {"init_std": [{"_target_": "numpy.load", "file": "x"}]}, NET | {"dim":
        "${oc.env:HOME}"}, {"_target_": "recdistill.tasks.objectives.BPR"},
    ],
)  # fmt: skip
def test_a_class_that_a_config_may_not_name(folder: Path, net: dict[str, Any]) -> None:
    forge(folder, net=net)
    with pytest.raises(InputError):
        load_model(folder)


def test_shapes_are_compared_before_the_model_takes_memory(folder: Path) -> None:
    forge(folder, schema={"n_users": 13, "n_items": 17})
    with pytest.raises(InputError, match=r"the model needs \[13, 4\], the file has \[12, 4\]"):
        load_model(folder)


def test_folders_without_a_model(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="no model here"):
        load_model(tmp_path / "nowhere")
    (folder / INFO).write_text("{not json")
    with pytest.raises(InputError, match="cannot be read"):
        load_model(folder)
    (folder / INFO).write_text('{"net": 1}')
    with pytest.raises(InputError, match="must have"):
        load_model(folder)
    (folder / INFO).write_text(" " * (2**20 + 1))
    with pytest.raises(InputError, match="more than"):
        load_model(folder)
    (folder / INFO).write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match="cannot be read"):
        model_info(folder)
