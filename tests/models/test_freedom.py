"""FREEDOM's two graphs against loops."""

from __future__ import annotations

import math

import pytest
import torch
from fusion_kit import NAN, with_features
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import InputError
from recdistill.models.freedom import FREEDOM, drawn, nearest
from recdistill.models.lightgcn import LightGCN, normalised_adjacency

K = 3


def made(train: Interactions, **more: object) -> tuple[FREEDOM, Interactions]:
    torch.manual_seed(0)
    given, schema = with_features(train, torch.float32)
    model = FREEDOM(schema, **{"dim": 4, "k": K, "init_std": 1.0, **more})  # type: ignore[arg-type]
    model.bind(given)
    return model, given


def slow_nearest(rows: list[list[float]], k: int) -> list[list[int]]:
    known = [i for i, row in enumerate(rows) if row[0] == row[0]]
    found = []
    for i, row in enumerate(rows):
        if i not in known:
            found.append([i] * k)
            continue
        cosine = {
            j: sum(a * b for a, b in zip(row, rows[j], strict=True)) / math.hypot(*row) / math.hypot(*rows[j])
            for j in known
        }
        found.append(sorted(known, key=lambda j: -cosine[j])[:k])
    return found


def test_neighbours(train: Interactions) -> None:
    given, _ = with_features(train)
    for vectors in given.item_features.vector.values():
        rows = vectors[: train.n_items]
        assert nearest(rows, K).tolist() == slow_nearest(rows.tolist(), K)
    assert nearest(torch.eye(2), 5).shape == (2, 2), "as many as there are"
    assert nearest(torch.full((3, 2), NAN), 5).shape == (3, 0)
    many = torch.randn(2500, 6, generator=torch.Generator().manual_seed(1))  # more than are held at once
    assert torch.equal(nearest(many, 1).flatten(), torch.arange(2500))


@pytest.mark.parametrize("item_layers", [1, 2])
@pytest.mark.parametrize(
    ("names", "weights", "expected"),
    [
        (None, None, {"image": 0.5, "sound": 0.5}),
        (None, {"image": 3.0}, {"image": 0.75, "sound": 0.25}),
        (["sound"], {"image": 3.0}, {"sound": 1.0}),
    ],
)
def test_items_are_the_graphs_and_those_like_them(
    train: Interactions, names: list[str] | None, weights: dict[str, float] | None, expected: dict[str, float],
    item_layers: int,
) -> None:  # fmt: skip
    model, given = made(train, features=names, weights=weights, item_layers=item_layers)
    walked = model.item.weight
    for _ in range(item_layers):
        after = torch.zeros_like(walked)
        for name, share in expected.items():
            rows = given.item_features.vector[name][: train.n_items].tolist()
            for item, near in enumerate(slow_nearest(rows, K)):
                for other in near:
                    after[item] = after[item] + share / K * walked[other]
        walked = after
    graph = LightGCN(Schema(train.n_users, train.n_items), dim=4, layers=2)
    graph.bind(train)
    graph.load_state_dict(model.state_dict())
    user, item_vectors = graph.factors()
    model.eval()
    torch.testing.assert_close(model.factors()[0], user)
    torch.testing.assert_close(model.factors()[1], item_vectors + walked)


def test_the_graph_of_items_has_its_gradients(train: Interactions) -> None:
    model, _ = made(train)
    model.double()
    own = model.item.weight.detach().requires_grad_()
    model.item.weight.requires_grad_(False)

    def walked(weight: Tensor) -> Tensor:
        model.item._parameters["weight"] = weight  # type: ignore[assignment]
        return model.alike()

    assert torch.autograd.gradcheck(walked, (own,))


def test_a_pruned_graph_is_that_of_its_edges(train: Interactions) -> None:
    model, _ = made(train, pruned=0.4)
    model.train()
    graph = model.graph().to_dense()
    assert not torch.equal(graph, model.graph().to_dense()), "drawn anew"
    user, item = graph[: train.n_users, train.n_users :].nonzero(as_tuple=True)
    assert len(user) == round(0.6 * len(train))
    pairs = set(zip(train.user.tolist(), train.item.tolist(), strict=True))
    assert set(zip(user.tolist(), item.tolist(), strict=True)) <= pairs
    left = Interactions(user, item, train.n_users, train.n_items)
    torch.testing.assert_close(graph, normalised_adjacency(left).to_dense())
    whole = normalised_adjacency(train).to_dense()
    assert torch.equal(model.eval().graph().to_dense(), whole)
    model, _ = made(train, pruned=0.0)
    assert torch.equal(model.train().graph().to_dense(), whole)


def test_odds() -> None:
    """The first of two drawn is i with probability p_i, the second j with p_j / (1 - p_i)."""
    torch.manual_seed(0)
    odds, count = torch.tensor([1.0, 2.0, 5.0]), torch.zeros(3)
    for _ in range(4000):
        found = drawn(odds, 2)
        assert found[0] < found[1]
        count[found] += 1
    share = (odds / odds.sum()).tolist()
    for i in range(3):
        expected = share[i] + sum(share[j] * share[i] / (1 - share[j]) for j in range(3) if j != i)
        assert abs(count[i].item() / 4000 - expected) < 0.03


def test_refusals(train: Interactions, schema: Schema) -> None:
    with pytest.raises(InputError, match="FREEDOM needs vectors of the items"):
        FREEDOM(schema)
    with pytest.raises(InputError, match="image") as caught:
        made(train, weights={"imag": 1.0})
    assert caught.value.where == "net.weights"
