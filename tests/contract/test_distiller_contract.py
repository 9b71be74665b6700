"""Every distiller through the same trials."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from contract_kit import (
    USERS,
    all_scores,
    board,
    check_header,
    distil,
    every,
    good_mf,
    node,
    problems,
    ready,
    recovery,
    soft_loss,
)

from recdistill.distillers.base import Distiller, Needs
from recdistill.distillers.signals import check_needs, compute_signals
from recdistill.distillers.stored import StoredTeacher
from recdistill.distillers.teacher import LiveTeacher
from recdistill.models.build import instantiate
from recdistill.models.mf import MF


def make(option: str) -> Distiller:
    distiller = instantiate(node("distiller", option)[option])
    assert isinstance(distiller, Distiller)
    if "ranking" not in distiller.tasks:
        pytest.skip("not for ranking; test_distiller_tasks.py has it")
    return distiller


def new_student() -> MF:
    torch.manual_seed(3)
    return MF(board().schema, dim=6, init_std=0.1)


@every("distiller")
class TestDistiller:
    def test_composes_and_binds(self, option: str) -> None:
        check_header("distiller", option)
        assert problems("distiller", option) == []
        assert list(node("distiller", option)) == [option], "one key, named as the file, so that lists merge"

    def test_asks_for_what_a_teacher_can_give(self, option: str) -> None:
        distiller = make(option)
        needs = distiller.needs()
        assert needs != Needs() or not distiller.teaches, "what needs nothing of the teacher teaches nothing"
        check_needs(good_mf(), needs, board().train.n_users)

    def test_brings_the_student_towards_the_teacher(self, option: str) -> None:
        distiller, student, teacher = make(option), new_student(), LiveTeacher(good_mf(), board().train)
        weights = {name: tensor.clone() for name, tensor in teacher.model.state_dict().items()}
        losses = distil(distiller, student, teacher, 40)
        assert all(abs(loss) < 1e6 for loss in losses)
        assert sum(losses[-5:]) < sum(losses[:5])
        needs = distiller.needs()
        if distiller.teaches and (needs.top_k or needs.scores):
            # Not all of it: without the hard loss, a list that is longer than a block goes on with the
            # others.
            assert recovery(all_scores(student)) > 0.8
        assert all(torch.equal(weights[name], tensor) for name, tensor in teacher.model.state_dict().items())

    def test_stored_signals_are_enough_and_the_same(self, option: str, tmp_path: Path) -> None:
        distiller, users = make(option), torch.tensor([5, 0, 31])
        compute_signals(good_mf(), board().train, distiller.needs(), tmp_path)
        student, values = new_student(), []
        live, stored = LiveTeacher(good_mf(), board().train), StoredTeacher(tmp_path)
        ready(distiller, student, live)
        for teacher in (live, stored):
            values.append(soft_loss(distiller, student, teacher, users).item())
        assert values[0] == pytest.approx(values[1], rel=1e-5, abs=1e-6)

    def test_reaches_every_weight_and_draws_from_its_generator_alone(self, option: str) -> None:
        distiller, student, teacher = make(option), new_student(), LiveTeacher(good_mf(), board().train)
        ready(distiller, student, teacher)
        users, values = torch.arange(USERS), []
        state = torch.get_rng_state()
        for _ in range(2):
            values.append(soft_loss(distiller, student, teacher, users))
        assert torch.equal(torch.get_rng_state(), state)
        assert values[0].dim() == 0
        assert torch.equal(*values)
        values[0].backward()
        for name, parameter in [*student.named_parameters(), *distiller.named_parameters()]:
            assert parameter.grad is not None, name
            assert bool(parameter.grad.isfinite().all()), name
            assert bool((parameter.grad != 0).any()), name
        assert all(p.grad is None for p in teacher.model.parameters())

    def test_is_a_mean_over_users(self, option: str) -> None:
        """Twice the same users: the same loss, so that a weight does not depend on the batch size."""
        distiller, student, teacher = make(option), new_student(), LiveTeacher(good_mf(), board().train)
        ready(distiller, student, teacher)
        values = []
        for repeats in (1, 20):
            users = torch.arange(USERS).repeat(repeats)
            values.append(soft_loss(distiller, student, teacher, users).item())
        assert values[0] == pytest.approx(values[1], rel=0.1)
