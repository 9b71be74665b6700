"""Knowledge graphs: what is read, which triples stay, the numbers they get, and what the fingerprint says."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data import store
from recdistill.data.filters import Filters
from recdistill.data.graph import KnowledgeGraph
from recdistill.data.interactions import Dataset
from recdistill.data.linking import account, link
from recdistill.data.prepare import prepare
from recdistill.data.report import render
from recdistill.data.sources.base import RawGraph, Source
from recdistill.data.sources.graphs import kgcn_graph
from recdistill.data.sources.hetrec import LastFM
from recdistill.data.sources.recbole import RecBole
from recdistill.data.splits import RandomSplit
from recdistill.errors import InputError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
INTER = "user_id:token\titem_id:token\n" + "".join(f"u{u}\ti{i}\n" for u, i in product(range(9), range(9)) if u != i)
KG = "head_id:token\trelation_id:token\ttail_id:token\n"
LINK = "item_id:token\tentity_id:token\n"
TRIPLES = "m1\tby\tann\nm2\tby\tann\nann\tborn\t01\nbob\tborn\t1\nm9\tby\tbob\nm1\tnext\tm2\n"
LINKS = "i1\tm1\ni2\tm2\ngone\tm9\n"


def raw(triples: list[tuple[str, str, str]], links: list[tuple[str, str]]) -> RawGraph:
    ends = pl.DataFrame(triples, {"head": pl.String, "relation": pl.String, "tail": pl.String}, orient="row")
    return RawGraph(ends, pl.DataFrame(links, {"item": pl.String, "entity": pl.String}, orient="row"))


def slow(graph: RawGraph, items: list[str]) -> tuple[set[tuple[int, int, int]], int, int]:
    """The same by words: triples in numbers, how many other entities and relations there are."""
    of: dict[str, set[str]] = {}
    for item, entity in graph.links.iter_rows():
        if item in items:
            of.setdefault(entity, set()).add(item)
    named = {
        (head, relation, tail)
        for h, relation, t in graph.triples.iter_rows()
        for head in ([(0, i) for i in of[h]] if h in of else [(1, h)])
        for tail in ([(0, i) for i in of[t]] if t in of else [(1, t)])
    }
    near = {(0, item) for item in items}
    while grown := {end for h, _, t in named if (h in near) != (t in near) for end in (h, t)} - near:
        near |= grown
    named = {triple for triple in named if triple[0] in near}
    others = sorted({end for h, _, t in named for end in (h, t) if end[0]})
    relations = sorted({relation for _, relation, _ in named})
    number = {(0, item): at for at, item in enumerate(items)} | {x: len(items) + at for at, x in enumerate(others)}
    return {(number[h], relations.index(r), number[t]) for h, r, t in named}, len(others), len(relations)


def plain(graph: KnowledgeGraph) -> list[tuple[int, ...]]:
    return [tuple(row) for row in torch.stack([graph.head, graph.relation, graph.tail], 1).tolist()]


ENTITIES = st.sampled_from(["a", "b", "c", "d", "01", "1", "NA", "x", "y"])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(ENTITIES, st.sampled_from(["r", "q"]), ENTITIES), min_size=1, max_size=9),
    st.lists(st.tuples(st.sampled_from(["1", "01", "i", "none"]), ENTITIES), min_size=1, max_size=5),
)
def test_the_numbers_are_those_of_a_loop(triples: list[tuple[str, str, str]], links: list[tuple[str, str]]) -> None:
    graph, items = raw(triples, links), ["01", "1", "i"]
    expected, others, relations = slow(graph, items)
    if not expected:
        with pytest.raises(InputError, match="no triple of an item"):
            link(graph, np.array(items, dtype=object))
        return
    found = link(graph, np.array(items, dtype=object))
    assert plain(found) == sorted(expected)
    assert (found.n_items, found.n_entities, found.n_relations) == (3, others, relations)
    again = link(raw(triples[::-1], links[::-1]), np.array(items, dtype=object))
    assert plain(again) == plain(found)
    assert found.linked().tolist() == [any(at in (h, t) for h, _, t in expected) for at in range(3)]


def folder(path: Path, kg: str = KG + TRIPLES, links: str = LINK + LINKS) -> str:
    path.mkdir(exist_ok=True)
    for suffix, text in (("inter", INTER), ("kg", kg), ("link", links)):
        (path / f"x.{suffix}").write_text(text, encoding="utf-8")
    return str(path)


def prepared(source: Source) -> Dataset:
    data = prepare(source, Filters(), RandomSplit())
    assert isinstance(data, Dataset)
    return data


def test_a_data_set_has_the_triples_that_lead_to_its_items(tmp_path: Path) -> None:
    data = prepared(RecBole(folder(tmp_path), kg=True))
    graph = data.graph
    assert graph is not None
    assert graph is data.train.graph
    assert data.items.tolist() == [f"i{i}" for i in range(9)]
    # 9 is the entity 01, 10 is ann; relations: born, by, next. What is known of m9 and bob leads to no item.
    assert plain(graph) == [(1, 1, 10), (1, 2, 2), (2, 1, 10), (10, 0, 9)]
    assert (data.schema.n_entities, data.schema.n_relations) == (2, 3)
    counts = {"triples": 4, "relations": 3, "entities": 4, "linked items": 2, "links to other items": 1}
    assert data.report["graph"] == counts
    assert data.report["facts"]["knowledge graph"] == "6 triples, 3 relations, 7 entities"


def test_the_report_shows_it(tmp_path: Path) -> None:
    from rich.console import Console

    with (console := Console(width=200)).capture() as shown:
        console.print(render(prepared(RecBole(folder(tmp_path), kg=True))))
    text = shown.get()
    assert "4 triples, 3 relations, 4 entities" in text
    assert "2 of 9; links to items outside the catalogue: 1" in text


def test_items_that_training_lacks_are_entities_like_others() -> None:
    graph = raw([("m1", "by", "ann"), ("m2", "by", "ann")], [("i1", "m1"), ("i2", "m2")])
    found = link(graph, np.array(["i1"], dtype=object))
    assert plain(found) == [(0, 0, 1), (2, 0, 1)]
    assert account(graph, found, np.array(["i1"], dtype=object))["links to other items"] == 1


def test_both_ways(tmp_path: Path) -> None:
    graph = prepared(RecBole(folder(tmp_path), kg=True)).graph
    assert graph is not None
    entity, relation, neighbour = graph.both_ways
    found = set(zip(entity.tolist(), relation.tolist(), neighbour.tolist(), strict=True))
    assert found == {*plain(graph), *((t, r, h) for h, r, t in plain(graph))}


def test_the_fingerprint_changes_with_a_graph_alone(tmp_path: Path) -> None:
    with_kg, without = (RecBole(folder(tmp_path / "a"), kg=kg) for kg in (True, False))
    assert with_kg.fingerprint() != without.fingerprint()
    assert without.fingerprint() == RecBole(str(tmp_path / "a")).fingerprint()
    first, bare = prepared(with_kg), prepared(without)
    assert first.fingerprint != bare.fingerprint
    assert "graph" not in bare.manifest
    assert "graph" not in bare.report
    assert bare.graph is None
    assert (bare.schema.n_entities, bare.schema.n_relations) == (0, 0)
    rows = TRIPLES.splitlines(keepends=True)
    shuffled = prepared(RecBole(folder(tmp_path / "b", KG + "".join(rows[::-1])), kg=True))
    assert shuffled.fingerprint == first.fingerprint
    other = prepared(RecBole(folder(tmp_path / "c", KG + "".join(rows[:-1])), kg=True))
    assert other.fingerprint != first.fingerprint
    about = dict.fromkeys(("graph", "source", "source_fingerprint"))
    assert {**other.manifest, **about} == {**first.manifest, **about}


def test_it_is_stored_with_the_data(tmp_path: Path) -> None:
    data = prepared(RecBole(folder(tmp_path / "x"), kg=True))
    store.save(data, tmp_path / "kept")
    again = store.load_pairs(tmp_path / "kept", ["train"])
    assert again.graph is not None
    assert data.graph is not None
    assert again.train.graph is again.graph
    assert plain(again.graph) == plain(data.graph)
    assert again.schema == data.schema
    (tmp_path / "kept" / "graph.safetensors").unlink()
    with pytest.raises(InputError, match="no prepared data set"):
        store.load(tmp_path / "kept")


def test_what_was_stored_without_a_graph_is_as_it_was(tmp_path: Path) -> None:
    store.save(replace(prepared(RecBole(folder(tmp_path / "x"))), graph=None), tmp_path / "kept")
    assert not (tmp_path / "kept" / "graph.safetensors").exists()
    assert "graph" not in json.loads((tmp_path / "kept" / "dataset.json").read_text())
    assert store.load_pairs(tmp_path / "kept").graph is None


@pytest.mark.parametrize(
    ("kg", "links", "where", "what"),
    [
        (KG + "m1\tby\tann\nm1\t\tann\n", LINK + LINKS, "x.kg:3:relation_id:token", "no id"),
        (KG + TRIPLES, LINK + "i1\t \n", "x.link:2:entity_id:token", "no id"),
        ("head_id:token\ttail_id:token\nm1\tm2\n", LINK + LINKS, "x.kg:1", "'x.kg' has no field 'relation_id'"),
        (KG + TRIPLES, "item:token\tentity_id:token\ni1\tm1\n", "x.link:1", "'x.link' has no field 'item_id'"),
        (KG, LINK + LINKS, "x.kg", "has no row"),
        (KG + TRIPLES, LINK + "9\tm1\n", "data.kg", "no triple of an item of the catalogue"),
    ],
)
def test_bad_files_are_refused_with_their_place(tmp_path: Path, kg: str, links: str, where: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        prepared(RecBole(folder(tmp_path, kg, links), kg=True))
    assert what in str(caught.value)
    assert caught.value.where is not None
    assert caught.value.where.removeprefix(f"{tmp_path}/") == where
    assert "data.kg=false" in str(caught.value.fix)


def test_rows_without_a_cell_are_dropped_and_counted_where_asked_for(tmp_path: Path) -> None:
    source = RecBole(folder(tmp_path, KG + "m1\t\tann\n" + TRIPLES + "\tby\tann\n"), kg=True, on_bad_rows="drop")
    data = prepared(source)
    assert data.report["dropped"] == {"no id (x.kg)": 2}
    assert data.report["graph"]["triples"] == 4


def test_a_graph_that_is_not_there_is_said(tmp_path: Path) -> None:
    path = folder(tmp_path)
    (tmp_path / "x.kg").unlink()
    with pytest.raises(InputError, match=r"'x\.kg' has no field 'head_id'") as caught:
        RecBole(path, kg=True).read()
    assert caught.value.why is not None
    assert "no file" in caught.value.why


@pytest.mark.skipif(not (SHARED / "ml-100k").is_dir(), reason="shared/data/ml-100k is not there")
def test_ml100k() -> None:
    graph = prepared(RecBole(str(SHARED / "ml-100k"), kg=True)).report["graph"]
    assert graph["relations"] == 24
    assert graph["linked items"] + graph["links to other items"] == 1598


@pytest.mark.skipif(not (SHARED / "lastfm-hetrec").is_dir(), reason="shared/data/lastfm-hetrec is not there")
def test_lastfm() -> None:
    source = LastFM(str(SHARED / "lastfm-hetrec"), kg=True)
    data = prepared(source)
    assert data.graph is not None
    folder_ = SHARED / "lastfm-hetrec" / "kg_kgcn"
    entity = dict(line.split("\t")[::-1] for line in (folder_ / "item_index2entity_id.txt").read_text().splitlines())
    triples = [line.split("\t") for line in (folder_ / "kg.txt").read_text().splitlines()]
    catalogue = {item: at for at, item in enumerate(data.items[: data.train.n_items])}
    linked = {catalogue[entity[end]] for h, _, t in triples for end in (h, t) if entity.get(end) in catalogue}
    assert linked == set(data.graph.linked().nonzero().flatten().tolist())
    assert source.fingerprint() != LastFM(source.where()).fingerprint()


def test_the_form_of_kgcn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no knowledge graph in the form of KGCN"):
        kgcn_graph(tmp_path)
    (tmp_path / "kg_x").mkdir()
    (tmp_path / "kg_x" / "kg.txt").write_text("0\tby\t7\n01\tby\t7\n")
    (tmp_path / "kg_x" / "item_index2entity_id.txt").write_text("a\t0\nb\t01\n")
    graph = kgcn_graph(tmp_path)
    assert graph.triples.rows() == [("0", "by", "7"), ("01", "by", "7")]
    assert graph.links.rows() == [("a", "0"), ("b", "01")]
    (tmp_path / "kg_x" / "kg.txt").write_text("0\tby\t7\n01\t \t7\n")
    with pytest.raises(InputError, match="an id is missing") as caught:
        kgcn_graph(tmp_path)
    assert caught.value.where == f"{tmp_path}/kg_x/kg.txt:2:relation"
