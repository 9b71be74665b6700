"""Each sequence model against its formulas in loops, or against layers of another make."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, gelu, layer_norm, pad

from recdistill.data.interactions import Schema
from recdistill.models.attention import SelfAttention, TransformerBlock
from recdistill.models.bert4rec import BERT4Rec
from recdistill.models.gru4rec import GRU4Rec
from recdistill.models.hstu import HSTU, TransductionUnit
from recdistill.models.nextitnet import CausalConvolution, NextItNet
from recdistill.models.sasrec import SASRec
from recdistill.models.tied import TiedSequenceModel

N, LONGEST = 9, 6
SCHEMA = Schema(n_items=N, max_length=LONGEST)
MASK = N + 1
HISTORY = torch.tensor([[3, 1, 4, 1, 5, 8], [2, 7, 1, N, N, N], [6, N, N, N, N, N]])
LENGTHS = (6, 3, 1)


def spread(model: nn.Module) -> None:
    torch.manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.6)
    model.double().eval()


def transformer_layer(
    block: TransformerBlock, dim: int, heads: int, activation: str, pre_norm: bool
) -> nn.TransformerEncoderLayer:
    """torch's own layer with the weights of a block."""
    hidden = block.widen.out_features
    layer = nn.TransformerEncoderLayer(
        dim, heads, hidden, dropout=0.1, activation=activation, batch_first=True, norm_first=pre_norm
    ).double()
    first, second = block.norms
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (layer.self_attn.out_proj, block.attention.out), (layer.linear1, block.widen), (layer.linear2, block.narrow),
        (layer.norm1, first), (layer.norm2, second),
    ]  # fmt: skip
    for theirs, ours in pairs:
        theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        layer.self_attn.in_proj_weight.copy_(block.attention.qkv.weight)
        layer.self_attn.in_proj_bias.copy_(block.attention.qkv.bias)
    return layer.eval()


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_attention_is_a_loop_over_heads_and_places(heads: int) -> None:
    dim, size = 6, 6 // heads
    attention = SelfAttention(dim, heads, 0.3)
    spread(attention)
    x = torch.randn(2, 4, dim, dtype=torch.float64)
    queries, keys, values = attention.qkv(x).chunk(3, -1)
    seen = torch.zeros_like(x)
    for row in range(2):
        for head in range(heads):
            part = slice(head * size, head * size + size)
            for place in range(4):
                query = queries[row, place, part] / math.sqrt(size)
                weights = [(query @ keys[row, other, part]).exp() for other in range(place + 1)]
                for other, weight in enumerate(weights):
                    seen[row, place, part] += weight / sum(weights) * values[row, other, part]
    torch.testing.assert_close(attention(x), attention.out(seen))


@pytest.mark.parametrize(
    ("heads", "activation", "pre_norm"), [(1, "relu", True), (2, "gelu", True), (2, "gelu", False)]
)
def test_block_is_that_of_torch(heads: int, activation: str, pre_norm: bool) -> None:
    block = TransformerBlock(8, heads, 12, 0.1, activation, pre_norm)  # type: ignore[arg-type]
    spread(block)
    x, known = torch.randn(3, LONGEST, 8, dtype=torch.float64), HISTORY < N
    theirs = transformer_layer(block, 8, heads, activation, pre_norm)
    later = torch.ones(LONGEST, LONGEST, dtype=torch.bool).triu(1)
    torch.testing.assert_close(block(x), theirs(x, src_mask=later))
    ours = block(x, known[:, None, None])
    torch.testing.assert_close(ours[known], theirs(x, src_key_padding_mask=~known)[known])


def test_sasrec() -> None:
    model = SASRec(SCHEMA, dim=8, layers=2, heads=2)
    spread(model)
    blocks = [transformer_layer(block, 8, 2, "relu", pre_norm=True) for block in model.blocks]  # type: ignore[arg-type]
    for row, length in enumerate(LENGTHS):
        x = torch.stack([model.item.weight[HISTORY[row, at]] * math.sqrt(8) + model.position.weight[at]
                         for at in range(length)]).unsqueeze(0)  # fmt: skip
        for block in blocks:
            x = block(x, src_mask=torch.ones(length, length, dtype=torch.bool).triu(1))
        expected = layer_norm(x[0, -1], (8,), model.norm.weight, model.norm.bias)
        torch.testing.assert_close(model.query(HISTORY)[row], expected)
    assert model.item_matrix() is model.item.weight


