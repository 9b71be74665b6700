"""R11: two gloo processes and one distiller of each family; and whole runs whose state is shared between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ddp_families import gradients, work
from families_kit import FAMILIES
from omegaconf import OmegaConf

from command_kit import SERVER

WORLD = 2
CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    folder, pipes, processes = str(tmp_path_factory.mktemp("ddp")), [], []
    for rank in range(WORLD):
        mine, its = SERVER.Pipe(duplex=False)
        processes.append(SERVER.Process(target=work, args=(rank, WORLD, folder, its)))
        processes[-1].start()
        its.close()
        pipes.append(mine)
    found = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join(60)
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_r11_gradients_of_two_processes_are_those_of_one(name: str, shared: list[dict[str, Any]]) -> None:
    for found in shared:
        assert not isinstance(found.get(name, ""), str), found.get(name, "an earlier family failed")
    (first, own), (second, other) = (found[name] for found in shared)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a, b), "both processes move alike"
    expected, terms = gradients(name)
    assert set(own) == set(terms)
    if not FAMILIES[name].equal:
        assert all(np.isfinite(a).all() for a in first)
        return
    assert any(own[key] != other[key] for key in own), "they had the same share"
    for key, value in terms.items():
        assert (own[key] + other[key]) / WORLD == pytest.approx(value, rel=1e-5), key
    for a, tensor in zip(first, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(a), tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["ddp", "ddp_cpu"])
def test_r11_no_search_for_unused_parameters(name: str) -> None:
    config = OmegaConf.load(CONF / "trainer" / f"{name}.yaml")
    assert config.strategy == "ddp", "the plain one, which does not look for them"
