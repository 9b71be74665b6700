"""Every model, teacher, student, baseline and hard loss through the same trials."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from answers_kit import serving
from contract_kit import (
    ITEMS,
    USERS,
    all_scores,
    board,
    check_header,
    compose_option,
    every,
    files,
    fitted,
    is_personal,
    node,
    problems,
    recovery,
    train_model,
)

from recdistill.config.gate import leaves
from recdistill.data.csr import Csr
from recdistill.export.bundle import load_model, save_model
from recdistill.models.base import ClosedFormModel, FactorModel, RankingModel, VectorModel, vector_size
from recdistill.models.build import build, instantiate
from recdistill.models.dot import dot_scores
from recdistill.models.fit import Fit
from recdistill.stages.nodes import target_of
from recdistill.stages.tune import combinations
from recdistill.tasks.objectives import Objective

RECOVERED = 0.9


@cache
def learned(option: str) -> RankingModel:
    return fitted_anew(option)


def fitted_anew(option: str) -> RankingModel:
    return fitted(node("model", option), steps=3 if option.endswith("_large") else 60)


@pytest.mark.parametrize("option", serving("model", "ranking"))
class TestModel:
    def test_composes_and_binds(self, option: str) -> None:
        check_header("model", option)
        assert problems("model", option) == []
        assert isinstance(build(node("model", option), board().schema), RankingModel)

    def test_finds_the_blocks(self, option: str) -> None:
        model = learned(option)
        scores = all_scores(model)
        assert bool(scores.isfinite().all())
        if option.endswith("_large"):
            pytest.skip("slow, and the other sizes learn")
        if is_personal(model):
            assert recovery(scores) > RECOVERED
        else:  # the same for everybody: then by how many have the item
            count = torch.bincount(board().train.item, minlength=ITEMS).float()
            assert torch.corrcoef(torch.stack([scores[0], count]))[0, 1] > RECOVERED

    def test_scores_have_their_shapes_and_agree(self, option: str) -> None:
        model = learned(option)
        users, shared = torch.tensor([7, 0, 7, 59]), torch.tensor([3, 199, 3])
        own = torch.randint(ITEMS, (4, 5), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            full = model.scores(users)
            assert full.shape == (4, ITEMS)
            assert torch.is_floating_point(full)
            close: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-4}
            torch.testing.assert_close(model.scores(users, shared), full[:, shared], **close)
            torch.testing.assert_close(model.scores(users, own), full.gather(1, own), **close)

    def test_a_batch_is_its_users_one_by_one(self, option: str) -> None:
        model, users = learned(option), torch.tensor([7, 0, 7, 59])
        with torch.no_grad():
            batch = model.scores(users)
            single = torch.cat([model.scores(user.unsqueeze(0)) for user in users])
            torch.testing.assert_close(batch, single, atol=1e-5, rtol=1e-4)
            assert torch.equal(model.scores(users), batch)

    def test_its_factors_are_its_scores(self, option: str) -> None:
        model = learned(option)
        if not isinstance(model, VectorModel):
            assert vector_size(model) == 0
            return
        with torch.no_grad():
            user, item = model.vectors()
            assert (len(user), len(item)) == (USERS, ITEMS)
            assert user.shape[1] == item.shape[1] == vector_size(model)
            if isinstance(model, FactorModel):
                torch.testing.assert_close(dot_scores(user, item, torch.arange(USERS)), all_scores(model))

    def test_comes_back_from_disk(self, option: str, tmp_path: Path) -> None:
        model = learned(option)
        save_model(tmp_path, model, node("model", option))
        again = load_model(tmp_path, board().train)
        assert torch.equal(all_scores(again), all_scores(model))
        assert not again.training

    def test_is_a_function_of_the_seed(self, option: str) -> None:
        first, second = learned(option), fitted_anew(option)
        assert torch.equal(all_scores(first), all_scores(second))
        state = torch.get_rng_state()
        second.bind(board().train)
        assert torch.equal(torch.get_rng_state(), state)

    def test_finds_the_blocks_of_users_that_training_lacked(self, option: str) -> None:
        model = learned(option)
        history = board().train.csr
        with torch.no_grad():
            scores = model.fold_in(history)
            one = model.fold_in(history.take(torch.tensor([7])))
        assert scores.shape == (USERS, ITEMS)
        torch.testing.assert_close(one[0], scores[7], atol=1e-5, rtol=1e-4)
        assert recovery(scores) > RECOVERED or not is_personal(model) or option.endswith("_large")

    def test_takes_a_user_of_whom_nothing_is_known(self, option: str) -> None:
        model = learned(option)
        nothing = torch.empty(0, dtype=torch.int64)
        with torch.no_grad():
            scores = model.fold_in(Csr.from_pairs(nothing, nothing, 2))
        assert scores.shape == (2, ITEMS)
        assert bool(scores.isfinite().all())


def check_trainable(where: str, section: dict[str, Any]) -> None:
    """A section with ``net``, ``objective`` and ``fit``."""
    model = build(section["net"], board().schema)
    if isinstance(model, ClosedFormModel):
        assert section["objective"] is None
        assert section["fit"] is None
        model = fitted(section["net"])
    else:
        fit, objective = instantiate(section["fit"]), instantiate(section["objective"])
        assert isinstance(fit, Fit)
        assert isinstance(objective, Objective)
        model = fitted(section["net"], objective, fit)
    assert recovery(all_scores(model)) > RECOVERED or not is_personal(model), where


@pytest.mark.parametrize(
    ("group", "option"), [(group, option) for group in ("teacher", "student") for option in serving(group, "ranking")]
)
class TestRole:
    def test_composes_and_binds(self, group: str, option: str) -> None:
        check_header(group, option)
        assert problems(group, option) == []

    def test_learns_the_blocks_with_its_own_settings(self, group: str, option: str) -> None:
        check_trainable(f"{group}={option}", node(group, option))


@every("baselines")
def test_baseline(option: str) -> None:
    check_header("baselines", option)
    assert problems("baselines", option) == []
    section = node("baselines", option)
    assert list(section) == [option] or option == "standard", "one key, named as the file, so that lists merge"
    for name, baseline in section.items():
        choices = combinations(baseline, f"baselines.{name}")
        ranks = "ranking" in target_of(baseline["net"], option).tasks
        for choice in choices[:: max(1, len(choices) - 1)] if option == name and ranks else []:
            check_trainable(f"baselines={option}", choice)


@pytest.mark.parametrize("option", serving("objective", "ranking"))
class TestObjective:
    def test_composes_and_binds(self, option: str) -> None:
        check_header("objective", option)
        assert problems("objective", option) == []

    def test_teaches_the_blocks(self, option: str) -> None:
        objective = instantiate(node("objective", option))
        assert isinstance(objective, Objective)
        assert objective.name != Objective.name
        torch.manual_seed(0)
        model = build({"_target_": "recdistill.models.mf.MF", "dim": 8, "init_std": 0.1}, board().schema)
        losses = train_model(model, objective, Fit(lr=0.05, batch_size=128), 60)
        assert all(loss == loss for loss in losses)
        assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
        assert recovery(all_scores(model)) > RECOVERED


def test_targets_are_final_classes() -> None:
    for group in ("model", "objective"):
        for option in files(group):
            targets = [value for key, value in leaves(node(group, option), "") if key.endswith("_target_")]
            assert all(target.rpartition(".")[2][0].isupper() for target in targets)


@pytest.mark.parametrize("group", ["model", "teacher", "student", "objective", "baselines", "distiller", "compression"])
def test_a_section_is_what_a_user_gets(group: str) -> None:
    """The kit composes all options of a group at once."""
    option = next(name for name in files(group) if name != "none")
    assert node(group, option) == compose_option(group, option)
