"""200,000 users and 50,000 items in 4 GiB: memory of a training is O(users · K), and no matrix of all pairs is made."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from scale_worker import ITEMS, USERS, work

from command_kit import SERVER

CONF = Path(__file__).parents[2] / "conf" / "distiller"
GIB = 2**30
FEWER = {"ce_kl": 3}  # its gradient is that of soft_label, which scores the whole catalogue for the full 20 steps


@pytest.mark.skipif(sys.platform == "win32", reason="there is no module resource")
def test_twenty_steps_with_every_ranking_distiller(tmp_path: Path) -> None:
    """From stored signals, with 128 users distilled per step.

    What the numbers are of is in scale_worker.py: the signals are random, and written by the store's own writer.
    """
    from recdistill.models.build import instantiate

    nodes = {}
    for file in sorted(CONF.glob("*.yaml")):
        given = OmegaConf.create({"temperature": 2.0, "it": OmegaConf.load(file).get(file.stem)})
        node = OmegaConf.to_container(given, resolve=True)["it"]  # type: ignore[call-overload,index]
        if node and "ranking" in instantiate(node).tasks:
            nodes[file.stem] = node
    assert {"soft_label", "rrd", "hint", *FEWER} < set(nodes)
    mine, its = SERVER.Pipe(duplex=False)
    process = SERVER.Process(target=work, args=(nodes, FEWER, str(tmp_path), its))
    process.start()
    its.close()
    found = mine.recv()
    process.join()
    assert "error" not in found, found["error"]
    held = 0
    for name, (losses, peak, seconds) in found.items():
        print(f"{name:22} {peak / GIB:6.2f} GiB (+{(peak - held) / GIB:.2f}) {seconds:6.2f} s {losses[:2]}")
        held = peak
        assert peak < 4 * GIB, name
        assert all(math.isfinite(loss) for loss in losses), name
        if name != "data":
            assert len(losses) == FEWER.get(name, 20)
            assert len(set(losses)) > len(losses) // 2, "it trains"
    assert held < 4 * USERS * ITEMS, "a matrix of scores would be larger than all that is allowed"
    assert min(held, GIB // 4) == GIB // 4, "what was measured is not this process"
