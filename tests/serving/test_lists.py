"""What is asked of models that rank: the lists are those of ``recdistill recommend``, with the user's own ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from serving_kit import MODELS, Client, K, data, make_bundle, offline

from recdistill.data.csr import Csr
from recdistill.evaluation.ranking import recommend
from recdistill.export.bundle import load_model

RANKS = [name for name, model in MODELS.items() if model[0] in ("ranking", "sequence")]


def items_of(answer: tuple[int, Any]) -> list[str]:
    status, said = answer
    assert status == 200, said
    return [item["item"] for item in said["items"]]


@pytest.mark.parametrize("name", RANKS)
def test_served_is_what_is_recommended_offline(name: str, client: Client, bundles: dict[str, Path]) -> None:
    wanted = offline(bundles[name], MODELS[name][0], 10)
    assert len(wanted) == 90
    for user, items in wanted.items():
        status, said = client.post("/v1/recommend", {"model": name, "user": user})
        assert status == 200, said
        assert [item["item"] for item in said["items"]] == items
        scores = [item["score"] for item in said["items"]]
        assert scores == sorted(scores, reverse=True)
        assert all(item["title"] == data("ranking").titles[int(item["item"])] for item in said["items"])


@pytest.mark.parametrize("name", RANKS)
def test_requests_together_are_answered_as_alone(name: str, client: Client) -> None:
    import asyncio
    import json

    bodies: list[dict[str, Any]] = [
        {"user": str(user), "k": 1 + user % K, **more}
        for user, more in enumerate([{}, {"deny": ["1", "2"]}, {"allow": ["4", "9"]}, {"exclude_seen": False}] * 8)
    ]
    if name in ("next", "ease"):
        bodies += [{"history": [str(item) for item in range(n)], "k": 5} for n in (1, 2, 9)]
    asked = [json.dumps({"model": name, **body}).encode() for body in bodies]
    before = client.metrics._batches[name][0]

    async def together() -> list[Any]:
        return await asyncio.gather(*(client.ask("POST", "/v1/recommend", body) for body in asked))

    found = client.run(together())
    assert client.metrics._batches[name][0] == before + 1
    for body, answer in zip(asked, found, strict=True):
        status, alone = client.post("/v1/recommend", body)
        assert answer[0] == status == 200
        assert [item["item"] for item in answer[1]["items"]] == items_of((status, alone))
        for one, other in zip(answer[1]["items"], alone["items"], strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)


@pytest.mark.parametrize("name", RANKS)
def test_filters(name: str, client: Client) -> None:
    seen = items_of(client.get(f"/v1/history?model={name}&user=7&limit=100"))
    every = items_of(client.post("/v1/recommend", {"model": name, "user": "7", "k": K}))
    assert not set(seen) & set(every)
    best = every[:3]
    without = items_of(client.post("/v1/recommend", {"model": name, "user": "7", "k": K - 3, "deny": best}))
    assert without == every[3:]
    some = [every[5], every[2], every[8], seen[0]]
    only = items_of(client.post("/v1/recommend", {"model": name, "user": "7", "allow": some}))
    assert only == [every[2], every[5], every[8]]
    both = {"model": name, "user": "7", "allow": some, "deny": [every[5]], "exclude_seen": False}
    assert set(items_of(client.post("/v1/recommend", both))) == {every[2], every[8], seen[0]}
    assert items_of(client.post("/v1/recommend", {"model": name, "user": "7", "allow": []})) == []


@pytest.mark.parametrize("name", ["next", "ease"])
def test_a_history_is_that_of_its_user(name: str, client: Client, bundles: dict[str, Path]) -> None:
    """Of a sequence: what a user had is all that the model knows of them. Of a set: what they had in training."""
    from recdistill.serving.catalogue import read_catalogue

    catalogue = read_catalogue(bundles[name])
    assert catalogue.histories is not None
    for row in range(0, 90, 7):
        read = [catalogue.items[item] for item in catalogue.histories.known(row)]
        seen = [catalogue.items[item] for item in catalogue.histories.had(row)]
        body = {"model": name, "history": read, "deny": seen, "k": 6}
        mine = items_of(client.post("/v1/recommend", {"model": name, "user": str(row), "k": 6}))
        assert items_of(client.post("/v1/recommend", body)) == mine
    twice = {"model": name, "history": [*read, *read], "deny": seen, "k": 6}
    assert name == "next" or items_of(client.post("/v1/recommend", twice)) == mine


@pytest.mark.parametrize("name", ["mf", "int8"])
@pytest.mark.parametrize("threaded", [False, True])
def test_a_history_is_folded_in_as_offline(name: str, threaded: bool, client: Client, bundles: dict[str, Path],
                                           monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Of a model that knows users by their rows: by least squares against the items' vectors."""
    model = load_model(bundles[name].parent / "model", data("ranking").train)
    if threaded:
        monkeypatch.setattr("recdistill.serving.vectors.LARGE", 0)
    for history in ([3], [1, 2, 9], [4, 4, 7, 1], list(range(15))):
        sets = Csr.from_pairs(torch.zeros(len(set(history)), dtype=torch.int64), torch.tensor(sorted(set(history))), 1)
        wanted, scores = recommend(lambda _, sets=sets: model.fold_in(sets), torch.tensor([0]), sets, 6)
        body = {"model": name, "history": [str(item) for item in history], "k": 6}
        status, said = client.post("/v1/recommend", body)
        assert status == 200, said
        assert [int(one["item"]) for one in said["items"]] == wanted[0].tolist()
        assert [one["score"] for one in said["items"]] == pytest.approx(scores[0].tolist(), abs=1e-5)
        assert len(items_of(client.post("/v1/recommend", {**body, "exclude_seen": False, "k": K}))) == K
        denied = {**body, "deny": [said["items"][0]["item"]], "k": 5}
        assert items_of(client.post("/v1/recommend", denied)) == [one["item"] for one in said["items"]][1:]