def filled_in(model: BERT4Rec, row: list[int]) -> Tensor:
    """The vectors at the places of one history, which may hold masks, by torch's own layers."""
    items = [model.mask if item == MASK else model.item.weight[item] for item in row]
    x = torch.stack(items) + model.position.weight[: len(row)]
    x = layer_norm(x, (8,), model.norm.weight, model.norm.bias).unsqueeze(0)
    for block in model.blocks:
        x = transformer_layer(block, 8, 2, "gelu", pre_norm=False)(x)  # type: ignore[arg-type]
    hidden = gelu(x[0] @ model.transform.weight.T + model.transform.bias)
    return layer_norm(hidden, (8,), model.transform_norm.weight, model.transform_norm.bias)


@pytest.mark.parametrize("item_bias", [True, False])
def test_bert4rec(item_bias: bool) -> None:
    model = BERT4Rec(SCHEMA, dim=8, layers=2, heads=2, item_bias=item_bias)
    spread(model)
    assert model.mask_token == MASK
    history = torch.tensor([[3, MASK, 4, 1, MASK, 8], [2, 7, MASK, N, N, N], [MASK, N, N, N, N, N]])
    scores = model(history) @ model.item_matrix().T
    for row, length in enumerate(LENGTHS):
        expected = filled_in(model, history[row, :length].tolist()) @ model.item.weight.T
        if model.bias is not None:
            expected = expected + model.bias
        torch.testing.assert_close(scores[row, :length], expected)


@pytest.mark.parametrize("width", [0, 1, 3, 5, LONGEST])
def test_bert4rec_asks_at_a_mask_behind_the_last_item(width: int) -> None:
    model = BERT4Rec(SCHEMA, dim=8, layers=1, item_bias=False)
    spread(model)
    history = HISTORY[:, :width]
    query = model.query(history)
    assert query.shape == (3, 8)
    for row, vector in enumerate(query):
        items = [item for item in history[row].tolist() if item != N]
        asked = torch.tensor([[*items, MASK][-LONGEST:]])  # full, it leaves out the oldest
        torch.testing.assert_close(vector, model(asked)[0, -1])
        torch.testing.assert_close(vector, filled_in(model, asked[0].tolist())[-1])


def test_bert4rec_without_any_item_is_finite() -> None:
    model = BERT4Rec(SCHEMA, dim=8)
    spread(model)
    nothing = torch.full((2, 4), N)
    assert model(nothing).isfinite().all()
    torch.testing.assert_close(model.query(nothing), model(torch.tensor([[MASK]]))[:, 0].expand(2, -1))


@pytest.mark.parametrize(("hidden", "layers"), [(5, 1), (8, 1), (5, 2)])
def test_gru4rec_is_a_loop_over_items(hidden: int, layers: int) -> None:
    model = GRU4Rec(SCHEMA, dim=8, hidden=hidden, layers=layers)
    spread(model)
    for row, length in enumerate(LENGTHS):
        states = [torch.zeros(hidden, dtype=torch.float64) for _ in range(layers)]
        for at in range(length):
            x: Tensor = model.item.weight[HISTORY[row, at]]
            for layer in range(layers):
                own = {
                    name: getattr(model.gru, f"{name}_l{layer}")
                    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                }
                from_x = (own["weight_ih"] @ x + own["bias_ih"]).chunk(3)
                from_h = (own["weight_hh"] @ states[layer] + own["bias_hh"]).chunk(3)
                reset = (from_x[0] + from_h[0]).sigmoid()
                update = (from_x[1] + from_h[1]).sigmoid()
                proposed = (from_x[2] + reset * from_h[2]).tanh()
                states[layer] = x = update * states[layer] + (1 - update) * proposed
        expected = model.project(x)
        assert isinstance(model.project, nn.Identity) == (hidden == 8)
        torch.testing.assert_close(model.query(HISTORY)[row], expected)


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize(("kernel", "dilation"), [(2, 1), (3, 2), (3, 4), (4, 1)])
def test_convolution_is_that_of_torch_and_a_loop(kernel: int, dilation: int, separable: bool) -> None:
    dim, length = 4, 7
    layer = CausalConvolution(dim, kernel, dilation, separable)
    spread(layer)
    x = torch.randn(2, length, dim, dtype=torch.float64)
    if layer.depthwise is None:
        weight = layer.mix.weight.view(dim, kernel, dim)  # out, tap, in
    else:
        weight = layer.mix.weight.unsqueeze(1) * layer.depthwise
    channels_first = pad(x.transpose(1, 2), ((kernel - 1) * dilation, 0))
    theirs = conv1d(channels_first, weight.transpose(1, 2), layer.mix.bias, dilation=dilation).transpose(1, 2)
    torch.testing.assert_close(layer(x), theirs)
    for place in range(length):
        expected = layer.mix.bias.clone()
        for tap in range(kernel):
            source = place - (kernel - 1 - tap) * dilation
            if source >= 0:
                expected = expected + weight[:, tap] @ x[0, source]
        torch.testing.assert_close(layer(x)[0, place], expected)


