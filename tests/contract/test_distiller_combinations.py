"""Any two and any three distillers of a task at once, drawn so that each is in one pair and one triple at least."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from functools import cache

import pytest
import torch
from answers_kit import TASKS
from contract_kit import files
from module_kit import make, module_of, steps
from view_kit import few, loss_of, prepared, tensors

from recdistill.modules.supervised import StudentModule

OPTIONS = [option for option in files("distiller") if option != "none"]


def groups(task: str) -> Iterator[tuple[str, ...]]:
    """The options of a task in pairs and in triples, in a random order that is always the same."""
    own, rng = [option for option in OPTIONS if task in make(option).tasks], random.Random(task)
    for size in (2, 3):
        order = rng.sample(own, len(own))
        order += rng.sample(order[: -(len(own) % size) or None], -len(own) % size)
        yield from (tuple(order[start : start + size]) for start in range(0, len(order), size))


GROUPS = [(task, names) for task in TASKS for names in groups(task)]


def test_each_is_in_a_pair_and_in_a_triple() -> None:
    for task in TASKS:
        own = {option for option in OPTIONS if task in make(option).tasks}
        for size in (2, 3):
            chosen = [names for at, names in GROUPS if at == task and len(names) == size]
            assert {name for names in chosen for name in names} == own
            assert all(len(set(names)) == size for names in chosen)


@cache
def draws(option: str, task: str) -> bool:
    """Whether the loss depends on random choices."""
    student, teacher = tensors(task, 1), tensors(task, 11)
    distiller = prepared(few(option), task, student, teacher)
    return len({loss_of(distiller, task, student, teacher, seed=seed).item() for seed in range(3)}) > 1


@cache
def alone(option: str, task: str, attention: bool) -> float:
    """The loss at the first step, beside nothing but soft labels where it can't stand alone."""
    names = {option, "soft_label"} if attention or not make(option).teaches else {option}
    return steps(module_of(task, {name: make(name) for name in sorted(names)}), 1)[0][option]


@pytest.mark.parametrize(
    ("task", "names"), GROUPS, ids=lambda value: value if isinstance(value, str) else "-".join(value)
)
def test_they_compose(task: str, names: tuple[str, ...]) -> None:
    rng = random.Random(str(names))
    distillers, alpha = {name: make(name) for name in names}, rng.uniform(0.1, 0.9)
    for distiller in distillers.values():
        distiller.weight = rng.uniform(0.2, 3.0)
    module = module_of(task, distillers, alpha=alpha)
    first, second = steps(module)
    assert set(first) == {module.objective.name, *names}
    assert all(math.isfinite(value) for terms in (first, second) for value in terms.values())
    assert first != second

    # Raw and weighted terms, which add up to the loss.
    module.sums = first
    logged = module.step_facts(first)
    assert {name for name in logged if name.endswith(".weighted")} == {f"{name}.weighted" for name in first}
    for name, distiller in distillers.items():
        assert logged[f"{name}.weighted"] == pytest.approx(alpha * distiller.weight * first[name], rel=1e-6)
    assert logged[f"{module.objective.name}.weighted"] == pytest.approx((1 - alpha) * first[module.objective.name])

    # None changes what another says, but for what is drawn: that depends on who drew before.
    same_student = "hint_attention" not in names  # which takes another one
    for name in names if same_student else ():
        expected = alone(name, task, False)
        assert first[name] == pytest.approx(expected, rel=0.5 if draws(name, task) else 1e-5, abs=1e-6), name


@pytest.mark.parametrize("task", TASKS)
def test_at_alpha_0_they_are_not_there(task: str) -> None:
    """R14: bit for bit the student alone, whichever they are."""
    for names in groups(task):
        if "hint_attention" in names or len(names) == 2:
            continue
        module = module_of(task, {name: make(name) for name in names}, alpha=0.0)
        plain = module_of(task, {"soft_label": make("soft_label")}, alpha=0.0)
        bare = StudentModule(
            plain.model, plain.objective, plain.fit_config, plain.data, seed=1, ks=[10], task=plain.task
        )
        bare.train_part = plain.train_part
        assert steps(module, 3) == steps(bare, 3)  # type: ignore[arg-type]
        assert set(module.state_dict()) == set(bare.state_dict())
        assert all(torch.equal(tensor, bare.state_dict()[name]) for name, tensor in module.state_dict().items())
