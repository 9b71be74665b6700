"""NeuMF against the formula of one pair at a time, and its users that training lacked against a loop."""

from __future__ import annotations

import math

import pytest
import torch

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions, Schema
from recdistill.models import neighbours, neumf
from recdistill.models.neighbours import from_neighbours
from recdistill.models.neumf import NeuMF


def made(train: Interactions, dim: int = 3, layers: int = 3) -> NeuMF:
    torch.manual_seed(0)
    model = NeuMF(Schema(train.n_users, train.n_items), dim=dim, layers=layers, init_std=1.0).double()
    model.bind(train)
    return model


def score(model: NeuMF, user: int, item: int) -> float:
    """h · [p ∘ q ; the network over the two vectors one behind the other]."""
    product = model.user.weight[user] * model.item.weight[item]
    both = torch.cat([model.user_deep.weight[user], model.item_deep.weight[item]])
    first = torch.cat([model.of_user.weight, model.of_item.weight], 1)
    hidden = (first @ both + model.of_user.bias).clamp(min=0)
    for layer in model.later:
        assert isinstance(layer, torch.nn.Linear)
        hidden = (layer.weight @ hidden + layer.bias).clamp(min=0)
    return (torch.cat(list(model.out)) * torch.cat([product, hidden])).sum().item()


@pytest.mark.parametrize("chunk", [1, 30, 200, 1 << 22])
@pytest.mark.parametrize("layers", [1, 3])
def test_scores_are_the_loop_whatever_the_chunks(
    train: Interactions, chunk: int, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neumf, "CHUNK", chunk)
    model, users = made(train, layers=layers), torch.tensor([3, 0, 3, 11])
    expected = torch.tensor([[score(model, int(u), i) for i in range(train.n_items)] for u in users]).double()
    torch.testing.assert_close(model.scores(users), expected)
    shared, own = torch.tensor([5, 5, 1]), torch.randint(train.n_items, (4, 6))
    torch.testing.assert_close(model.scores(users, shared), expected[:, shared])
    torch.testing.assert_close(model.scores(users, own), expected.gather(1, own))


def test_widths_halve() -> None:
    model = NeuMF(Schema(5, 7), dim=4, layers=3)
    assert [layer.weight.shape for layer in (model.of_user, *model.later)] == [(16, 16), (8, 16), (4, 8)]


def test_gradients_do_not_depend_on_the_chunks_and_reach_every_parameter(
    train: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for chunk in (7, 1 << 22):
        monkeypatch.setattr(neumf, "CHUNK", chunk)
        model = made(train)
        model.scores(torch.arange(train.n_users)).logsumexp(-1).sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
    for name, grad in found[0].items():
        assert grad is not None, name
        assert bool((grad != 0).any()), name
        torch.testing.assert_close(grad, found[1][name])


def test_scoring_a_large_catalogue_takes_the_memory_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neumf, "CHUNK", 1 << 12)
    schema = Schema(4, 3000)
    model, sizes = NeuMF(schema, dim=2, layers=2), list[int]()
    plain = model._network

    def seen(user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        sizes.append(user.shape[0] * item.shape[-2] * item.shape[-1])
        return plain(user, item)

    monkeypatch.setattr(model, "_network", seen)
    assert model.scores(torch.arange(4)).shape == (4, 3000)
    assert max(sizes) <= 1 << 12


@pytest.mark.parametrize("k", [1, 2, 99])
def test_neighbours_are_the_loop(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "CHUNK", 1)
    sets = [{0, 1, 2}, {0, 1, 3, 4}, {0, 5}, {6, 7}]
    user = torch.tensor([u for u, own in enumerate(sets) for _ in own])
    train = Csr.from_pairs(user, torch.tensor([i for own in sets for i in own]), 4)
    asked: list[set[int]] = [{0, 1, 2, 4}, set(), {7}]
    row = torch.tensor([r for r, own in enumerate(asked) for _ in own])
    history = Csr.from_pairs(row, torch.tensor([i for own in asked for i in own]), 3)
    table = torch.randn(4, 5)
    found = from_neighbours(table, train, history, 9, k)
    for at, own in enumerate(asked):
        cosines = [len(own & other) / math.sqrt(max(len(own), 1) * len(other)) for other in sets]
        nearest = sorted(range(4), key=[-c for c in cosines].__getitem__)[:k]
        total = sum(cosines[u] for u in nearest)
        expected = sum(cosines[u] * table[u] for u in nearest) / total if total else table.mean(0)
        torch.testing.assert_close(found[at], expected)


def test_a_user_folded_in_has_the_scores_of_their_only_neighbour() -> None:
    train = Interactions(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 2, 3]), 2, 5)
    model = made(train).float()
    folded = model.fold_in(Csr.from_pairs(torch.tensor([0]), torch.tensor([2]), 1))
    torch.testing.assert_close(folded[0], model.scores(torch.tensor([1]))[0])
