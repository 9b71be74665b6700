"""MLP and CNN: their logits by hand, the inputs that they look at, and that they learn digits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recdistill.data.features import Sizes
from recdistill.data.filters import Filters
from recdistill.data.interactions import Schema, TableDataset
from recdistill.data.prepare import prepare
from recdistill.data.rows import Rows
from recdistill.data.sources.idx import IDX
from recdistill.data.splits import RandomSplit
from recdistill.errors import InputError
from recdistill.models.base import TableModel
from recdistill.models.cnn import CNN
from recdistill.models.mlp import MLP

SHARED = Path(__file__).parents[3] / "shared" / "data" / "mnist-t10k"
SIZES: Sizes = {
    "categorical": {"site": 4},
    "numeric": {"price": 1, "age": 1},
    "vector": {"image": 64, "words": 5},
}
SCHEMA = Schema(features=SIZES, n_outputs=3)
PLACES = ["age", "price"]  # the order of the columns of numbers


def rows_of(n: int = 6, seed: int = 0) -> Rows:
    rng = torch.Generator().manual_seed(seed)
    return Rows(
        torch.randint(0, 4, (n, 1), generator=rng),
        torch.randn(n, 2, generator=rng),
        {},
        {name: torch.rand(n, size, generator=rng) for name, size in SIZES["vector"].items()},
    )


def made(kind: str, **arguments: Any) -> TableModel:
    torch.manual_seed(0)
    usual: dict[str, Any] = {"mlp": {"hidden": [7, 5]}, "cnn": {"channels": [3, 4]}}[kind]
    model = {"mlp": MLP, "cnn": CNN}[kind](SCHEMA, **usual | arguments)
    assert isinstance(model, TableModel)
    return model.eval()


def arrays(model: nn.Module) -> list[np.ndarray[Any, Any]]:
    return [weight.detach().double().numpy() for weight in model.parameters()]


@pytest.mark.parametrize("hidden", [[], [7], [7, 5]])
@pytest.mark.parametrize("inputs", [None, ["image"], ["words", "price", "words"], ["age"]])
def test_the_mlp_is_the_formula(hidden: list[int], inputs: list[str] | None) -> None:
    model, rows = made("mlp", hidden=hidden, inputs=inputs), rows_of()
    names = [*PLACES, "image", "words"] if inputs is None else list(dict.fromkeys(inputs))
    found = {name: rows.numeric[:, [at]] for at, name in enumerate(PLACES)} | rows.vector
    ordered = [name for name in names if name in PLACES] + [name for name in names if name not in PLACES]
    x = np.hstack([found[name].double().numpy() for name in ordered])
    *before, last = [arrays(layer) for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert [len(bias) for _, bias in before] == hidden
    for weight, bias in before:
        x = np.maximum(x @ weight.T + bias, 0)
    assert np.allclose(model(rows).detach().numpy(), x @ last[0].T + last[1], atol=1e-5)


def convolved(pixels: Any, weight: Any, bias: Any) -> Any:
    """``[C, h, w]`` to ``[D, h, w]``: each pixel from its 3 × 3 neighbours, 0 beyond the edge, then relu."""
    channels, height, width = pixels.shape
    out = np.zeros((len(weight), height, width))
    for d, i, j in np.ndindex(out.shape):
        total = bias[d]
        for c, di, dj in np.ndindex(channels, 3, 3):
            y, x = i + di - 1, j + dj - 1
            if 0 <= y < height and 0 <= x < width:
                total += weight[d, c, di, dj] * pixels[c, y, x]
        out[d, i, j] = max(total, 0)
    return out


def pooled(pixels: Any) -> Any:
    """The largest of each 2 × 2; an odd row or column at the end is left out."""
    channels, height, width = pixels.shape
    out = np.zeros((channels, height // 2, width // 2))
    for c, i, j in np.ndindex(out.shape):
        out[c, i, j] = pixels[c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max()
    return out


@pytest.mark.parametrize(("size", "height"), [(64, None), (49, None), (60, 6)])
def test_the_cnn_is_the_loop(size: int, height: int | None) -> None:
    torch.manual_seed(0)
    model = CNN(Schema(features={"vector": {"image": size}}, n_outputs=3), channels=[3, 4], height=height)
    image = torch.rand(2, size, generator=torch.Generator().manual_seed(1))
    logits = model(Rows(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0), {}, {"image": image}))
    first, first_bias, second, second_bias, head, head_bias = arrays(model)
    side = height or round(size**0.5)
    for row, found in zip(image.double().numpy(), logits.detach().numpy(), strict=True):
        x = pooled(convolved(row.reshape(1, side, -1), first, first_bias))
        x = pooled(convolved(x, second, second_bias))
        assert np.allclose(found, head @ x.ravel() + head_bias, atol=1e-5)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_a_batch_is_its_rows(kind: str) -> None:
    model, rows = made(kind), rows_of()
    together = model(rows)
    assert together.shape == (6, 3)
    alone = torch.cat([model(rows.take(torch.tensor([row]))) for row in range(6)])
    assert torch.allclose(together, alone, atol=1e-6)
    assert model(rows.take(torch.tensor([], dtype=torch.int64))).shape == (0, 3)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_gradients_reach_every_parameter(kind: str) -> None:
    model = made(kind).train()
    nn.functional.cross_entropy(model(rows_of(50)), torch.arange(50) % 3).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert bool((weight.grad != 0).any()), name


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_the_weights_are_all_there_is_to_keep(kind: str) -> None:
    model, other = made(kind), made(kind)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(rows_of()), other(rows_of()))
    assert type(model).tasks == ("classification",)


def test_dropout_is_of_training_alone() -> None:
    model, rows = made("mlp", hidden=[200], dropout=0.5), rows_of()
    assert torch.equal(model(rows), model(rows))
    model.train()
    assert not torch.equal(model(rows), model(rows))


BAD: list[tuple[type[TableModel], Sizes, dict[str, Any], str]] = [
    (MLP, {"categorical": {"site": 4}}, {}, "net.inputs"),
    (MLP, SIZES, {"inputs": ["site"]}, "net.inputs"),
    (MLP, SIZES, {"inputs": []}, "net.inputs"),
    (CNN, {"numeric": {"age": 1}}, {}, "net.image"),
    (CNN, {"vector": {"photo": 16}}, {}, "net.image"),
    (CNN, {"vector": {"image": 15}}, {}, "net.height"),
    (CNN, {"vector": {"image": 16}}, {"height": 3}, "net.height"),
    (CNN, {"vector": {"image": 9}}, {"channels": [2, 2]}, "net.channels"),
]


@pytest.mark.parametrize(("kind", "sizes", "arguments", "where"), BAD)
def test_what_does_not_fit_is_refused(kind: Any, sizes: Sizes, arguments: dict[str, Any], where: str) -> None:
    with pytest.raises(InputError) as caught:
        kind(Schema(features=sizes, n_outputs=2), **arguments)
    assert caught.value.where == where
    assert caught.value.fix


@pytest.fixture(scope="module")
def digits() -> dict[str, tuple[Rows, Tensor]]:
    if not SHARED.is_dir():
        pytest.skip("no ../shared/data/mnist-t10k")
    data = prepare(IDX(str(SHARED)), Filters(), RandomSplit(valid=0.5, test=0.2))
    assert isinstance(data, TableDataset)
    parts = {"train": data.train, "test": data.test}
    return {
        name: (Rows.of(part.features, len(part)), part.label.to(torch.int64)) for name, part in parts.items()
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "arguments", "epochs"), [(MLP, {"hidden": [128]}, 5), (CNN, {"channels": [4, 8]}, 4)])
def test_it_learns_digits(digits: Any, kind: Any, arguments: dict[str, Any], epochs: int) -> None:
    (rows, label), (test_rows, test_label) = digits["train"], digits["test"]
    assert (len(label), len(test_label)) == (3000, 2000)
    torch.manual_seed(0)
    model = kind(replace(SCHEMA, features={"vector": {"image": 784}}, n_outputs=10), **arguments)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(label)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(rows.take(batch)), label[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        assert (model(test_rows).argmax(1) == test_label).float().mean() > 0.9
