"""Schedules as a config group: each at every place where a number may be one."""

from __future__ import annotations

import pytest

from recdistill.cli.preflight import check_job
from recdistill.config.compose import compose_config, hydra_session, resolve
from recdistill.config.locate import find_sources
from recdistill.distillers.schedules import Schedule
from recdistill.errors import InputError
from recdistill.models.build import instantiate

SOURCES = find_sources([], [])


@pytest.mark.parametrize("option", sorted(file.stem for file in (SOURCES.conf / "schedule").glob("*.yaml")))
@pytest.mark.parametrize("where", ["alpha", "temperature", "distiller.soft_label.weight"])
def test_a_schedule_takes_the_place_of_a_number(option: str, where: str) -> None:
    with hydra_session(SOURCES):
        node = resolve(compose_config([f"+schedule@{where}={option}"]))
    for key in where.split("."):
        node = node[key]
    schedule = instantiate(node)
    assert isinstance(schedule, Schedule)
    low, high = schedule.extremes()
    assert low <= schedule(0.0) <= high
    assert low <= schedule(0.999) <= high
    assert "# Try: recdistill run +schedule@" in (SOURCES.conf / "schedule" / f"{option}.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "where", "text"),
    [
        (["+schedule@student.fit.lr=linear"], "student.fit.lr", "lr takes no schedule"),
        (["weighting=gap", "+schedule@weighting.power=linear"], "weighting.power", "power takes no schedule"),
        (["+schedule@teaching.back=linear", "teaching=mutual", "teaching.back.end=2"], "teaching.back", "from 1 to 2"),
        (["+schedule@temperature=linear"], "distiller.soft_label.temperature", "from 0 to 1"),
        (
            ["+schedule@distiller.soft_label.weight=steps", "distiller.soft_label.weight.at=[]"],
            "distiller.soft_label.weight", "need 1 moments in 'at', not 0",
        ),
        # What is wrong with the schedule itself is said once, of it.
        (
            ["+schedule@distiller.soft_label.weight=linear", "distiller.soft_label.weight.start=high"],
            "distiller.soft_label.weight.start", "must be a number",
        ),
    ],
)  # fmt: skip
def test_where_none_fits_it_is_found_before_anything_runs(words: list[str], where: str, text: str) -> None:
    with hydra_session(SOURCES), pytest.raises(InputError) as error:
        check_job(compose_config(words), SOURCES)
    assert error.value.where == where
    assert text in error.value.what


def test_the_range_of_a_part_of_the_training_is_said_once() -> None:
    with hydra_session(SOURCES), pytest.raises(InputError) as error:
        check_job(compose_config(["+schedule@alpha=linear", "alpha.over=2"]), SOURCES)
    assert error.value.fix == "alpha.over=1: a number > 0 and <= 1"


def test_a_schedule_where_there_was_none_takes_a_plus() -> None:
    with hydra_session(SOURCES), pytest.raises(InputError) as error:
        compose_config(["schedule@alpha=linear"])
    assert error.value.fix == "+schedule@alpha=OPTION puts it there"
