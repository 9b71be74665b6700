"""Every number of every distiller under a schedule: it takes one and trains, or refuses it before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt
from contract_kit import files, node
from module_kit import SHORT, module_of, steps

from recdistill.config.check import Problem, check_nodes
from recdistill.config.importing import import_target
from recdistill.config.plugins import plugin_modules
from recdistill.config.types import annotations_of
from recdistill.distillers.base import Distiller
from recdistill.distillers.schedules import Linear, Schedule
from recdistill.errors import InputError
from recdistill.models.build import instantiate

OPTIONS = [option for option in files("distiller") if option != "none"]
START, END = 0.3, 0.6  # inside the bounds of any weight, share or temperature
# Read once, before or between the steps, or the moment of a change: no schedule could do anything there. What is stored
# for a temperature is of no other.
ONCE = {
    "aldi.confidence", "aux_sentiment.low", "aux_sentiment.high", "hetcomp.pace", "hetcomp.until", "rd.hybrid_after",
    "tail_kl.temperature", "unkd.quota_power",
}  # fmt: skip


def kind_of(option: str) -> type[Distiller]:
    found = import_target(node("distiller", option)[option]["_target_"], option, plugin_modules())
    assert issubclass(found, Distiller)
    return found


def leaves(annotation: Any) -> Iterator[Any]:
    """The types and bounds that an annotation is made of."""
    parts = (*getattr(annotation, "__args__", ()), *getattr(annotation, "__metadata__", ()))
    yield from (leaf for part in parts for leaf in leaves(part))
    if not parts:
        yield annotation


def floats(option: str) -> dict[str, list[Any]]:
    """The arguments that are floating-point numbers, and what their annotations are made of."""
    found = {name: list(leaves(annotation)) for name, annotation in annotations_of(kind_of(option)).items()}
    return {name: made_of for name, made_of in found.items() if float in made_of}


def planned(option: str) -> list[str]:
    """Those that take a schedule."""
    return [name for name, made_of in floats(option).items() if Schedule in made_of]


def outside(made_of: list[Any]) -> Iterator[float]:
    """The nearest values, or almost, that each bound of a number forbids."""
    for bound in made_of:
        if isinstance(bound, Ge | Interval) and bound.ge is not None:
            yield float(bound.ge) - 0.01  # type: ignore[arg-type]
        if isinstance(bound, Gt | Interval) and bound.gt is not None:
            yield float(bound.gt)  # type: ignore[arg-type]
        if isinstance(bound, Le | Interval) and bound.le is not None:
            yield float(bound.le) + 0.01  # type: ignore[arg-type]
        if isinstance(bound, Lt | Interval) and bound.lt is not None:
            yield float(bound.lt)  # type: ignore[arg-type]


def under(option: str, **ends: tuple[float, float]) -> dict[str, Any]:
    """The config with straight lines in the place of numbers."""
    lines = {name: {"_target_": "recdistill.distillers.schedules.Linear", "start": start, "end": end}
             for name, (start, end) in ends.items()}  # fmt: skip
    given = node("distiller", option)[option]
    return {**{key: min(value, SHORT.get(key, value)) if key in SHORT else value for key, value in given.items()},
            **lines}  # fmt: skip


def problems(option: str, **ends: tuple[float, float]) -> list[Problem]:
    return check_nodes({option: under(option, **ends)}, "distiller", plugins=plugin_modules())


@pytest.mark.parametrize("option", OPTIONS)
def test_every_float_takes_a_schedule_or_is_read_once(option: str) -> None:
    """But for learning rates, which go through that of the student."""
    none = {f"{option}.{name}" for name in floats(option).keys() - planned(option) - {"lr"}}
    assert none <= ONCE
    assert "weight" in planned(option)


@pytest.mark.parametrize("option", OPTIONS)
def test_under_schedules_it_trains_and_logs_them(option: str) -> None:
    """All at once, from START at the first of two steps to the middle of the way at the second."""
    names = planned(option)
    ends = dict.fromkeys(names, (START, END))
    assert problems(option, **ends) == []
    distiller: Distiller = instantiate(under(option, **ends))
    beside = {} if distiller.teaches else {"soft_label": instantiate(under("soft_label"))}
    module = module_of(distiller.tasks[0], {option: distiller, **beside})
    logged = {key for key in module.noted if key.split(".")[-1] in names}
    assert {key.split(".")[-1] for key in logged} == set(names)
    assert {module.noted[key] for key in logged} == {START}
    found = steps(module)
    assert all(math.isfinite(value) for terms in found for value in terms.values())
    facts = module.step_facts(found[1])
    assert {key: facts[key] for key in logged} == pytest.approx(dict.fromkeys(logged, (START + END) / 2))
    halfway = 0.5 * (START + END) / 2  # alpha times the weight
    assert facts[f"{option}.weighted"] == pytest.approx(halfway * found[1][option])


@pytest.mark.parametrize("option", OPTIONS)
def test_a_schedule_that_leaves_the_bounds_is_refused(option: str) -> None:
    for name in planned(option):
        for end in outside(floats(option)[name]):
            found = problems(option, **{name: (START, end)})
            assert [problem.key for problem in found] == [f"distiller.{option}.{name}"], (name, end)
            assert f"a schedule goes from {min(START, end):g} to {max(START, end):g}" in found[0].message
            assert str(found[0].fix).startswith("keep its values ")


@pytest.mark.parametrize("option", OPTIONS)
def test_what_takes_none_refuses_it_and_says_what_does(option: str) -> None:
    numbers = {name for name, annotation in annotations_of(kind_of(option)).items()
               if {int, float} & set(leaves(annotation))}  # fmt: skip
    for name in numbers - set(planned(option)):
        found = problems(option, **{name: (START, END)})
        assert [problem.key for problem in found] == [f"distiller.{option}.{name}"]
        assert found[0].message == f"{name} takes no schedule"
        assert f"distiller.{option}.weight" in str(found[0].fix)


def test_one_that_no_config_has_is_refused_by_the_module() -> None:
    """Of one that Python code has made."""
    from recdistill.distillers.positions import RD
    from recdistill.distillers.topology import HTD

    line = Linear(0.5, 5.0)
    with pytest.raises(InputError, match=r"goes from 0\.5 to 5: .* less than 1") as error:
        module_of("ranking", {"htd": HTD(gamma=line)})
    assert error.value.where == "distiller.htd.gamma"
    with pytest.raises(InputError, match="hybrid_after takes no schedule"):
        module_of("ranking", {"rd": RD(hybrid_after=line)})  # type: ignore[arg-type]
