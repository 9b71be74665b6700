"""A look at the lists of all queries goes by parts; what no query changes is computed once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import module_kit
import pytest
from contract_kit import board
from module_kit import make, model_of, module_of
from torch import Tensor

from recdistill.distillers import ranked_lists, signals
from recdistill.distillers.base import Needs
from recdistill.distillers.signals import chunks, compute_signals
from recdistill.models.lightgcn import LightGCN
from recdistill.models.two_tower import TwoTower


def parts(n: int, *_: Any, **__: Any) -> Iterator[Tensor]:
    return chunks(n, max(1, n // 5))


def counted(monkeypatch: pytest.MonkeyPatch, kind: type, name: str) -> list[object]:
    """The objects whose method was called, once for each call."""
    calls, method = [], getattr(kind, name)

    def noted(self: Any, *given: Any) -> Any:
        calls.append(self)
        return method(self, *given)

    monkeypatch.setattr(kind, name, noted)
    return calls


@pytest.mark.parametrize("option", ["rce_kd", "bidirectional", "dcd"])
def test_a_graph_is_walked_once_a_look(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module_kit.MODELS, "ranking", ("mf", "lightgcn"))
    monkeypatch.setattr(ranked_lists, "portions", parts)
    module = module_of("ranking", {option: make(option)})
    calls = counted(monkeypatch, LightGCN, "_propagate")
    module.start_epoch(0)
    assert calls == [module.model]


def test_towers_are_asked_once_for_all_stored_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(signals, "portions", parts)
    model, _ = model_of("ranking", "teacher", "two_tower", module_kit.Board())
    calls = counted(monkeypatch, TwoTower, "vectors")
    compute_signals(model.eval(), board().train, Needs(top_k=5, scores=True), tmp_path)
    assert len(calls) <= 2, "to see how long they are, and for all queries"
