"""A line whose teacher reads a knowledge graph: all stops, and a student that needs none of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from stage_kit import models, weights

from recdistill.data.store import load_pairs

SMALL = (
    "data/split=random", "teacher=kgcn", "teacher.net.dim=4", "teacher.fit.epochs=2", "student=mf", "student.net.dim=4",
    "student.fit.epochs=2", "distiller=topk_kl", "distiller.topk_kl.k=5", "compression=[quantize]", "evaluation.ks=[5]",
    "evaluation.metric=ndcg@5",
)  # fmt: skip


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Thirty users who take films of one director or the other, whom the graph names."""
    seen = [(user, film) for user in range(30) for film in range(12) if (user * 7 + film * 5) % 12 < 6 + user % 2 * 3]
    log = "user_id:token\titem_id:token\n" + "".join(f"{user}\tf{film}\n" for user, film in seen)
    triples = "".join(f"m{film}\tby\td{film % 2}\nm{film}\tgenre\tg{film % 3}\n" for film in range(10))
    for suffix, text in (
        ("inter", log),
        ("kg", "head_id:token\trelation_id:token\ttail_id:token\n" + triples),
        ("link", "item_id:token\tentity_id:token\n" + "".join(f"f{film}\tm{film}\n" for film in range(12))),
    ):
        (tmp_path / f"x.{suffix}").write_text(text, encoding="utf-8")
    return [*SMALL, "data=ml100k", f"data.path={tmp_path}/x.inter"]


def test_teaches_a_plain_factorisation(cli: Callable[..., int], tmp_path: Path, words: list[str]) -> None:
    assert cli("run", *words, "data.kg=true") == 0
    (summary,) = tmp_path.glob("outputs/*/summary.json")
    names = [row["name"] for row in json.loads(summary.read_text(encoding="utf-8"))["rows"]]
    assert {"teacher", "student alone", "student distilled", "quantize"} <= set(names)
    students = models(tmp_path / "outputs" / "cache", "student")
    tables = [set(json.loads((student / "model.json").read_text(encoding="utf-8"))["shapes"]) for student in students]
    assert tables == [{"user.weight", "item.weight", "bias"}] * 2, "no entity, no relation"


def test_without_the_graph_it_is_another_model(cli: Callable[..., int], tmp_path: Path, words: list[str]) -> None:
    for kg in ("true", "false"):
        assert cli("train", *words, f"data.kg={kg}", f"cache=kg_{kg}") == 0
    (first,), (second,) = (models(tmp_path / f"kg_{kg}", "teacher") for kg in ("true", "false"))
    assert weights(first) != weights(second)
    (kept,) = [file.parent for file in (tmp_path / "kg_true").glob("data/*/dataset.json")]
    graph = load_pairs(kept).graph
    assert graph is not None
    assert (graph.n_entities, graph.n_relations, int(graph.linked().sum())) == (5, 2, 10)
