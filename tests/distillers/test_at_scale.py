"""200,000 users and 50,000 items in 4 GiB: memory of a training is O(users · K), and no matrix of all pairs is made."""

from __future__ import annotations

import math
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from scale_worker import ITEMS, STEPS, USERS, work

from command_kit import SERVER
from recdistill.models.build import instantiate

CONF = Path(__file__).parents[2] / "conf" / "distiller"
GIB = 2**30
LOOKERS = (
    "bidirectional",
    "cd_student",
    "dcd",
    "dllm2rec",
    "rce_kd",
    "unkd",
)  # lists of all queries at the start of an epoch

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no module resource")


@cache
def nodes() -> dict[str, Any]:
    """Every ranking distiller with its own settings, and cd guided by the student."""
    found = {}
    for file in sorted(CONF.glob("*.yaml")):
        given = OmegaConf.create({"temperature": 2.0, "it": OmegaConf.load(file).get(file.stem)})
        node = OmegaConf.to_container(given, resolve=True)["it"]  # type: ignore[call-overload,index]
        if node and "ranking" in instantiate(node).tasks:
            found[file.stem] = node
    return found | {"cd_student": {**found["cd"], "guide": "student"}}


def measured(names: set[str], whole: set[str], folder: Path) -> dict[str, Any]:
    """What the worker found, after all bounds that hold for every method."""
    mine, its = SERVER.Pipe(duplex=False)
    chosen = {name: node for name, node in nodes().items() if name in names}
    process = SERVER.Process(target=work, args=(chosen, whole, str(folder), its))
    process.start()
    its.close()
    found: dict[str, Any] = mine.recv()
    process.join()
    assert "error" not in found, found["error"]
    assert found.keys() - {"data"} == names
    held = 0
    for name, (losses, peak, seconds, queries, lists) in found.items():
        more = f"(+{(peak - held) / GIB:.2f}) {seconds:6.2f} s, {queries} of {lists} lists"
        print(f"{name:22} {peak / GIB:6.2f} GiB {more} {losses[:2]}")
        held = peak
        assert peak < 4 * GIB, name
        assert all(math.isfinite(loss) for loss in losses), name
        if name != "data":
            assert len(losses) == STEPS
            assert len(set(losses)) > STEPS // 2, "it trains"
        assert (name in LOOKERS) == (lists > 0), "LOOKERS names all that look up lists"
        if name in whole:
            assert queries == lists >= USERS
    assert held < 4 * USERS * ITEMS, "a matrix of scores would be larger than all that is allowed"
    assert min(held, GIB // 4) == GIB // 4, "what was measured is not this process"
    return found


def test_twenty_steps_with_every_ranking_distiller(tmp_path: Path) -> None:
    """From stored signals, with 128 users distilled per step; lists of an epoch's start for the first chunk of users.

    What the numbers are of is in scale_worker.py: the signals are random, and written by the store's own writer.
    """
    assert {"soft_label", "rrd", "hint", "ce_kl", *LOOKERS} < set(nodes())
    measured(set(nodes()), set(), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", LOOKERS)
def test_the_lists_of_all_users_at_the_start_of_an_epoch(name: str, tmp_path: Path) -> None:
    """Every chunk of the look-up: minutes of scoring the whole catalogue."""
    measured({name}, {name}, tmp_path)
