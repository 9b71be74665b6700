"""Every problem of a config at once, each with its key, its value and a fix."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from recdistill.cli.preflight import check_job
from recdistill.config import compose
from recdistill.config.check import Problem, check_config, check_nodes, require_valid
from recdistill.config.locate import Sources, find_sources
from recdistill.errors import InputError

PLUGINS = ("miniparts",)


@pytest.fixture
def good(sources: Sources) -> dict[str, Any]:
    with compose.hydra_session(sources):
        return check_job(compose.compose_config([]), sources)


def problems(good: dict[str, Any], key: str, value: Any) -> list[Problem]:
    cfg = copy.deepcopy(good)
    *parents, last = key.split(".")
    node = cfg
    for part in parents:
        node = node[part]
    node[last] = value
    return check_config(cfg, plugins=PLUGINS)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("alpha", 2, "<= 1"),
        ("alpha", -0.1, ">= 0"),
        ("alpha", "high", '"high" (str)'),
        ("temperature", 0, "greater than 0"),
        ("temperature", -1.0, "greater than 0"),
        ("seed", True, "true (bool)"),
        ("seed", 1.5, "1.5 (float)"),
        ("seed", "abc", "integer"),
        ("seed", -1, ">= 0"),
        ("seed", None, "null"),
        ("evaluation.ks", [5, 0], "greater than or equal to 1"),
        ("evaluation.ks", [], "at least 1"),
        ("evaluation.metric", "NDCG", "must be NAME@K, NAME one of ndcg, recall"),
        ("evaluation.ks", [0], "greater than or equal to 1"),
        ("evaluation.metrik", 1, "evaluation.metric?"),
        ("recommend.k", 0, "greater than or equal to 1"),
        ("alhpa", 1, "alpha"),
        ("student.net.dim", "abc", "integer"),
        ("student.net.dim", True, "integer"),
        ("student.net.dim", 1.5, "integer"),
        ("student.net.dim", 0, ">= 1"),
        ("student.net.act", "gelo", "gelu"),
        ("student.net.dropout", 1.2, "student.net.dropout=0: a number >= 0 and <= 1"),
        ("student.net.sizes", [1, "x"], "student.net.sizes[1]"),
        ("student.net.dimm", 3, "student.net.dim?"),
        ("student.net.inner", {"_target_": "miniparts.Kd", "weigt": 1}, "student.net.inner.weight?"),
        ("student.net.inner", [{"_target_": "miniparts.Kd", "weight": "x"}], "student.net.inner[0].weight"),
        ("student.net._target_", "miniparts.Nett", "miniparts.Net?"),
        ("student.net._target_", "miniparts", "not allowed"),
        ("teacher.net._target_", "recdistill.models.nothing.X", "does not exist"),
        ("distiller.soft_label.weight", None, "null"),
    ],
)
def test_wrong_value(good: dict[str, Any], key: str, value: Any, text: str) -> None:
    found = problems(good, key, value)
    assert len(found) >= 1
    assert any(text in str(problem) for problem in found), found
    assert any(problem.key.startswith(key.rpartition(".")[0]) for problem in found)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("alpha", 1),
        ("alpha", {"_target_": "miniparts.Kd"}),
        ("temperature", 3),
        ("evaluation", {"ks": [5, 10], "metric": "mrr@10"}),
        ("recommend.users", ["a", 3]),
        ("student.net.dropout", 0),
        ("student.net.sizes", [1, 2]),
        ("student.net.inner", {"_target_": "miniparts.Net", "_partial_": True}),
        ("distiller.soft_label.alpha", None),
    ],
)
def test_right_value(good: dict[str, Any], key: str, value: Any) -> None:
    assert problems(good, key, value) == []


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [
        ("alpha", 2, "alpha=0.5: a number >= 0 and <= 1"),
        ("temperature", 0, "temperature=2: a number > 0"),
        ("temperature", float("inf"), "temperature=2: a number > 0"),
        ("student.net.dropout", float("nan"), "student.net.dropout=0: a number >= 0 and <= 1"),
        ("seed", -1, "seed=1: a whole number >= 0"),
        ("student.net.dim", 0, "student.net.dim=1: a whole number >= 1"),
        ("evaluation.ks", [5, 0, 10], "a whole number >= 1"),
    ],
)
def test_out_of_range_says_what_to_type(good: dict[str, Any], key: str, value: Any, fix: str) -> None:
    (problem,) = problems(good, key, value)
    assert problem.fix == fix
    assert "allowed" not in problem.message


def shipped(name: str) -> dict[str, Any]:
    node = yaml.safe_load((find_sources([], []).conf / f"distiller/{name}.yaml").read_text(encoding="utf-8"))[name]
    return dict(node)


def said_of(name: str, key: str, value: Any) -> Problem:
    (found,) = [problem for problem in check_nodes({name: shipped(name) | {key: value}}) if problem.key.endswith(key)]
    return found


@pytest.mark.parametrize(
    ("name", "key"),
    [(name, "every") for name in ("bidirectional", "cd", "dcd", "dllm2rec", "hetcomp", "rce_kd")]
    + [("teacher_assistants", "assistants")],
)
def test_what_is_advised_is_what_is_shipped(name: str, key: str) -> None:
    assert (said_of(name, key, 0).fix or "").startswith(f"{name}.{key}={shipped(name)[key]}: a whole number >= 1")


def test_an_empty_list_is_told_from_what_is_no_list() -> None:
    assert "at least 1 item" in said_of("teacher_assistants", "assistants", []).message
    assert "must be an integer" in said_of("teacher_assistants", "assistants", "few").message


def test_value_taken_from_a_wrong_one_is_no_second_problem(good: dict[str, Any]) -> None:
    good["distiller"]["soft_label"] |= {"alpha": "high"}
    assert [problem.key for problem in problems(good, "alpha", "high")] == ["alpha"]
    assert [problem.key for problem in problems(good, "alpha", 2)] == ["alpha", "distiller.soft_label.alpha"]


def test_a_sampled_choice_needs_a_sample(good: dict[str, Any]) -> None:
    (problem,) = problems(good, "evaluation", {"best_by": "sampled"})
    assert problem.key == "evaluation.best_by"
    assert problem.fix is not None
    assert "evaluation.sampled=99" in problem.fix
    assert problems(good, "evaluation", {"best_by": "sampled", "sampled": 99}) == []


def test_metric_that_is_not_computed(good: dict[str, Any]) -> None:
    (problem,) = problems(good, "evaluation.ks", [1])
    assert problem == Problem(
        "evaluation.metric",
        "ndcg@10 is not computed with ks=[1]",
        "evaluation.metric=ndcg@1, or add 10 to evaluation.ks",
    )
    (problem,) = problems(good, "evaluation.metric", "ndcg10")
    assert problem.fix == "evaluation.metric=ndcg@10"
    assert [problems(good, "evaluation.metric", text)[0].fix for text in ("Recall-20", "mrr", "xyz")] == [
        "evaluation.metric=recall@20",
        "evaluation.metric=mrr@10",
        "evaluation.metric=ndcg@10",
    ]
    assert str(problem).startswith('evaluation.metric: "ndcg10" (str): must be NAME@K, NAME one of ndcg, recall, hr,')


def test_missing_argument(good: dict[str, Any]) -> None:
    del good["student"]["net"]["dim"]
    (problem,) = check_config(good, plugins=PLUGINS)
    assert (problem.key, problem.fix) == ("student.net.dim", "student.net.dim=VALUE")


@pytest.mark.usefixtures("good")
def test_names_supplied_at_run_time() -> None:
    node = {"_target_": "miniparts.Net", "dim": 1}
    assert [p.key for p in check_nodes(node, "x", plugins=PLUGINS, supplied=frozenset())] == ["x.schema"]
    assert check_nodes(node, "x", plugins=PLUGINS) == []


def test_all_at_once_on_one_screen(good: dict[str, Any]) -> None:
    good["alpha"], good["seed"], good["student"]["net"]["dim"] = 2, "x", 0
    with pytest.raises(InputError) as error:
        require_valid(check_config(good, plugins=PLUGINS))
    text = str(error.value)
    assert text.startswith("3 things in the config are wrong")
    assert all(key in text for key in ("alpha", "seed", "student.net.dim"))


def test_group_that_a_user_added(good: dict[str, Any]) -> None:
    good["scheduler"] = {"x": 1}
    assert [p.key for p in check_config(good, plugins=PLUGINS)] == ["scheduler"]
    assert check_config(good, plugins=PLUGINS, sections=["scheduler"]) == []


def test_class_written_in_c_is_not_judged() -> None:
    assert check_nodes({"_target_": "torch.optim.Adam", "lr": 0.1, "_partial_": True}, "opt") == []
    (problem,) = check_nodes({"_target_": "torch.optim.Adam", "lrr": 0.1, "_partial_": True}, "opt")
    assert problem.fix == "did you mean opt.lr?"
