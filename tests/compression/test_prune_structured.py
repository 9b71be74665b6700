"""Structured pruning: the small model answers as the whole one does in which the same pieces are silent."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recdistill.compression.base import Compressed, tables
from recdistill.compression.low_rank import LowRank
from recdistill.compression.prune_structured import PruneStructured, kept_of, whole
from recdistill.compression.quantize import Quantize
from recdistill.config.importing import import_target
from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import InputError
from recdistill.export.bundle import WEIGHTS, load_model, save_model
from recdistill.models.base import Model, SequenceModel, TableModel
from recdistill.models.build import build
from table_kit import rows_of, schema_of, shaken, table

HISTORY = torch.tensor([[1, 2, 3, 0], [4, 16, 17, 17], [5, 17, 17, 17]])
FIELDS = {"dim": 4, "hidden": [6, 5], "batch_norm": True}
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "mf": ("mf.MF", {"dim": 6, "item_bias": True}),
    "mf of length 1": ("mf.MF", {"dim": 6, "normalise": True}),
    "multvae": ("multvae.MultVAE", {"dim": 4, "hidden": 6}),
    "gru4rec": ("gru4rec.GRU4Rec", {"dim": 6, "hidden": 8, "layers": 2}),
    "gru4rec without a map": ("gru4rec.GRU4Rec", {"dim": 6, "hidden": 6, "layers": 2}),
    "sasrec": ("sasrec.SASRec", {"dim": 8, "layers": 3, "heads": 4}),
    "bert4rec": ("bert4rec.BERT4Rec", {"dim": 8, "layers": 2, "heads": 4}),
    "hstu": ("hstu.HSTU", {"dim": 8, "layers": 3, "heads": 4}),
    "dnn": ("dnn.DNN", {**FIELDS, "dims": {"item": 3}}),
    "deepfm": ("deepfm.DeepFM", {**FIELDS}),
    "wide_deep": ("wide_deep.WideDeep", {**FIELDS, "crosses": [["item", "user"]]}),
    "dcnv2": ("dcnv2.DCNv2", {**FIELDS}),
    "dcnv2 of low rank": ("dcnv2.DCNv2", {**FIELDS, "rank": 3}),
    "dcnv2 stacked": ("dcnv2.DCNv2", {**FIELDS, "structure": "stacked"}),
    "dcnv2 without a perceptron": ("dcnv2.DCNv2", {"dim": 4, "hidden": []}),
    "autoint": ("autoint.AutoInt", {**FIELDS, "layers": 2, "heads": 4, "head_dim": 3}),
    "fm": ("fm.FM", {"dim": 4}),
    "din": ("din.DIN", {"dim": 4, "hidden": [6, 5], "attention": [4]}),
    "biased_mf": ("biased_mf.BiasedMF", {"dim": 6}),
    "neumf_rating": ("neumf_rating.NeuMFRating", {"dim": 4, "deep_dim": 4, "hidden": [6, 4]}),
    "mlp": ("mlp.MLP", {"hidden": [6, 5]}),
    "cnn": ("cnn.CNN", {"channels": [4, 6]}),
}  # fmt: skip
# Layer norm over what is left of HSTU's heads, or behind what a block adds, makes leaving out more than silence.
NOT_SILENCE = {("hstu", "heads"), ("bert4rec", "layers")}


OF_PAIRS = ("mf", "multvae", "gru4rec", "sasrec", "bert4rec", "hstu")


def made(name: str, train: Interactions) -> tuple[Model, dict[str, Any]]:
    target, settings = NETS[name]
    net = {"_target_": f"recdistill.models.{target}", **settings}
    if name == "cnn":
        schema = Schema(features={"vector": {"image": 64}}, n_outputs=3)
    elif name.split()[0] in OF_PAIRS:
        schema = Schema(train.n_users, train.n_items, max_length=4)
    else:
        schema = schema_of(table())
    torch.manual_seed(0)
    model = build(net, schema)
    if name != "cnn":
        model.bind(train if name.split()[0] in OF_PAIRS else table())
    return shaken(model).float().eval(), net


def answers(model: Any, train: Interactions) -> Tensor:
    with torch.no_grad():
        if isinstance(model, SequenceModel):
            return model.query(HISTORY) @ model.item_matrix().T
        if isinstance(model, TableModel):
            rows = rows_of(table())
            if type(model).__name__ == "CNN":
                rows.vector["image"] = torch.randn(len(rows), 64, generator=torch.Generator().manual_seed(3))
            return model(rows)
        return model.scores(torch.arange(train.n_users))


def cases() -> list[tuple[str, str]]:
    found = []
    for name, (target, _) in NETS.items():
        model = import_target(f"recdistill.models.{target}", "")
        settings = whole(model, {"_target_": "", **NETS[name][1]})
        found += [
            (name, kind)
            for kind in model.resizable(settings)
            if (name, kind) != ("dcnv2 without a perceptron", "units")
        ]
    return found


@pytest.mark.parametrize("importance", ["l2", "taylor"])
@pytest.mark.parametrize(("name", "kind"), cases())
def test_what_is_left_answers_as_the_silenced_whole(
    train: Interactions, tmp_path: Path, name: str, kind: Any, importance: Any
) -> None:
    model, net = made(name, train)
    step = PruneStructured({kind: 0.5}, importance, steps=2)
    state = Compressed(model, net, gradients=lambda steps: fake_gradients(model, steps))
    pieces = [part for part in model.pieces() if part.kind == kind]
    gone = [values.argsort(stable=True, descending=True)[kept_of(part.count, 0.5) :] for part, values in
            zip(model.pieces(), step.importances(state), strict=True) if part.kind == kind]  # fmt: skip
    weights = {key: part.clone() for key, part in model.state_dict().items()}
    for part, silent in zip(pieces, gone, strict=True):
        weights = part.silence(weights, silent)
    silenced = copy.deepcopy(model)
    silenced.load_state_dict(weights)
    before = sum(part.numel() for part in model.parameters())
    small = step.apply(state)
    assert sum(part.numel() for part in small.model.parameters()) < before
    assert any(len(silent) for silent in gone)
    if (name, kind) not in NOT_SILENCE:
        torch.testing.assert_close(answers(small.model, train), answers(silenced, train), rtol=2e-4, atol=2e-4)
    save_model(tmp_path, small.model, small.net)
    again = load_model(tmp_path, train if name == "multvae" else None)
    assert torch.equal(answers(again, train), answers(small.model, train))
    assert step.check(net, [])["_target_"] == small.net["_target_"]


def fake_gradients(model: Model, steps: int) -> Any:
    rng = torch.Generator().manual_seed(7)
    for _ in range(steps):
        yield {name: torch.randn(part.shape, generator=rng) for name, part in model.named_parameters()}


@pytest.mark.parametrize("name", ["mf", "gru4rec", "sasrec", "dnn", "dcnv2", "autoint", "mlp", "cnn"])
def test_taylor_is_the_derivative_by_a_factor_before_the_piece(train: Interactions, name: str) -> None:
    """(Σ gradient · weight)² of the gates is (∂loss/∂g)², here by finite differences."""
    model, net = made(name, train)
    model = model.double()

    def loss(of: Any) -> Tensor:
        rows = rows_of(table())
        if isinstance(of, SequenceModel):
            out = of.query(HISTORY) @ of.item_matrix().T
        elif isinstance(of, TableModel):
            if name == "cnn":
                rows.vector["image"] = torch.ones(len(rows), 64)
            out = of(rows)
        else:
            out = of.scores(torch.arange(3))
        return out.sin().sum()

    loss(model).backward()
    gradient = {key: part.grad.clone() for key, part in model.named_parameters() if part.grad is not None}
    state = Compressed(model, net, gradients=lambda steps: iter([gradient] * steps))
    found = PruneStructured({"units": 0.5}, "taylor", steps=1).importances(state)
    for part, values in zip(model.pieces(), found, strict=True):
        if part.kind == "layers":
            continue
        gates, eps, wanted = [cut for cut in part.cuts if cut.gate], 1e-5, []
        for number in range(part.count):
            sides = []
            for sign in (1, -1):
                shifted = copy.deepcopy(model)
                with torch.no_grad():
                    for cut in gates:
                        weight = shifted.get_parameter(cut.name)
                        places = cut.places[number]
                        weight.index_copy_(cut.dim, places, weight.index_select(cut.dim, places) * (1 + sign * eps))
                sides.append(float(loss(shifted).detach()))
            wanted.append(((sides[0] - sides[1]) / (2 * eps)) ** 2)
        torch.testing.assert_close(values, torch.tensor(wanted, dtype=torch.float64), rtol=1e-3, atol=1e-6)


def test_the_strongest_units_are_kept_in_their_order(train: Interactions) -> None:
    model, net = made("mlp", train)
    with torch.no_grad():
        model.layers[0].weight[[1, 4]] *= 100
    small = PruneStructured({"units": 2}).apply(Compressed(model, net))
    assert torch.equal(small.model.layers[0].weight, model.layers[0].weight[[1, 4]])
    assert small.net["hidden"] == [2, 2]


def test_a_file_is_as_small_as_its_tensors(train: Interactions, tmp_path: Path) -> None:
    sizes = []
    for share in (1.0, 0.5):
        model, net = made("sasrec", train)
        state = PruneStructured({"heads": share, "feed_forward": share}).apply(Compressed(model, net))
        save_model(tmp_path / str(share), state.model, state.net)
        stored = sum(part.nbytes for part in state.model.state_dict().values())
        size = (tmp_path / str(share) / WEIGHTS).stat().st_size
        assert 0 <= size - stored < 8192
        sizes.append(stored)
    assert sizes[1] < 0.75 * sizes[0]


def test_one_number_for_all_blocks_keeps_as_many_in_each(train: Interactions) -> None:
    model, net = made("sasrec", train)
    small = PruneStructured({"heads": 1, "feed_forward": 3, "layers": 2}).apply(Compressed(model, net))
    assert {key: small.net[key] for key in ("heads", "head_dim", "hidden", "layers")} == {
        "heads": 1, "head_dim": 2, "hidden": 3, "layers": 2,
    }  # fmt: skip
    assert tables(small.model)["blocks.1.attention.qkv.weight"].shape == (6, 8)


def test_it_says_what_is_wrong_before_anything_is_trained() -> None:
    def net(name: str, **more: Any) -> dict[str, Any]:
        return {"_target_": f"recdistill.models.{name}", **more}

    half = PruneStructured({"units": 0.5})
    with pytest.raises(InputError, match="nothing to leave out of MF") as caught:
        half.check(net("mf.MF", dim=8), [])
    assert "dims" in str(caught.value)
    with pytest.raises(InputError, match="nothing to leave out of NeuMF"):
        half.check(net("neumf.NeuMF"), [])
    with pytest.raises(InputError, match="must come before"):
        half.check(net("dnn.DNN"), [Quantize(8)])
    with pytest.raises(InputError, match="must come before"):
        half.check(net("dnn.DNN"), [LowRank(2)])
    with pytest.raises(InputError, match="neither a share nor a number"):
        PruneStructured({"units": 1.5})
    with pytest.raises(InputError, match="no loss to take the gradient of"):
        PruneStructured({"dims": 0.5}, "taylor").check(net("ials.IALS"), [])
    assert half.check(net("dnn.DNN", hidden=[8, 4]), [])["hidden"] == [4, 2]
    assert half.check(net("dnn.DNN"), [])["hidden"] == [200, 200, 200]
    assert PruneStructured({"dims": 3}).check(net("lightgcn.LightGCN", dim=8), [])["dim"] == 3
    twice = half.check(half.check(net("dnn.DNN", hidden=[8, 4]), []), [half])
    assert twice["hidden"] == [2, 1]


def test_sizes_that_an_architecture_can_not_have_are_refused(train: Interactions) -> None:
    model, net = made("gru4rec", train)
    with pytest.raises(InputError, match="can't have these sizes"):
        PruneStructured({"units": 6}).apply(Compressed(model, net))  # as long as its items' vectors: no map between
