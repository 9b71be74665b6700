"""Comparisons with public implementations: their configs are sound, and what is missing is said. No peer runs here."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from recdistill.config.compose import compose_config, hydra_session, resolve
from recdistill.config.locate import find_sources
from recdistill.stages.line import Line

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module


def test_every_case_and_loop_is_a_sound_config_of_equal_size(script, tmp_path):
    cases, loops = script("peers.cases"), script("loops")
    nodes = {}
    with hydra_session(find_sources([], [])):
        for thing in (*cases.CASES, *loops.LOOPS):
            given = [override.replace("{data}", str(tmp_path)) for override in thing.overrides]
            cfg = resolve(compose_config([*given, "trainer=cpu", "run.name=x"]))
            Line(cfg, tmp_path)  # refuses what does not go together
            nodes.setdefault(thing.name, []).append(cfg["teacher"]["net"])
    for loop in loops.LOOPS:
        first, *others = nodes[loop.name]
        assert others, f"{loop.name} is raced but not compared"
        assert all(other.items() <= {**first, "init_std": other.get("init_std")}.items() for other in others)


def test_the_peer_is_told_the_same_number_of_epochs_and_rate(script):
    for case in script("peers.cases").CASES:
        told = {**case.theirs, **case.theirs.get("settings", {})}
        assert told.get("epochs", told.get("iterations")) == case.epochs
        if case.group != "als":
            assert told.get("lr", told.get("learning_rate")) == case.lr


@pytest.mark.parametrize("driver", sorted(SCRIPTS.glob("peers/*_driver.py")), ids=lambda path: path.stem)
def test_a_driver_says_how_its_environment_is_made(script, driver):
    peer = driver.stem.removesuffix("_driver")
    commands = script("peers.exchange").how_to_make(driver).splitlines()
    assert commands[0].strip() == f"python3 -m venv PEERS/{peer}"
    assert all(line.strip().startswith(f"PEERS/{peer}/bin/pip install ") for line in commands[1:])


def test_a_missing_environment_ends_with_the_commands(script, tmp_path):
    with pytest.raises(SystemExit, match=rf"python3 -m venv {tmp_path}/recbole"):
        script("peers.exchange").run_driver("recbole", [], tmp_path)


def test_the_page_shows_what_was_missed_and_what_was_not_run(script, tmp_path):
    cases, loops, page = script("peers.cases").CASES, script("loops").LOOPS, script("peers.page").page
    row = {
        "ours": [0.10, 0.12], "theirs": [0.2, 0.2], "gap": -0.09, "low": -0.11, "high": -0.07, "verdict": "below",
        "seconds": 3.0, "versions": {"recbole": "1.2.1"}, "parameters": [5000, 6],
    }  # fmt: skip
    (tmp_path / f"{cases[0].slug}.json").write_text(json.dumps(row))
    speed = {"ours": 2.0, "minimal": 1.0, "ratio": 2.0, "turns": 3}
    (tmp_path / f"speed-{loops[0].slug}.json").write_text(json.dumps(speed))
    lines = page(tmp_path, cases, loops).splitlines()
    assert f"| {cases[0].name} | NDCG@10 | recbole | 5,000/6 | {cases[0].epochs} | 2 | 0.1100 ± 0.0141 |" in next(
        line for line in lines if line.endswith("| below |")
    )
    assert sum(line.endswith("| not run |") for line in lines) == len(cases) + len(loops) - 2
    assert any(line.endswith("| 2.00 | 3.00 | 3.0 | above the bound |") for line in lines)
    assert lines[-1] == "Peers ran on recbole 1.2.1."


def test_a_minimal_loop_draws_what_its_users_have_not_seen(script):
    """The minimal loops draw negatives that nobody has seen, all pairs of an epoch once."""
    import torch

    from recdistill.data.interactions import Interactions

    ranking: ModuleType = script("loops.ranking")
    rng = torch.Generator().manual_seed(0)
    user, item = (torch.rand(20, 30, generator=rng) < 0.4).nonzero().unbind(1)
    data = type("Data", (), {"train": Interactions(user, item, 20, 30)})
    parts = [torch.cat(part) for part in zip(*ranking.pairs(data, 16, 3)(), strict=True)]
    seen = set(zip(user.tolist(), item.tolist(), strict=True))
    assert set(zip(parts[0].tolist(), parts[1].tolist(), strict=True)) == seen
    drawn = zip(parts[0].repeat_interleave(3).tolist(), parts[2].flatten().tolist(), strict=True)
    assert not seen & set(drawn)