def test_a_model_of_pairs_folds_nothing_in(tmp_path: Path, serving: Callable[..., Client]) -> None:
    neumf = serving(make_bundle(tmp_path, "ranking", "neumf_tiny"))
    status, said = neumf.post("/v1/recommend", {"history": ["1"]})
    assert (status, said["error"]["where"]) == (422, "history")
    assert not neumf.get("/v1/models")[1]["models"][0]["reads_histories"]
    status, said = neumf.post("/v1/recommend", {"user": "nobody"})
    assert status == 404
    assert "fallback" in said["error"]["fix"]


def test_ids_that_are_not_there(client: Client) -> None:
    status, said = client.post("/v1/recommend", {"model": "next", "history": ["1", "none", "2"], "deny": ["nor this"]})
    assert status == 200
    assert said["unknown"] == ["none", "nor this"]
    status, said = client.post("/v1/recommend", {"model": "next", "history": ["none"]})
    assert (status, said["error"]["where"]) == (422, "history")
    status, said = client.post("/v1/recommend", {"model": "next", "history": []})
    assert (status, said["error"]["what"]) == (422, "the history is empty")
    status, said = client.post("/v1/recommend", {"model": "next", "history": ["1"], "user": "1"})
    assert (status, said["error"]["what"]) == (422, "give either user or history")
    status, said = client.post("/v1/recommend", {"model": "next", "user": "nobody"})
    assert status == 404
    assert "history" in said["error"]["fix"]
    assert client.post("/v1/recommend", {"model": "nothing", "user": "1"})[0] == 404
    assert client.post("/v1/similar", {"item": "none"})[0] == 404
    assert client.get("/v1/history?user=nobody")[0] == 404


