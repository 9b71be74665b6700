"""Schedules as a config group: each at every place where a number may be one."""

from __future__ import annotations

import pytest

from recdistill.config.compose import compose_config, hydra_session, resolve
from recdistill.config.locate import find_sources
from recdistill.distillers.schedules import Schedule
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
