"""Models of clicks against loops over rows, fields and heads; what all models of fields have in common."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_auroc

from recdistill.data.features import Features
from recdistill.data.interactions import Examples, Schema
from recdistill.data.rows import Rows
from recdistill.errors import InputError
from recdistill.models.autoint import AutoInt
from recdistill.models.base import TableModel
from recdistill.models.biased_mf import BiasedMF
from recdistill.models.dcnv2 import DCNv2
from recdistill.models.deepfm import DeepFM
from recdistill.models.din import DIN
from recdistill.models.dnn import DNN
from recdistill.models.finalmlp import FinalMLP
from recdistill.models.fm import FM
from recdistill.models.lr import LR
from recdistill.models.neumf_rating import NeuMFRating
from recdistill.models.wide_deep import WideDeep
from table_kit import SIZES, doubled, rows_of, schema_of, shaken, table

TRAIN = table()
SCHEMA, ROWS = schema_of(TRAIN), rows_of(TRAIN)
MLP: dict[str, Any] = {"hidden": [6, 5], "dropout": 0.3}
MADE: dict[str, Callable[[Schema], TableModel]] = {
    "lr": LR,
    "fm": lambda schema: FM(schema, dim=4, dims={"user": 2}, max_rows=4),
    "dnn": lambda schema: DNN(schema, dim=4, batch_norm=True, **MLP),
    "wide_deep": lambda schema: WideDeep(schema, dim=4, crosses=[("user", "item")], **MLP),
    "deepfm": lambda schema: DeepFM(schema, dim=4, **MLP),
    "dcnv2": lambda schema: DCNv2(schema, dim=4, **MLP),
    "dcnv2_low_rank": lambda schema: DCNv2(schema, dim=4, rank=3, structure="stacked", **MLP),
    "dcnv2_alone": lambda schema: DCNv2(schema, dim=4, hidden=[]),
    "autoint": lambda schema: AutoInt(schema, dim=4, layers=2, heads=2, head_dim=3),
    "autoint_plus": lambda schema: AutoInt(schema, dim=4, layers=1, heads=1, head_dim=3, **MLP),
    "finalmlp": lambda schema: FinalMLP(schema, dim=4, hidden_1=[6], hidden_2=[5, 4], heads=2),
    "finalmlp_contexts": lambda schema: FinalMLP(
        schema, dim=4, hidden_1=[6], hidden_2=[4], heads=2, context_1=["user"], context_2=["item", "age"]
    ),
    "finalmlp_ungated": lambda schema: FinalMLP(schema, dim=4, hidden_1=[6], hidden_2=[4], heads=1, gating=False),
    "din": lambda schema: DIN(schema, dim=4, attention=[5], **MLP),
    "din_prelu": lambda schema: DIN(schema, dim=4, attention=[5], activation="prelu", dims={"item": 3}, max_rows=5),
    "biased_mf": lambda schema: BiasedMF(schema, dim=4),
    "neumf_rating": lambda schema: NeuMFRating(schema, dim=4, deep_dim=3, hidden=[6, 5], dropout=0.3),
}  # fmt: skip
every = pytest.mark.parametrize("name", sorted(MADE))


def made(name: str) -> Any:
    torch.manual_seed(0)
    model = MADE[name](SCHEMA)
    model.bind(TRAIN)
    return shaken(model)


def logits(model: Any) -> tuple[Tensor, Tensor]:
    """Of all rows, less the start, and the vectors of their fields."""
    rows = doubled(ROWS)
    return model(rows) - model.start, model.fields(rows)


def perceptron(layers: Any, x: Tensor) -> Tensor:
    """By matrix products, of one row."""
    for layer in layers:
        if isinstance(layer, torch.nn.Linear):
            x = layer.weight @ x + layer.bias
        elif isinstance(layer, torch.nn.ReLU):
            x = x.clamp(min=0)
    return x


def pairs_by_hand(vectors: Tensor) -> Tensor:
    """``[B]``, a pair of fields at a time."""
    return torch.stack([sum(((e[f] * e[g]).sum() for f, g in combinations(range(len(e)), 2)), e.new_zeros(()))
                        for e in vectors])  # fmt: skip


# What all have in common.


@every
def test_a_batch_is_its_rows_one_by_one_whatever_the_order(name: str) -> None:
    model, rows = made(name), doubled(ROWS)
    with torch.no_grad():
        together = model(rows)
        order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(model(rows.take(order)), together[order])
        torch.testing.assert_close(torch.cat([model(rows.take(torch.tensor([row]))) for row in range(40)]), together)
    assert together.shape == (40,)
    assert len(together.unique()) > 20


@every
def test_gradients_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    model = MADE[name](SCHEMA).train()
    model.bind(TRAIN)
    shaken(model).train()
    model(doubled(ROWS)).square().sum().backward()
    missing = [key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert missing == []


@every
def test_it_starts_near_the_labels_and_comes_back_from_its_state(name: str) -> None:
    torch.manual_seed(0)
    model, again = MADE[name](SCHEMA).eval(), MADE[name](SCHEMA).eval()
    clicks = table(clicks="ctr" in model.tasks)
    model.bind(clicks)
    start = clicks.label.mean() if "ctr" not in model.tasks else torch.logit((clicks.label.sum() + 1) / 42)
    torch.testing.assert_close(model.start, start)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(ROWS), model(ROWS))


@every
def test_one_row_can_be_trained_on(name: str) -> None:
    model = MADE[name](SCHEMA).train()
    assert bool(model(ROWS.take(torch.tensor([0]))).isfinite().all())


@every
@pytest.mark.parametrize("kinds", [("numeric",), ("categorical",), ("multi", "vector")])
def test_it_works_on_what_there_is(name: str, kinds: tuple[str, ...]) -> None:
    train = table({kind: SIZES[kind] for kind in kinds})
    names_columns = name in ("fm", "wide_deep", "biased_mf", "neumf_rating") and "categorical" not in kinds
    if names_columns or name in ("din", "din_prelu", "finalmlp_contexts"):
        with pytest.raises(InputError):
            MADE[name](schema_of(train))
        return
    model = MADE[name](schema_of(train))
    model.bind(train)
    assert model(rows_of(train)).shape == (40,)


# Each against its formula.


def test_fm_is_the_sum_over_pairs() -> None:
    model = made("fm")
    found, vectors = logits(model)
    torch.testing.assert_close(found, model.linear(doubled(ROWS)) + pairs_by_hand(vectors))


def test_dnn() -> None:
    model = shaken(DNN(SCHEMA, dim=4, hidden=[6, 5]))
    found, vectors = logits(model)
    expected = [model.out.weight[0] @ perceptron(model.deep, e.flatten()) + model.out.bias[0] for e in vectors]
    torch.testing.assert_close(found, torch.stack(expected))


def test_deepfm_is_fm_and_perceptron() -> None:
    model = made("deepfm")
    found, vectors = logits(model)
    deep = torch.stack([model.out.weight[0] @ perceptron(model.deep, e.flatten()) for e in vectors])
    torch.testing.assert_close(found, model.linear(doubled(ROWS)) + pairs_by_hand(vectors) + deep)


@pytest.mark.parametrize("most", [1000, 11])
def test_wide_and_deep(most: int) -> None:
    model = shaken(WideDeep(SCHEMA, dim=4, hidden=[6], crosses=[("user", "item"), ("item", "user")], cross_rows=most))
    found, vectors = logits(model)
    weights = [cross.weight.weight[:, 0] for cross in model.crosses]
    assert [len(weight) for weight in weights] == [min(35, most)] * 2
    user, item = TRAIN.features.categorical["user"].tolist(), TRAIN.features.categorical["item"].tolist()
    for row in range(40):
        places = user[row] * 7 + item[row], item[row] * 5 + user[row]
        wide = sum(weight[place % len(weight)] for weight, place in zip(weights, places, strict=True))
        deep = model.out.weight[0] @ perceptron(model.deep, vectors[row].flatten())
        torch.testing.assert_close(found[row], model.wide(doubled(ROWS))[row] + wide + deep)


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
@pytest.mark.parametrize("rank", [None, 3])
def test_dcnv2_layers(rank: int | None, structure: Any) -> None:
    model = shaken(DCNv2(SCHEMA, dim=2, cross_layers=2, rank=rank, structure=structure, hidden=[6, 5]))
    found, vectors = logits(model)
    for row, e in enumerate(vectors[:5]):
        first = e.flatten()
        x = first.clone()
        for layer in model.cross:
            matrix = layer.weight if rank is None else layer[1].weight @ layer[0].weight
            bias = layer.bias if rank is None else layer[1].bias
            nexts = []
            for i in range(len(x)):
                crossed = sum(matrix[i, j] * x[j] for j in range(len(x))) + bias[i]
                nexts.append(first[i] * crossed + x[i])
            x = torch.stack(nexts)
        last = torch.cat([x, perceptron(model.deep, first)]) if structure == "parallel" else perceptron(model.deep, x)
        torch.testing.assert_close(found[row], model.out.weight[0] @ last + model.out.bias[0])


def test_rank_bounds_the_matrix() -> None:
    model = DCNv2(SCHEMA, dim=4, rank=3)
    assert int(torch.linalg.matrix_rank(model.cross[0][1].weight @ model.cross[0][0].weight)) == 3  # type: ignore[index]


@pytest.mark.parametrize("name", ["autoint", "autoint_plus"])
def test_autoint_attends_a_head_and_a_field_at_a_time(name: str) -> None:
    model = made(name)
    found, vectors = logits(model)
    for row, e in enumerate(vectors[:6]):
        fields = list(e)
        for layer in model.interacting:
            query, key, value, residual = layer.maps.weight.chunk(4)
            after = []
            for m in range(len(fields)):
                heads = []
                for q, k, v in zip(*(part.chunk(layer.heads) for part in (query, key, value)), strict=True):
                    weight = torch.stack([((q @ fields[m]) @ (k @ other)).exp() for other in fields])
                    weight = weight / weight.sum()
                    heads.append(sum(w * (v @ other) for w, other in zip(weight, fields, strict=True)))
                after.append((torch.cat(heads) + residual @ fields[m]).clamp(min=0))
            fields = after
        expected = model.out.weight[0] @ torch.cat(fields) + model.out.bias[0]
        if model.deep_out is not None:
            expected = expected + model.deep_out.weight[0] @ perceptron(model.deep, e.flatten())
        torch.testing.assert_close(found[row], expected)


@pytest.mark.parametrize("name", ["finalmlp", "finalmlp_contexts", "finalmlp_ungated"])
def test_finalmlp_gates_and_joins(name: str) -> None:
    model = made(name)
    found, vectors = logits(model)
    contexts = {"finalmlp_contexts": (["user"], ["item", "age"])}.get(name, ([], []))
    for row, e in enumerate(vectors[:8]):
        ends = []
        for number, stream in enumerate(model.streams):
            gate = torch.ones(e.numel()).double()
            if "ungated" not in name:
                seen = [e[model.fields.names.index(field)] for field in contexts[number]]
                x = torch.cat(seen) if seen else model.gates[number].common
                gate = 2 / (1 + (-perceptron(model.gates[number].network, x)).exp())
            ends.append(perceptron(stream, gate * e.flatten()))
        first, second = ends
        heads = model.fusion.heads
        a, b = len(first) // heads, len(second) // heads
        expected = model.linear.weight[0] @ torch.cat(ends) + model.linear.bias[0]
        for head in range(heads):
            for i in range(a):
                for j in range(b):
                    weight = model.fusion.weight[head * a + i, j]
                    expected = expected + first[head * a + i] * weight * second[head * b + j]
        torch.testing.assert_close(found[row], expected)


@pytest.mark.parametrize("name", ["din", "din_prelu"])
def test_din_weighs_the_history_a_member_at_a_time(name: str) -> None:
    model = made(name)
    found, vectors = logits(model)
    held, history = model.fields.table("item"), TRAIN.features.multi["history"]
    for row in range(40):
        candidate = held.vectors("item", TRAIN.features.categorical["item"][row])
        interest = torch.zeros(4).double()
        for code in history.indices[history.indptr[row] : history.indptr[row + 1]]:
            past = held.vectors("item", code)
            both = torch.cat([past, candidate, past - candidate, past * candidate])
            interest = interest + model.activation_unit(both.unsqueeze(0))[0, 0] * past
        last = model.deep(torch.cat([vectors[row].flatten(), interest]).unsqueeze(0))[0]
        torch.testing.assert_close(found[row], model.out.weight[0] @ last + model.out.bias[0])
    assert "history" not in model.fields.names


def test_din_does_not_normalise_its_weights() -> None:
    """Twice the same member weighs twice."""
    model, rows = made("din"), doubled(ROWS).take(torch.tensor([5, 5]))
    history = type(rows.multi["history"])
    for codes, ends in (([3, 3, 3], [0, 1, 3]), ([], [0, 0, 0])):
        rows.multi["history"] = history(torch.tensor(ends), torch.tensor(codes, dtype=torch.int64))
        one, two = model._interest(torch.randn(1, 4).double().expand(2, 4), rows.multi["history"])
        torch.testing.assert_close(two, 2 * one)


@pytest.mark.parametrize("change", ["absent", "size", "target"])
def test_din_says_what_it_needs(change: str) -> None:
    sizes: Any = {"categorical": {"item": 7, "user": 5}, "multi": {"history": 7}}
    if change == "absent":
        del sizes["multi"]
    if change == "size":
        sizes["multi"]["history"] = 8
    if change == "target":
        del sizes["categorical"]["item"]
    with pytest.raises(InputError) as found:
        DIN(Schema(features=sizes))
    assert ("column 'item'" if change == "target" else "din needs interactions with a history") in str(found.value)
    assert change == "target" or "task.history=20" in str(found.value)


def test_wrong_heads_crosses_and_contexts_are_refused() -> None:
    with pytest.raises(InputError, match="3 heads do not divide"):
        FinalMLP(SCHEMA, hidden_1=[6], hidden_2=[4], heads=3)
    with pytest.raises(InputError, match="no field 'usr'"):
        FinalMLP(SCHEMA, context_1=["usr"])
    with pytest.raises(InputError, match="no categorical column 'age'"):
        WideDeep(SCHEMA, crosses=[("user", "age")])


# What they learn.


def planted(n: int) -> Examples:
    """Clicks of a factorisation machine whose vectors have mean zero, so that no field alone matters."""
    rng = torch.Generator().manual_seed(3)
    codes = {name: torch.randint(1, 21, (n,), generator=rng) for name in ("a", "b", "c")}
    tables = {name: torch.randn(21, 3, generator=rng) for name in codes}
    vectors = torch.stack([(tables[name] - tables[name][1:].mean(0))[codes[name]] for name in codes], 1)
    label = torch.bernoulli((2 * pairs_by_hand(vectors)).sigmoid(), generator=rng)
    words = {name: table({"categorical": {name: 21}}).features.vocabularies[name] for name in codes}
    return Examples(label, Features(codes, vocabularies=words))


def auc(model: Any, data: Examples) -> float:
    """Of the last quarter of the rows, after training on the rest."""
    model.bind(data)
    rows = Rows.of(data.features, len(data))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    cut = 3 * len(data) // 4
    for _ in range(12):
        for batch in torch.randperm(cut).split(256):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(model(rows.take(batch)), data.label[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        scores = model.eval()(rows.take(torch.arange(cut, len(data))))
    return float(binary_auroc(scores, data.label[cut:].long()))


def test_a_planted_machine_is_learned() -> None:
    torch.manual_seed(0)
    data = planted(8000)
    schema = schema_of(data)
    linear = auc(LR(schema), data)
    small: dict[str, Any] = {"dim": 8, "hidden": [32]}
    found = {
        "fm": auc(FM(schema, dim=8), data),
        "deepfm": auc(DeepFM(schema, **small), data),
        "dcnv2": auc(DCNv2(schema, **small), data),
        "finalmlp": auc(FinalMLP(schema, dim=8, hidden_1=[32], hidden_2=[32], heads=4), data),
        "autoint": auc(AutoInt(schema, dim=8, layers=2, head_dim=8), data),
    }
    assert linear < 0.6, linear
    assert min(found.values()) > linear + 0.2, found
    assert found["fm"] > 0.85