@pytest.mark.parametrize("separable", [True, False])
def test_nextitnet(separable: bool) -> None:
    model = NextItNet(SCHEMA, dim=4, dilations=[1, 2], separable=separable)
    spread(model)
    for row, length in enumerate(LENGTHS):
        x = model.item.weight[HISTORY[row, :length]].unsqueeze(0)
        for block in model.blocks:
            first, norm, _, second, again, *_ = block.layers  # type: ignore[misc]
            hidden = layer_norm(first(x), (4,), norm.weight, norm.bias).clamp(min=0)
            x = x + layer_norm(second(hidden), (4,), again.weight, again.bias).clamp(min=0)
        expected = model.out.weight @ x[0, -1].clamp(min=0) + model.out.bias
        torch.testing.assert_close(model.query(HISTORY)[row], expected)


@pytest.mark.parametrize(("dilations", "kernel", "field"), [([1], 2, 4), ([1, 2], 3, 19), ([1, 2, 4], 2, 22)])
def test_nextitnet_sees_its_receptive_field(dilations: list[int], kernel: int, field: int) -> None:
    model = NextItNet(Schema(n_items=N, max_length=40), dim=6, dilations=dilations, kernel=kernel)
    spread(model)
    assert model.receptive_field == field
    vectors = torch.randn(1, 30, 6, dtype=torch.float64, requires_grad=True)
    model.blocks(vectors)[0, -1].sum().backward()
    assert vectors.grad is not None
    reached = vectors.grad[0].abs().amax(-1) > 0
    assert not reached[: 30 - field].any()
    assert reached[30 - field]
    assert reached[-1]


def test_a_separable_convolution_is_lighter() -> None:
    sizes = [sum(p.numel() for p in CausalConvolution(64, 3, 1, separable).parameters()) for separable in (True, False)]
    assert sizes == [3 * 64 + 64 * 64 + 64, 3 * 64 * 64 + 64]


def attended(unit: TransductionUnit, x: Tensor, dim: int, heads: int) -> Tensor:
    """One unit over one history ``[L, d]``, pair of places by pair of places."""
    normed = layer_norm(x, (dim,), unit.norm.weight, unit.norm.bias, 1e-6)
    mapped = normed @ unit.uvqk.weight.T
    gate, values, queries, keys = (mapped * mapped.sigmoid()).chunk(4, -1)
    size, rows = dim // heads, []
    for place in range(len(x)):
        summed = torch.zeros(dim, dtype=torch.float64)
        for other in range(place + 1):
            for head in range(heads):
                part = slice(head * size, head * size + size)
                agreement = queries[place, part] @ keys[other, part] + unit.distance[place - other]
                summed[part] = summed[part] + agreement * agreement.sigmoid() / LONGEST * values[other, part]
        scaled = layer_norm(summed, (dim,), unit.attended_norm.weight, unit.attended_norm.bias, 1e-6)
        rows.append(x[place] + unit.out.weight @ (scaled * gate[place]) + unit.out.bias)
    return torch.stack(rows)


@pytest.mark.parametrize("heads", [1, 2])
def test_hstu(heads: int) -> None:
    model = HSTU(SCHEMA, dim=6, layers=2, heads=heads)
    spread(model)
    for row, length in enumerate(LENGTHS):
        x = model.item.weight[HISTORY[row, :length]] * math.sqrt(6)
        for unit in model.units:
            x = attended(unit, x, 6, heads)  # type: ignore[arg-type]
        expected = layer_norm(x[-1], (6,), model.norm.weight, model.norm.bias)
        torch.testing.assert_close(model.query(HISTORY)[row], expected)


def test_look_up_is_zero_for_what_is_no_item() -> None:
    model: TiedSequenceModel = SASRec(SCHEMA, dim=8)
    found = model.look_up(torch.tensor([[3, N, MASK]]))[0]
    assert torch.equal(found[0], model.item.weight[3])
    assert torch.equal(found[1:], torch.zeros(2, 8))
