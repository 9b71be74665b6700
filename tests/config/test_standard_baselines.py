"""``baselines=standard`` means something for every task, and what it means serves the task."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.config.check import check_nodes
from recdistill.config.compose import compose_config, hydra_session, resolve
from recdistill.config.locate import find_sources
from recdistill.stages.nodes import target_of
from recdistill.stages.tune import combinations

CONF = Path(__file__).parents[2] / "conf"
TASKS = sorted(file.stem for file in (CONF / "task").glob("*.yaml"))
WANTED = {
    "ranking": ["popularity", "item_knn", "ease", "ials", "bpr_mf"],
    "sequence": ["popularity", "item_knn"],
    "ctr": ["lr", "fm"],
    "rating": ["biased_mf"],
    "classification": ["softmax_regression"],
}


@pytest.mark.parametrize("task", TASKS)
def test_standard_baselines(task: str) -> None:
    with hydra_session(find_sources([], [])):
        found = resolve(compose_config([f"task={task}", "data=synthetic", "baselines=standard"]))["baselines"]
    assert list(found) == WANTED[task]
    serving = {task, "ranking"} if task == "sequence" else {task}
    for name, node in found.items():
        where = f"baselines.{name}"
        assert serving & set(target_of(node["net"], where).tasks)
        assert check_nodes(node, where) == []
        assert len(combinations(node, where)) > 1 or name == "popularity", "tuned on the validation part"


def test_every_task_says_what_it_means() -> None:
    assert sorted(file.stem for file in (CONF / "standard").glob("*.yaml")) == TASKS
    for file in (CONF / "standard").glob("*.yaml"):
        assert "# Try: recdistill run " in file.read_text(encoding="utf-8")
