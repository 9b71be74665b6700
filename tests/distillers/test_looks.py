"""When a distiller looks at the student's lists again, whose scores under the teacher it keeps until then."""

from __future__ import annotations

import pytest
import torch
from distiller_parts import make_mf
from list_parts import ready

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.base import Distiller
from recdistill.distillers.discrepancy import RCEKD
from recdistill.distillers.positions import CD
from recdistill.models.base import FactorModel


@pytest.mark.parametrize("make", [lambda: RCEKD(k=3, pool=5, every=4), lambda: CD(3, 5, guide="student", every=4)])
def test_kept_scores_follow_a_teacher_that_learns(
    make, student: FactorModel, teacher: FactorModel, train: Interactions
) -> None:
    later, scores = make_mf(Schema(12, 17), 31), []
    for changes, epoch in ((False, 1), (True, 1), (False, 4)):
        distiller: Distiller = make()
        ready(distiller, student, teacher, train)
        first = distiller.lists.scores.clone()  # type: ignore[union-attr,operator]
        ready(distiller, student, later, train, epoch=epoch, teacher_changes=changes)
        scores.append((first, distiller.lists.scores.clone()))  # type: ignore[union-attr,operator]
    (first, still), (_, followed), (_, in_time) = scores
    assert torch.equal(first, still), "a teacher that does not learn is asked every few epochs"
    assert torch.equal(followed, in_time)
    assert not torch.equal(first, followed)
