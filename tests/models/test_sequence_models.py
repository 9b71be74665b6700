"""What holds for every sequence model: order, padding, queries, gradients, and that it learns."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize

from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import InputError
from recdistill.models.bert4rec import BERT4Rec
from recdistill.models.gru4rec import GRU4Rec
from recdistill.models.hstu import HSTU
from recdistill.models.nextitnet import NextItNet
from recdistill.models.sasrec import SASRec
from recdistill.models.tied import TiedSequenceModel

N, LONGEST = 11, 7
SCHEMA = Schema(n_items=N, max_length=LONGEST)
Make = Callable[[Schema], TiedSequenceModel]
CAUSAL: dict[str, Make] = {
    "sasrec": lambda schema: SASRec(schema, dim=8, layers=2, heads=2),
    "sasrec_gelu": lambda schema: SASRec(schema, dim=8, layers=1, activation="gelu"),
    "gru4rec": lambda schema: GRU4Rec(schema, dim=8, hidden=12, layers=2),
    "gru4rec_square": lambda schema: GRU4Rec(schema, dim=8, hidden=8),
    "nextitnet": lambda schema: NextItNet(schema, dim=8, dilations=[1, 2]),
    "nextitnet_separable": lambda schema: NextItNet(schema, dim=8, dilations=[1, 2], separable=True),
    "hstu": lambda schema: HSTU(schema, dim=8, layers=2, heads=2),
}
BOTH_SIDES: dict[str, Make] = {
    "bert4rec": lambda schema: BERT4Rec(schema, dim=8, layers=2),
    "bert4rec_plain": lambda schema: BERT4Rec(schema, dim=8, layers=1, item_bias=False),
}
MODELS = CAUSAL | BOTH_SIDES
every = pytest.mark.parametrize("name", MODELS)
causal = pytest.mark.parametrize("name", CAUSAL)
histories = st.lists(st.lists(st.integers(0, N - 1), max_size=LONGEST), min_size=1, max_size=4)


def made(name: str, schema: Schema = SCHEMA) -> TiedSequenceModel:
    """A model whose every parameter, biases too, is far from 0."""
    torch.manual_seed(0)
    model = MODELS[name](schema)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.7)
    return model.double().eval()


def padded(rows: list[list[int]], width: int = 0) -> Tensor:
    width = max(width, 1, *map(len, rows))
    return torch.tensor([row + [N] * (width - len(row)) for row in rows])


@pytest.mark.parametrize("place", range(LONGEST))
@causal
def test_a_place_depends_on_itself_and_what_is_before_it(name: str, place: int) -> None:
    model, history = made(name), torch.randint(N, (3, LONGEST), generator=torch.Generator().manual_seed(1))
    changed = history.clone()
    changed[:, place] = (changed[:, place] + 3) % N
    before, after = model(history), model(changed)
    assert torch.equal(before[:, :place], after[:, :place])
    assert bool(((before - after)[:, place].abs().amax(-1) > 1e-3).all())


@pytest.mark.parametrize("place", range(LONGEST))
@pytest.mark.parametrize("name", BOTH_SIDES)
def test_what_sees_both_sides_depends_on_all(name: str, place: int) -> None:
    model, history = made(name), torch.arange(LONGEST).unsqueeze(0)
    changed = history.clone()
    changed[:, place] = N - 1
    assert bool(((model(history) - model(changed)).abs().amax(-1) > 1e-6).all())
    assert not model.causal


@every
@given(rows=histories)
@settings(max_examples=15, deadline=None)
def test_more_padding_changes_nothing(name: str, rows: list[list[int]]) -> None:
    model = made(name)
    short, long = padded(rows), padded(rows, LONGEST)
    torch.testing.assert_close(model.query(short), model.query(long))
    known = short < N
    torch.testing.assert_close(model(short)[known], model(long)[:, : short.shape[1]][known])


@every
@given(rows=histories)
@settings(max_examples=15, deadline=None)
def test_a_batch_is_its_histories_one_by_one(name: str, rows: list[list[int]]) -> None:
    model = made(name)
    single = torch.cat([model.query(padded([row])) for row in rows])
    torch.testing.assert_close(model.query(padded(rows)), single)


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_empty_histories_needs_no_places(name: str) -> None:
    model, some = made(name), padded([[], [1, 2], []])
    found = model.query(torch.zeros(2, 0, dtype=torch.int64))
    assert found.shape == (2, model.item_matrix().shape[1])
    torch.testing.assert_close(found, model.query(some)[[0, 2]])


@causal
@given(rows=histories)
@settings(max_examples=15, deadline=None)
def test_a_query_is_the_last_place_and_zero_for_no_history(name: str, rows: list[list[int]]) -> None:
    model = made(name)
    states, query = model(padded(rows)), model.query(padded(rows))
    for row, vector, state in zip(rows, query, states, strict=True):
        wanted = state[len(row) - 1] if row else torch.zeros_like(vector)
        torch.testing.assert_close(vector, wanted, atol=1e-12, rtol=1e-12)  # in float64; sums may be in another order


@causal
def test_one_pass_answers_for_every_beginning(name: str) -> None:
    model, row = made(name), [3, 1, 4, 1, 5, 9, 2]
    beginnings = padded([row[: n + 1] for n in range(len(row))])
    torch.testing.assert_close(model(padded([row]))[0], model.query(beginnings))


@causal
def test_order_matters(name: str) -> None:
    model = made(name)
    first, second = model.query(torch.tensor([[1, 2, 3], [2, 1, 3]]))
    assert bool((first - second).abs().max() > 1e-3)


@every
def test_shapes_and_no_rows_at_all(name: str) -> None:
    model = made(name)
    table = model.item_matrix()
    assert table.shape[0] == N
    for rows in (0, 3):
        history = torch.zeros(rows, 5, dtype=torch.int64)
        assert model(history).shape == (rows, 5, table.shape[1])
        assert model.query(history).shape == (rows, table.shape[1])


@every
def test_gradients_reach_every_parameter(name: str) -> None:
    model = made(name).train()
    history = padded([[1, 2, 3, 4, 5, 6, 7], [2], [4, 4, 1]])
    cross_entropy(model.query(history) @ model.item_matrix().T, torch.tensor([8, 9, 10])).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert bool((parameter.grad != 0).any()), key
    assert model.item.num_embeddings == N  # so that a file of vectors can start it


@every
def test_padding_learns_nothing_and_teaches_nothing(name: str) -> None:
    model = made(name)
    model.query(padded([[1, 2]], LONGEST)).sum().backward()
    grad = model.item.weight.grad
    assert grad is not None
    touched = grad.abs().sum(1) > 0
    assert touched.nonzero().flatten().tolist() == [1, 2]


@every
def test_dropout_is_of_training_alone(name: str) -> None:
    model, history = made(name), torch.tensor([[1, 2, 3]])
    assert torch.equal(model.query(history), model.query(history))
    model.train()
    assert not torch.equal(model.query(history), model.query(history))


@every
def test_it_is_plain_tensors(name: str) -> None:
    model, history = made(name), torch.tensor([[1, 2, 3], [4, N, N]])
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in MODELS[name](SCHEMA).state_dict().items()}
    state = model.state_dict()
    assert shapes == {key: tensor.shape for key, tensor in state.items()}
    again = MODELS[name](SCHEMA).double().eval()
    again.load_state_dict(copy.deepcopy(state))
    assert torch.equal(again.query(history), model.query(history))
    assert torch.equal(copy.deepcopy(model).query(history), model.query(history))
    half = copy.deepcopy(model).to(torch.bfloat16)
    assert half.query(history).dtype == torch.bfloat16
    assert half.query(history).isfinite().all()


@every
def test_binding_draws_nothing(name: str) -> None:
    model, state = made(name), torch.get_rng_state()
    model.bind(Interactions(torch.tensor([0]), torch.tensor([0]), 1, N))
    assert torch.equal(torch.get_rng_state(), state)
    assert TiedSequenceModel.bind is type(model).bind
    assert not list(model.buffers())


class _Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


@every
def test_constraints_on_weights_are_seen(name: str) -> None:
    """As compression sets them while a model is fine-tuned; a recurrent layer could go on with its own copies."""
    model, history = made(name), torch.tensor([[1, 2, 3], [4, N, N]])
    halved = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in halved.parameters():
            parameter.mul_(0.5 if parameter.dim() == 2 else 1.0)
    for key in [key for key, parameter in model.named_parameters() if parameter.dim() == 2]:
        path, _, leaf = key.rpartition(".")
        parametrize.register_parametrization(model.get_submodule(path), leaf, _Halved())
    torch.testing.assert_close(model.query(history), halved.query(history))
    assert max(parameter.dim() for parameter in halved.parameters()) == 2  # tables, which compression works on


@pytest.mark.parametrize("model", [SASRec, BERT4Rec, HSTU])
def test_heads_must_divide(model: type[SASRec]) -> None:
    with pytest.raises(InputError, match="length 10") as error:
        model(SCHEMA, dim=10, heads=4)
    assert error.value.where == "net.heads"
    assert error.value.fix == "net.heads=2, or net.dim=8"


def losses_of(model: TiedSequenceModel, history: Tensor, n: int) -> Tensor:
    """Cross-entropy of the next item over the catalogue, at every place or, where places see all, at the end."""
    if model.causal:
        scores, asked = model(history)[history < n], history[history < n]
    else:
        length = (history < n).sum(1)
        scores, asked = model.query(history), history[torch.arange(len(history)), length - 1]
    return cross_entropy(scores @ model.item_matrix().T, (asked + 1) % n)


@every
def test_it_learns_a_cycle(name: str) -> None:
    torch.manual_seed(0)
    n, model = N, MODELS[name](SCHEMA).eval()  # without dropout
    starts = torch.arange(n).repeat_interleave(LONGEST)
    length = torch.arange(1, LONGEST + 1).repeat(n).unsqueeze(1)
    place = torch.arange(LONGEST)
    history = torch.where(place < length, (starts.unsqueeze(1) + place) % n, n)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        losses_of(model, history, n).backward()
        optimizer.step()
    best = (model.query(history) @ model.item_matrix().T).argmax(1)
    assert torch.equal(best, (starts + length.squeeze(1)) % n)
