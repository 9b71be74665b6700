"""Vectors of fields against separate tables and loops; shared rows; the constant that learning starts from."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.optim.swa_utils import update_bn

from recdistill.data.csr import Csr
from recdistill.data.interactions import Schema
from recdistill.errors import InputError
from recdistill.models.blocks import BatchNorm, Dice, hidden_layers, last_width
from recdistill.models.code_table import CodeTable, dealt_rows
from recdistill.models.deepfm import DeepFM
from recdistill.models.encoders import key
from recdistill.models.fields import FieldEmbedding, FieldModel, LinearTerm, column_of, starting_point
from recdistill.models.fm import FM
from recdistill.models.item_init import initialise_items
from recdistill.models.lr import LR
from recdistill.models.wide_deep import WideDeep
from table_kit import SIZES, doubled, rows_of, schema_of, shaken, table


def by_hand(fields: FieldEmbedding, train_rows: int = 40) -> torch.Tensor:
    """``[B, F, d]``, a field and a row at a time."""
    features, out = table(n=train_rows).features, []
    numbers = sorted(features.numeric)
    for row in range(train_rows):
        vectors = []
        for name in fields.names:
            if name in features.categorical:
                vectors.append(row_of(fields, name, int(features.categorical[name][row])))
            elif name in features.multi:
                start, end = features.multi[name].indptr[row : row + 2].tolist()
                members = [row_of(fields, name, int(code)) for code in features.multi[name].indices[start:end]]
                vectors.append(torch.stack(members).mean(0) if members else torch.zeros(fields.dim).double())
            elif name in numbers:
                assert fields.number_vectors is not None
                vectors.append(features.numeric[name][row].double() * fields.number_vectors[numbers.index(name)])
            else:
                vectors.append(fields.maps[key("vector", name)].weight @ features.vector[name][row].double())
        out.append(torch.stack(vectors))
    return torch.stack(out)


def row_of(fields: FieldEmbedding, name: str, code: int) -> torch.Tensor:
    """A vector from the part of the table that belongs to the field."""
    held = fields.table(name)
    tables = dict(zip(held.sizes, held.table.weight.split(list(held.sizes.values())), strict=True))
    vector: torch.Tensor = tables[name][code]
    return vector if held.map is None else held.map.weight @ vector


@pytest.mark.parametrize(
    "dims", [None, {"user": 2}, {"item": 9, "tag.s": 1}, {"item": 2, "user": 3, "history": 2, "tag.s": 5}]
)
def test_vectors_are_those_of_separate_tables(dims: dict[str, int] | None) -> None:
    fields = shaken(FieldEmbedding(SIZES, 4, dims))
    found = fields(doubled(rows_of(table())))
    assert sorted(fields.names) == ["age", "history", "item", "price", "tag.s", "text", "user"]
    assert found.shape == (40, 7, 4)
    assert fields.width == 28
    torch.testing.assert_close(found, by_hand(fields))


@pytest.mark.parametrize("kind", ["categorical", "multi", "numeric", "vector"])
def test_one_kind_alone_works(kind: str) -> None:
    train = table({kind: SIZES[kind]})
    model = FM(schema_of(train), dim=4)
    model.bind(train)
    model(rows_of(train)).sum().backward()
    assert model(rows_of(train)).shape == (40,)
    assert all(weight.grad is not None for weight in model.parameters())


def test_a_field_of_the_common_length_is_in_the_common_table() -> None:
    assert len(FieldEmbedding(SIZES, 4, {"user": 4}).tables) == 1
    assert len(FieldEmbedding(SIZES, 4, {"user": 3}).tables) == 2


def test_unknown_codes_start_at_zero_and_stay_there() -> None:
    train = table()
    fields = FieldEmbedding(SIZES, 4)
    unknown = torch.zeros(2, 2, dtype=torch.int64)
    fields(rows_of(train)).square().sum().backward()
    assert not fields.tables[0].columns(unknown).any()
    gradient = fields.tables[0].table.weight.grad
    assert gradient is not None
    assert [bool(gradient[start].any()) for start in (0, 7)] == [False, False]
    assert int(gradient.any(1).sum()) > 10


def test_first_order_term() -> None:
    rows = doubled(rows_of(table()))
    linear = LinearTerm(SIZES)
    assert not linear(rows_of(table())).any()
    shaken(linear)
    torch.testing.assert_close(linear(rows), by_hand(linear.weights).sum((1, 2)) + linear.bias)


# Rows that are shared.


@example(list(range(60)), 30)
@given(st.lists(st.integers(0, 20), min_size=4, max_size=60), st.integers(2, 30))
def test_frequent_codes_keep_rows_of_their_own(counts: list[int], n_rows: int) -> None:
    n_rows = min(n_rows, len(counts) - 1)
    row = dealt_rows(torch.tensor(counts), n_rows).tolist()
    shared = max(1, n_rows // 10)
    alone = [code for code in range(len(counts)) if row[code] < n_rows - shared]
    rare = [code for code in range(len(counts)) if row[code] >= n_rows - shared]
    assert row[0] == 0
    assert sorted(row[code] for code in alone) == list(range(n_rows - shared))
    assert min((counts[c] for c in alone if c), default=math.inf) >= max(counts[c] for c in rare)
    load = Counter(row[code] for code in rare)
    assert len(load) == min(shared, len(rare))
    assert max(load.values()) - min(load.values()) <= 1


def test_shared_rows_are_chosen_by_the_training_rows_and_saved() -> None:
    sizes = {"categorical": {"big": 50, "small": 3}, "multi": {"sets": 40}}
    train = table(sizes, n=300)
    # The most frequent codes are the last ones, so that the order of the codes itself is wrong.
    train.features.categorical["big"][:] = 49 - torch.arange(300).sqrt().long()
    model, fresh = (FM(schema_of(train), dim=2, max_rows=20) for _ in range(2))
    before = torch.get_rng_state()
    model.bind(train)
    assert torch.equal(torch.get_rng_state(), before)
    held = model.fields.tables[0]
    assert held.table.weight.shape == (20 + 3 + 20, 2)
    assert held.sharing == ["big", "sets"]
    assert held.remap is not None
    assert held.remap.dtype == torch.uint8
    row = held.remap[:50].tolist()
    count = torch.bincount(train.features.categorical["big"], minlength=50)
    own = [code for code in range(50) if Counter(row)[row[code]] == 1]
    assert set(count.argsort(descending=True)[:10].tolist()) <= set(own)
    assert held.remap[50:53].tolist() == [0, 1, 2]
    first_order = model.linear.weights.tables[0]
    assert first_order.table.weight.shape == (20 + 3 + 20, 1)
    assert torch.equal(first_order.remap, held.remap)
    assert not torch.equal(fresh.fields.tables[0].remap, held.remap)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.fields.tables[0].remap, held.remap)
    torch.testing.assert_close(fresh(rows_of(train)), model(rows_of(train)))


def test_shapes_depend_on_schema_and_settings_alone() -> None:
    sizes = {"categorical": {"big": 50}}
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in FM(Schema(features=sizes), max_rows=9).state_dict().items()}
    model = FM(Schema(features=sizes), max_rows=9)
    model.bind(table(sizes))
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == shapes


def test_shared_rows_lie_behind_those_of_the_vocabularies_before() -> None:
    held = CodeTable({"a": 30, "b": 4, "c": 9}, 2, 2, max_rows=5)
    assert {name: held.row_place[name] for name in "abc"} == {"a": 0, "b": 5, "c": 9}
    expected = {name: held.table.weight[held.row_place[name] :] for name in "abc"}
    codes = torch.tensor([[29, 3, 0], [0, 0, 8], [1, 2, 3]])
    assert held.remap is not None
    for place, name in enumerate("abc"):
        row = held.remap[codes[:, place] + held.place[name]].long()
        assert int(row.max()) < held.rows[name]
        torch.testing.assert_close(held.columns(codes)[:, place], expected[name][row])
        torch.testing.assert_close(held.vectors(name, codes[:, place]), expected[name][row])


@pytest.mark.parametrize("kind", [LR, FM, DeepFM, WideDeep])
def test_no_table_has_more_rows_than_the_limit(kind: type[FieldModel]) -> None:
    sizes = {"categorical": {"big": 5000, "wide": 3000}}
    model = kind(Schema(features=sizes), max_rows=300)  # type: ignore[call-arg]
    tables = [module for module in model.modules() if isinstance(module, CodeTable)]
    assert tables
    for held in tables:
        assert len(held.table.weight) == 600
        assert held.remap is not None
        assert held.remap.nbytes == 2 * 8000


def test_sharing_codes_share_vectors_and_gradients() -> None:
    held = CodeTable({"a": 30}, 2, 2, max_rows=3)
    codes = torch.tensor([28, 29])
    assert torch.equal(held.vectors("a", codes)[0], held.vectors("a", codes)[1])
    sets = Csr(torch.tensor([0, 2]), codes)
    torch.testing.assert_close(held.means("a", sets)[0], held.vectors("a", codes)[0])


# The start.


def test_learning_starts_at_the_odds_or_the_mean() -> None:
    clicks, ratings = torch.tensor([1.0, 0, 0, 0]), torch.tensor([1.0, 5, 3, 5])
    assert starting_point(clicks, clicks=True) == pytest.approx(math.log(2 / 4))
    assert starting_point(clicks, clicks=False) == pytest.approx(0.25)
    assert starting_point(ratings, clicks=True) == pytest.approx(3.5)
    assert math.isfinite(starting_point(torch.zeros(9), clicks=True))
    train = table(clicks=False)
    model = FM(schema_of(train))
    model.bind(train)
    again = FM(schema_of(train))
    again.load_state_dict(model.state_dict())
    assert float(again.start) == pytest.approx(float(train.label.mean()))


# Layers.


def test_hidden_layers() -> None:
    layers = hidden_layers(5, [4, 3], dropout=0.5, batch_norm=True)
    assert [type(layer).__name__ for layer in layers] == ["Linear", "BatchNorm", "ReLU", "Dropout"] * 2
    assert layers[0].bias is None
    assert hidden_layers(5, [])(torch.ones(2, 5)).shape == (2, last_width(5, []))


@pytest.mark.parametrize("n", [0, 1, 2])
def test_batches_of_few_rows_can_be_normalised(n: int) -> None:
    norm, x = BatchNorm(3), torch.randn(n, 3)
    found = norm(x)
    assert bool(found.isfinite().all())
    if n < 2:
        torch.testing.assert_close(found, x / math.sqrt(1 + norm.eps))
        assert not norm.running_mean.any()


def test_running_statistics_are_those_of_the_batches_alone() -> None:
    torch.manual_seed(0)
    norm, batches = BatchNorm(2), [torch.randn(50, 2) * 0.01 + 3 for _ in range(25)]
    weight = [norm.momentum * (1 - norm.momentum) ** (len(batches) - 1 - n) for n in range(len(batches))]
    for n, batch in enumerate(batches):
        x = batch.clone().requires_grad_()
        torch.testing.assert_close(norm(x), torch.nn.BatchNorm1d(2)(x))
        if n == 0:
            torch.testing.assert_close(norm.running_mean, batch.mean(0))
            torch.testing.assert_close(norm.running_var, batch.var(0))
    for found, moments in (
        (norm.running_mean, [batch.mean(0) for batch in batches]), (norm.running_var, [b.var(0) for b in batches]),
    ):  # fmt: skip
        torch.testing.assert_close(found, sum(w * m for w, m in zip(weight, moments, strict=True)) / sum(weight))
    assert int(norm.num_batches_tracked) == 25
    # Of activations that are this small torch's 1 would be most of the variance, and the output near 0.
    torch.testing.assert_close(norm.eval()(batches[-1]).std(0), torch.ones(2), atol=0.3, rtol=0)


def test_statistics_can_be_computed_anew() -> None:
    torch.manual_seed(0)
    batches = [torch.randn(20, 3) + n for n in range(4)]
    norm = torch.nn.Sequential(BatchNorm(3))
    norm(torch.full((5, 3), 100.0))
    update_bn(batches, norm)
    torch.testing.assert_close(norm[0].running_mean, torch.stack([batch.mean(0) for batch in batches]).mean(0))
    assert norm[0].momentum == 0.1


def test_dice() -> None:
    dice, x = Dice(2), torch.randn(50, 2)
    dice.slope.data = torch.tensor([0.5, -1.0])
    mean, deviation = x.mean(0), x.var(0, correction=0).sqrt()
    for column in range(2):
        p = 1 / (1 + ((mean[column] - x[:, column]) / deviation[column]).exp())
        expected = p * x[:, column] + (1 - p) * dice.slope[column] * x[:, column]
        torch.testing.assert_close(dice(x)[:, column], expected)


# What can't work.


def test_a_table_without_columns_is_refused() -> None:
    for sizes in ({}, {"categorical": {}}):
        with pytest.raises(InputError, match="no column to learn from"):
            FM(Schema(features=sizes))


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean user"):
        FieldEmbedding(SIZES, 4, {"usr": 4})
    with pytest.raises(InputError, match=r"net\.dims\.age"):
        FieldEmbedding(SIZES, 4, {"age": 3})
    with pytest.raises(InputError, match="did you mean item"):
        column_of(Schema(features=SIZES), "itm", "net.item")
    with pytest.raises(InputError, match="none of this kind"):
        column_of(Schema(features={"numeric": {"age": 1}}), "item", "net.item")


def test_items_start_from_given_vectors(tmp_path: Path) -> None:
    """The rows of the column ``item`` are set, and no others, whichever other columns stand in the same table."""
    sizes = {"categorical": {"city": 3, "item": 4, "user": 5}}
    model = FM(Schema(features=sizes), dim=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    vectors = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    (tmp_path / "vectors.ids").write_text("c\na\nb\n")
    initialise_items(model, str(tmp_path / "vectors.npy"), np.array(["a", "b", "c"]), "teacher.fit.item_init")
    codes = torch.tensor([[0, code, 0] for code in range(4)])
    table = next(m for m in model.modules() if isinstance(m, CodeTable) and m.table.embedding_dim == 2)
    item = table.columns(codes)[:, 1]
    assert item[1:].tolist() == [[3.0, 4.0], [5.0, 6.0], [1.0, 2.0]]
    changed = sum(int((before[name] != tensor).sum()) for name, tensor in model.state_dict().items())
    assert changed == vectors.size
