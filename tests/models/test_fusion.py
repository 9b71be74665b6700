"""Fused item vectors against sums written out, and models that are built on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from fusion_kit import NAN, centred_by_hand, with_features
from torch import Tensor, nn

from recdistill.data.features import Features
from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import InputError
from recdistill.export.bundle import load_model, save_model
from recdistill.models.base import Model
from recdistill.models.bert4rec import BERT4Rec
from recdistill.models.build import build
from recdistill.models.fusion import Fusion, ItemFusion, centred, chosen
from recdistill.models.gru4rec import GRU4Rec
from recdistill.models.hstu import HSTU
from recdistill.models.mf import MF
from recdistill.models.nextitnet import NextItNet
from recdistill.models.sasrec import SASRec

DIM = 4
FUSIONS = [name for name in get_args(Fusion) if name != "ids"]
SEQUENCE: dict[str, Callable[..., Any]] = {
    "sasrec": SASRec, "gru4rec": GRU4Rec, "bert4rec": BERT4Rec, "nextitnet": NextItNet, "hstu": HSTU,
}  # fmt: skip
fusions = pytest.mark.parametrize("fusion", FUSIONS)


def made(train: Interactions, fusion: Any, adapter: int = 0, names: list[str] | None = None) -> tuple[Any, Any]:
    """A fusion with large weights in float64, and a table of ids."""
    torch.manual_seed(0)
    given, schema = with_features(train)
    fused = ItemFusion(schema.item_features, DIM, fusion, names, adapter, 1.0).double()
    fused.attach(given.item_features, train.n_items)
    for parameter in fused.parameters():
        nn.init.normal_(parameter, std=0.7)
    return fused, None if fusion == "features" else nn.Embedding(train.n_items, DIM).double()


def times(matrix: Tensor, vector: list[float]) -> list[float]:
    return [sum(w * v for w, v in zip(row, vector, strict=True)) for row in matrix.tolist()]


def plus(*vectors: list[float]) -> list[float]:
    return [sum(values) for values in zip(*vectors, strict=True)]


def slow(fused: ItemFusion, given: Features, ids: nn.Embedding | None, item: int, n_items: int) -> list[float]:
    """The vector of one item, in plain numbers."""
    state = fused.state_dict()
    parts = []
    if "tower.features.tables.categorical_genre.weight" in state:
        code = int(given.categorical["genre"][item])
        parts.append(state["tower.features.tables.categorical_genre.weight"][code].tolist())
    for name in ("image", "sound"):
        if f"tower.features.maps.vector_{name}.weight" in state:
            row = centred_by_hand(given.vector[name][:n_items].tolist())[item]
            parts.append(times(state[f"tower.features.maps.vector_{name}.weight"], row))

    def adapted(x: list[float]) -> list[float]:
        if "tower.deep.0.weight" not in state:
            return x
        inner = plus(times(state["tower.deep.0.weight"], x), state["tower.deep.0.bias"].tolist())
        inner = [max(value, 0.0) for value in inner]
        return plus(x, times(state["tower.deep.2.weight"], inner), state["tower.deep.2.bias"].tolist())

    content = adapted(plus(*parts))
    if fused.fusion == "features":
        return content
    assert ids is not None
    own: list[float] = ids.weight[item].tolist()
    if fused.fusion == "add":
        return plus(own, content)
    if fused.fusion == "attention":
        each = [own, *map(adapted, parts)]
        hidden = [plus(times(state["hidden.weight"], v), state["hidden.bias"].tolist()) for v in each]
        strength = [sum(math.tanh(h) * q for h, q in zip(row, state["query"].tolist(), strict=True)) for row in hidden]
        total = sum(map(math.exp, strength))
        return plus(*([math.exp(s) / total * x for x in v] for s, v in zip(strength, each, strict=True)))
    mixed = times(state["mix.weight"], own + content)
    if fused.fusion == "concat":
        return mixed
    gate = [1 / (1 + math.exp(-m)) for m in mixed]
    return [g * e + (1 - g) * c for g, e, c in zip(gate, own, content, strict=True)]


@fusions
@pytest.mark.parametrize("adapter", [0, 6])
@pytest.mark.parametrize("names", [None, ["image"], ["genre", "sound"]])
def test_a_fused_vector_is_its_formula(train: Interactions, fusion: Any, adapter: int, names: Any) -> None:
    fused, ids = made(train, fusion, adapter, names)
    given, _ = with_features(train)
    expected = [slow(fused, given.item_features, ids, item, train.n_items) for item in range(train.n_items)]
    torch.testing.assert_close(fused(ids), torch.tensor(expected, dtype=torch.float64))


@fusions
def test_gradients(train: Interactions, fusion: Any) -> None:
    fused, ids = made(train, fusion, 5)
    names = [name for name, _ in fused.named_parameters()]
    free = [parameter.detach().requires_grad_() for parameter in fused.parameters()]
    table = [] if ids is None else [ids.weight.detach().requires_grad_()]

    def vectors(*weights: Tensor) -> Tensor:
        own = None
        if ids is not None:
            *weights, own = weights  # type: ignore[assignment]
        changed = dict(zip(names, weights, strict=True))

        class Table(nn.Embedding):
            weight = own  # type: ignore[assignment]

            def __init__(self) -> None:
                nn.Module.__init__(self)

        result: Tensor = torch.func.functional_call(fused, changed, (None if own is None else Table(),))
        return result

    assert torch.autograd.gradcheck(vectors, (*free, *table))


def test_centring(train: Interactions) -> None:
    given, _ = with_features(train)
    vectors = given.item_features.vector["image"][: train.n_items]
    even = centred(vectors)
    assert bool(even[2].isnan().all())
    torch.testing.assert_close(even.nan_to_num(), torch.tensor(centred_by_hand(vectors.tolist()), dtype=torch.float64))
    torch.testing.assert_close(centred(7 * vectors + 3).nan_to_num(), even.nan_to_num())
    assert bool(centred(vectors * NAN).isnan().all())
    assert torch.equal(centred(torch.ones(4, 3)), torch.zeros(4, 3))


def test_of_cold_items_nothing_is_read(train: Interactions) -> None:
    fused, ids = made(train, "add")
    assert fused(ids).abs().max() < 20  # theirs are 1e6


def test_a_frozen_one_is_kept_until_a_weight_changes(train: Interactions) -> None:
    fused, ids = made(train, "gate")
    assert fused(ids) is not fused(ids)
    fused.requires_grad_(False)
    assert fused(ids) is not fused(ids), "the table takes gradients"
    ids.requires_grad_(False)
    first = fused(ids)
    assert fused(ids) is first
    with torch.no_grad():
        ids.weight[3] += 1
    assert not torch.equal(fused(ids)[3], first[3])
    given, _ = with_features(train)
    changed = given.item_features.vector["sound"].clone()
    changed[0] += 1
    fused.attach(Features(given.item_features.categorical, vector={**given.item_features.vector, "sound": changed}), 17)
    assert not torch.equal(fused(ids)[0], first[0])


@pytest.mark.parametrize("name", ["mf", *SEQUENCE])
def test_without_fusion_nothing_is_drawn_and_nothing_is_stored(train: Interactions, name: str) -> None:
    given, schema = with_features(train)
    plain = Schema(schema.n_users, schema.n_items, max_length=schema.max_length)
    models = []
    for sizes in (plain, schema):
        torch.manual_seed(0)
        model = (SEQUENCE | {"mf": MF})[name](sizes, dim=DIM)
        model.bind(given)
        models.append((model.state_dict(), torch.get_rng_state()))
    (first, state), (second, again) = models
    assert torch.equal(state, again)
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert "item.weight" in first
    assert not [key for key in first if "fus" in key]
    torch.manual_seed(0)  # the table is what is drawn first
    if name == "mf":
        nn.Embedding(schema.n_users, DIM)
    drawn = nn.Embedding(schema.n_items, DIM)
    if name == "mf":
        nn.init.normal_(torch.empty(schema.n_users, DIM))
    nn.init.normal_(drawn.weight, std=0.01 if name == "mf" else 0.15 if name == "gru4rec" else 0.02)
    assert torch.equal(drawn.weight, first["item.weight"])


def histories(n_items: int) -> Tensor:
    return torch.tensor([[1, 2, 3, 0], [5, 5, 16, n_items], [4, n_items, n_items, n_items]])


@fusions
@pytest.mark.parametrize("name", SEQUENCE)
def test_a_sequence_model_is_the_one_whose_table_holds_the_fused_vectors(
    train: Interactions, name: str, fusion: Any
) -> None:
    given, schema = with_features(train)
    torch.manual_seed(0)
    model = SEQUENCE[name](schema, dim=DIM, fusion=fusion, adapter=3).double().eval()
    model.bind(given)
    model.double()
    plain = SEQUENCE[name](schema, dim=DIM).double().eval()
    state = {key: tensor for key, tensor in model.state_dict().items() if not key.startswith("fused.")}
    plain.load_state_dict(state | {"item.weight": model.item_vectors()})
    assert ("item.weight" in state) == (fusion != "features")
    history = histories(train.n_items)
    torch.testing.assert_close(model.query(history), plain.query(history))
    torch.testing.assert_close(model.item_matrix(), plain.item_matrix())
    (model.query(history) @ model.item_matrix().T).logsumexp(-1).sum().backward()
    for key, parameter in model.named_parameters():
        if key.startswith(("fused.", "item.")):
            assert parameter.grad is not None, key
            assert bool(parameter.grad.any()), key


@fusions
def test_matrix_factorisation(train: Interactions, fusion: Any) -> None:
    given, schema = with_features(train)
    model = MF(schema, dim=DIM, item_bias=True, fusion=fusion, adapter=3, init_std=0.5)
    model.bind(given)
    model.double()
    nn.init.normal_(model.bias)  # type: ignore[arg-type]
    user = torch.tensor([3, 0])
    expected = model.user.weight[user] @ model.item_vectors().T + model.bias
    torch.testing.assert_close(model.scores(user), expected)
    table = model.raw_factors()[1]
    assert torch.equal(table, model.item_vectors() if model.item is None else model.item.weight)
    assert (model.item_table() is None) == (fusion == "features")


def test_an_item_that_nobody_has_scores_as_its_twin_by_content(train: Interactions) -> None:
    given, schema = with_features(train)
    vectors = {name: of.clone() for name, of in given.item_features.vector.items()}
    codes = given.item_features.categorical["genre"].clone()
    codes[7] = codes[9]
    for of in vectors.values():
        of[7] = of[9]
    model = MF(schema, dim=DIM, fusion="features", init_std=0.5)
    model.bind(Interactions(given.user, given.item, 12, 17, item_features=Features({"genre": codes}, vector=vectors)))
    scores = model.double().scores(torch.arange(12))
    assert torch.equal(scores[:, 7], scores[:, 9])


@pytest.mark.parametrize("fusion", ["gate", "features"])
@pytest.mark.parametrize("kind", ["mf.MF", "sasrec.SASRec"])
def test_from_disk(train: Interactions, tmp_path: Path, kind: str, fusion: str) -> None:
    given, schema = with_features(train, torch.float32)
    net = {"_target_": f"recdistill.models.{kind}", "dim": DIM, "fusion": fusion, "features": ["sound"]}
    model = build(net, schema)
    model.bind(given)
    model.eval()
    save_model(tmp_path, model, net)
    again = load_model(tmp_path, given)
    assert torch.equal(again.item_vectors(), model.item_vectors())  # type: ignore[operator]


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({}, {"fusion": "gate"}, "net.fusion", "these data hold no features"),
    ({"vector": {"image": 3}}, {"fusion": "add", "features": ["imag"]}, "net.features", "image?"),
    ({"vector": {"image": 3}}, {"features": ["image"]}, "net.fusion", "not looked at"),
    ({"vector": {"image": 3}}, {"adapter": 4}, "net.fusion", "not looked at"),
    ({"vector": {"image": 3}}, {"fusion": "add", "features": []}, "net.features", "net.features=null"),
]


@pytest.mark.parametrize(("sizes", "more", "where", "says"), REFUSED)
@pytest.mark.parametrize("kind", [MF, SASRec])
def test_data_without_such_features(
    kind: type[Model], sizes: dict[str, Any], more: dict[str, Any], where: str, says: str
) -> None:
    schema = Schema(3, 4, max_length=5, item_features=sizes)
    with pytest.raises(InputError) as caught:
        kind(schema, **more)
    assert caught.value.where == where
    assert says in str(caught.value)
    assert caught.value.fix


def test_chosen() -> None:
    sizes = {"categorical": {"genre": 4}, "vector": {"image": 5, "sound": 3}}
    assert chosen(sizes, None, "x") == sizes
    assert chosen(sizes, None, "x", ("vector",)) == {"vector": {"image": 5, "sound": 3}}
    assert chosen(sizes, ["sound"], "x") == {"vector": {"sound": 3}}
    with pytest.raises(InputError, match="genre, and no vectors"):
        chosen({"categorical": {"genre": 4}}, None, "x", ("vector",))
