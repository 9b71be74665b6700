"""Queries that a teacher of another domain knows nothing of are left out, and the others weigh as the step has them."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from recdistill.modules.distillation import DistillationModule


@dataclass(frozen=True)
class Share:
    query: Tensor
    query_weight: float = 1.0


class Seen:
    def __init__(self, users: Tensor):
        self.users = users

    def of(self, users: Tensor) -> Seen:
        return Seen(users)


def left(informed: Tensor | None, *parts: list[int]) -> list[tuple[list[int], Any]]:
    """What is left of the parts of a step, by the module's own methods, which need no more of it than this."""
    module: Any = SimpleNamespace(informed=informed)
    batches: list[Any] = [Share(torch.tensor(part)) for part in parts]
    found = []
    for batch in batches if informed is None else DistillationModule.weighed(module, batches):
        view, rest = DistillationModule.known(module, Seen(batch.query), batch)
        assert view.users.tolist() == rest.query.tolist()
        found.append((rest.query.tolist(), rest.query_weight))
    return found


def test_a_process_keeps_what_the_teacher_knows() -> None:
    assert left(None, [2, 0]) == [([2, 0], 1.0)]
    informed = torch.tensor([True, False, True, False])
    assert left(informed, [3, 2, 1, 0]) == [([2, 0], 1.0)]
    assert left(informed, [3, 1]) == [([3], 0.0)]


SHARES = [([0, 1, 3], [2, 1, 1]), ([0, 1, 3], [2, 2, 1]), ([1, 3], [0, 2]), ([1], [3])]
INFORMED, VALUE = torch.tensor([True, False, True, False]), torch.tensor([5.0, 100.0, 11.0, 1000.0])


@pytest.mark.parametrize("shares", SHARES)
def test_accumulated_parts_together_give_the_mean_over_the_step(shares: tuple[list[int], list[int]]) -> None:
    means = [weight * float(VALUE[query].mean()) for query, weight in left(INFORMED, *shares)]
    known = [float(VALUE[query]) for share in shares for query in share if INFORMED[query]]
    assert sum(means) / 2 == pytest.approx(sum(known) / len(known) if known else 0.0)


@pytest.mark.parametrize("shares", SHARES)
def test_processes_together_give_the_mean_over_the_step(
    shares: tuple[list[int], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    informed, value = INFORMED, VALUE
    counts = [sum(bool(informed[query]) for query in share) for share in shares]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda count: count.fill_(float(sum(counts))))
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    means = []
    for share in shares:
        [(query, weight)] = left(informed, share)
        means.append(weight * float(value[query].mean()))
    known = [float(value[query]) for share in shares for query in share if informed[query]]
    assert sum(means) / 2 == pytest.approx(sum(known) / len(known) if known else 0.0)