def test_a_stranger_gets_what_is_popular(bundles: dict[str, Path], serving: Callable[..., Client]) -> None:
    popular = serving(bundles["mf"], "serve.fallback=popular")
    status, said = popular.post("/v1/recommend", {"user": "nobody", "k": 5, "deny": ["3"]})
    assert status == 200
    assert said["fallback"] == "popular"
    whole = data("ranking")
    item = np.concatenate([whole.train.item.numpy(), whole.valid.item.numpy()])
    counts = np.bincount(item[item < 24], minlength=24)
    found = [int(one["item"]) for one in said["items"]]
    assert found == [item for item in np.argsort(-counts, kind="stable") if item != 3][:5]
    assert "fallback" not in popular.post("/v1/recommend", {"user": "1"})[1]


def test_what_a_model_can_not_do_is_said(client: Client) -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("/v1/recommend", {"model": "clicks", "user": "1"}, "/v1/score"),
        ("/v1/similar", {"model": "clicks", "item": "1"}, "/v1/score"),
        ("/v1/score", {"model": "mf", "rows": [{}]}, "/v1/recommend"),
        ("/v1/recommend", {"model": "mf", "user": "1", "k": K + 1}, f"k={K}"),
    ]
    for path, body, word in cases:
        status, said = client.post(path, body)
        assert status == 422, body
        assert word in str(said), body


@pytest.mark.parametrize("name", ["mf", "int8", "next"])
def test_similar_items_are_those_of_the_model(name: str, client: Client, bundles: dict[str, Path]) -> None:
    model = load_model(bundles[name].parent / "model", data(MODELS[name][0]).train)
    vectors = (model.item_matrix() if name == "next" else model.factors()[1]).detach().numpy()
    if name != "next" and model.bias is not None:
        vectors = vectors[:, :-1]
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for item in (0, 5, 23):
        near = vectors @ vectors[item]
        near[item] = -2
        status, said = client.post("/v1/similar", {"model": name, "item": str(item), "k": 4})
        assert status == 200
        assert [int(one["item"]) for one in said["items"]] == np.argsort(-near, kind="stable")[:4].tolist()
        assert said["items"][0]["score"] == pytest.approx(near.max(), abs=1e-5)
    only = items_of(client.post("/v1/similar", {"model": name, "item": "5", "allow": ["5", "6", "7"], "deny": ["7"]}))
    assert only == ["6"]


def test_a_model_without_vectors_is_asked_as_who_had_one_item(client: Client) -> None:
    status, said = client.post("/v1/similar", {"model": "ease", "item": "5", "k": 4})
    assert (status, said["by"]) == (200, "history")
    assert "5" not in items_of((status, said))
    asked = {"model": "ease", "history": ["5"], "k": 4}
    assert items_of((status, said)) == items_of(client.post("/v1/recommend", asked))


def test_items_are_found_by_title(client: Client) -> None:
    assert items_of(client.get("/v1/items?search=film%2024")) == ["0"]
    assert items_of(client.get("/v1/items?search=%C3%86ON")) == ["3"]
    assert len(items_of(client.get("/v1/items?limit=7"))) == 7
    assert items_of(client.get("/v1/items?search=nothing+like+this")) == []


def test_a_bundle_without_histories(tmp_path: Path, serving: Callable[..., Client]) -> None:
    for option, task in (("mf_tiny", "ranking"), ("sasrec_tiny", "sequence")):
        folder = make_bundle(tmp_path / option, task, option, histories=False)
        bare = serving(f"m={folder}")
        status, said = bare.post("/v1/recommend", {"user": "1"})
        assert (status, said["error"]["where"]) == (422, "user")
        answer = bare.post("/v1/recommend", {"user": "1", "exclude_seen": False})
        assert answer[0] == (200 if task == "ranking" else 422)
    assert bare.post("/v1/recommend", {"history": ["1", "2"]})[0] == 200


def test_what_models_say_of_themselves(client: Client) -> None:
    found = {said["name"]: said for said in client.get("/v1/models")[1]["models"]}
    assert list(found) == list(MODELS)
    assert (found["mf"]["takes"], found["ease"]["takes"], found["next"]["takes"]) == ("user", "set", "history")
    assert found["mf"]["max_k"] == K
    assert found["mf"]["n_items"] == 24
    assert found["clicks"]["features"]["genre"] == "categorical"
    assert found["int8"]["bytes"] > 0
