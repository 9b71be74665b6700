"""KGCN against its formula, neighbour by neighbour."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.graph import KnowledgeGraph
from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import InputError
from recdistill.export.bundle import load_model, save_model
from recdistill.models import kgcn
from recdistill.models.kgcn import KGCN

USERS, ITEMS, ENTITIES, RELATIONS = 5, 8, 6, 3
NET = {"_target_": "recdistill.models.kgcn.KGCN", "dim": 4, "init_std": 1.0}


def graph() -> KnowledgeGraph:
    """Triples of items and entities in every combination; items 6 and 7 have none, entity 5 is of no item's."""
    rng = torch.Generator().manual_seed(3)
    ends = [torch.randint(ITEMS + ENTITIES, (40,), generator=rng) for _ in range(2)]
    relation = torch.randint(RELATIONS, (40,), generator=rng)
    keep = ~torch.isin(ends[0], torch.tensor([6, 7, 13])) & ~torch.isin(ends[1], torch.tensor([6, 7, 13]))
    return KnowledgeGraph(ends[0][keep], relation[keep], ends[1][keep], ITEMS, ENTITIES, RELATIONS)


both = pytest.mark.parametrize("layer", [True, False])


def train(given: KnowledgeGraph | None) -> Interactions:
    user, item = torch.tensor([0, 1, 1, 2, 3, 4, 4]), torch.tensor([0, 1, 2, 7, 3, 5, 6])
    return Interactions(user, item, USERS, ITEMS, graph=given)


def model(given: KnowledgeGraph | None = None, layer: bool = True) -> KGCN:
    torch.manual_seed(0)
    sizes = (given.n_entities, given.n_relations) if given else (0, 0)
    made = KGCN(Schema(USERS, ITEMS, n_entities=sizes[0], n_relations=sizes[1]), dim=4, layer=layer, init_std=1.0)
    made.bind(train(given))
    return made


def slow(net: KGCN, given: KnowledgeGraph, user: int, item: int) -> Tensor:
    """Eq. 1 to 4 of the paper, with all neighbours."""
    assert net.entity is not None
    assert net.relation is not None
    vectors = torch.cat([net.item.weight, net.entity.weight])
    weights, neighbours = [], []
    for head, relation, tail in zip(given.head.tolist(), given.relation.tolist(), given.tail.tolist(), strict=True):
        for one, other in ((head, tail), (tail, head)):
            if one == item:
                weights.append(net.user.weight[user] @ net.relation.weight[relation])
                neighbours.append(vectors[other])
    near = torch.stack(weights).softmax(0) @ torch.stack(neighbours) if weights else torch.zeros(4)
    seen: Tensor = vectors[item] + near
    seen = seen if net.mix is None else torch.tanh(net.mix.weight @ seen + net.mix.bias)
    return net.user.weight[user] @ seen


@both
def test_scores_are_those_of_the_formula(layer: bool) -> None:
    given = graph()
    net = model(given, layer)
    linked = given.linked()
    assert 0 < int(linked.sum()) < ITEMS
    expected = torch.stack([torch.stack([slow(net, given, u, i) for i in range(ITEMS)]) for u in range(USERS)])
    torch.testing.assert_close(net.scores(torch.arange(USERS)), expected)
    users, shared = torch.tensor([4, 0, 4]), torch.tensor([7, 1, 1])
    torch.testing.assert_close(net.scores(users, shared), expected[users][:, shared])
    own = torch.tensor([[0, 7], [3, 3], [6, 5]])
    torch.testing.assert_close(net.scores(users, own), expected[users].gather(1, own))


def test_large_preferences_do_not_overflow() -> None:
    net = model(graph())
    with torch.no_grad():
        net.user.weight.mul_(300)
    assert bool(net.scores(torch.arange(USERS)).isfinite().all())
    torch.testing.assert_close(net.scores(torch.tensor([2]))[0, 0], slow(net, graph(), 2, 0))


@both
@pytest.mark.parametrize("items", [None, torch.tensor([7, 1, 1]), torch.tensor([[0, 7], [3, 3], [6, 5]])])
def test_chunks_change_neither_scores_nor_gradients(
    items: Tensor | None, layer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, found = torch.tensor([4, 0, 4]), []
    for size in (kgcn.CHUNK, 1):
        monkeypatch.setattr(kgcn, "CHUNK", size)
        net = model(graph(), layer)
        scores = net.scores(users, items)
        scores.square().sum().backward()
        found.append([scores.detach(), *(weight.grad for weight in net.parameters() if weight.grad is not None)])
    assert len(found[0]) == 1 + len(list(model(graph(), layer).parameters()))
    torch.testing.assert_close(found[0], found[1])


@both
def test_gradients_are_those_of_the_formula(layer: bool) -> None:
    given = graph()
    fast, loop = model(given, layer), model(given, layer)
    fast.scores(torch.arange(USERS)).square().sum().backward()
    sum(slow(loop, given, u, i).square() for u in range(USERS) for i in range(ITEMS)).backward()  # type: ignore[union-attr]
    for one, other in zip(fast.parameters(), loop.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad)


def test_other_numbers_of_the_entities_change_nothing() -> None:
    given = graph()
    net, other = model(given), model(given)
    assert net.entity is not None
    assert other.entity is not None
    order = torch.randperm(ENTITIES, generator=torch.Generator().manual_seed(1))
    number = torch.cat([torch.arange(ITEMS), ITEMS + order])
    with torch.no_grad():
        other.entity.weight[order] = net.entity.weight
    other.bind(train(replace(given, head=number[given.head], tail=number[given.tail])))
    torch.testing.assert_close(other.scores(torch.arange(USERS)), net.scores(torch.arange(USERS)))
    flipped = replace(given, head=given.tail, tail=given.head)  # either end sees the other
    net.bind(train(flipped))
    torch.testing.assert_close(other.scores(torch.arange(USERS)), net.scores(torch.arange(USERS)))


def test_without_a_graph_an_item_is_the_same_to_everybody() -> None:
    plain = model(None, False)
    torch.testing.assert_close(plain.scores(torch.arange(USERS)), plain.user.weight @ plain.item.weight.T)
    net = model()
    assert net.mix is not None
    assert not any(name.startswith(("entity", "relation")) for name in net.state_dict())
    expected = net.user.weight @ torch.tanh(net.item.weight @ net.mix.weight.T + net.mix.bias).T
    torch.testing.assert_close(net.scores(torch.arange(USERS)), expected)


def test_a_graph_of_items_alone_has_no_other_entities() -> None:
    ends = torch.tensor([0, 1]), torch.tensor([1, 2])
    given = KnowledgeGraph(ends[0], torch.zeros(2, dtype=torch.int64), ends[1], ITEMS, 0, 1)
    net = model(given)
    assert net.entity is None
    assert bool(net.scores(torch.arange(USERS)).isfinite().all())


def test_new_users_are_like_those_with_their_history() -> None:
    net = model(graph())
    history = Csr.from_pairs(torch.tensor([0, 0, 1]), torch.tensor([1, 2, 7]), 3)
    with torch.no_grad():
        scores = net.fold_in(history)
        torch.testing.assert_close(scores[:2], net.scores(torch.tensor([1, 2])))
    assert bool(scores.isfinite().all())


def test_comes_back_from_disk(tmp_path: Path) -> None:
    net = model(graph()).eval()
    save_model(tmp_path, net, NET)
    again = load_model(tmp_path, train(graph()))
    assert torch.equal(again.scores(torch.arange(USERS)), net.scores(torch.arange(USERS)))


def test_is_not_bound_to_data_without_its_graph() -> None:
    with pytest.raises(InputError, match="the data have none") as caught:
        model(graph()).bind(train(None))
    assert caught.value.fix == "data.kg=true"
