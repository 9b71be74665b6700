"""Every distiller, by every task that it declares, through the distillation module; and two and three at once."""

from __future__ import annotations

import math
from functools import reduce
from operator import or_
from typing import Any

import pytest
import torch
from contract_kit import files
from module_kit import MODELS, beside, make, module_of, steps

from recdistill.distillers.signals import compute_signals
from recdistill.distillers.stored import StoredTeacher
from recdistill.distillers.teacher import LiveTeacher
from recdistill.errors import InputError

PAIRS = [(option, task) for option in files("distiller") if option != "none" for task in make(option).tasks]


@pytest.mark.parametrize(("option", "task"), PAIRS)
def test_every_task_that_it_declares(option: str, task: str) -> None:
    module = module_of(task, beside(option))
    found = steps(module)
    assert all(math.isfinite(value) for terms in found for value in terms.values())
    assert set(found[0]) == {module.objective.name, *module.soft}
    module.sums = found[0]
    weight = 0.5 * module.soft[option].weight
    logged = module.step_facts(found[0])
    assert logged[f"{option}.weighted"] == pytest.approx(weight * found[0][option])
    assert module.training, "looking something up has left the student in eval mode"
    for name, parameter in module.named_parameters():
        assert bool(parameter.isfinite().all()), name


@pytest.mark.parametrize(("option", "task"), PAIRS)
def test_stored_is_live(option: str, task: str, tmp_path: Any) -> None:
    module = module_of(task, beside(option))
    live = module.teacher
    assert isinstance(live, LiveTeacher)
    needs = reduce(or_, (distiller.needs() for distiller in module.soft.values()))
    queries = module.task.queries(module.train_part)
    compute_signals(live.model, module.train_part, needs, tmp_path, ask=module.task.view, queries=queries)
    stored = module_of(task, beside(option))
    stored.teacher = StoredTeacher(tmp_path)
    assert stored.teacher.widths() == live.widths()
    for mine, other in zip(steps(module), steps(stored), strict=True):
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-5)


def test_several_at_once() -> None:
    names = ("soft_label", "topk_kl", "hint")
    found = steps(module_of("ranking", {name: make(name) for name in names}))
    for name in names:
        alone = steps(module_of("ranking", {name: make(name)}), 1)
        # Which items are drawn depends on who drew before.
        assert found[0][name] == pytest.approx(alone[0][name], rel=0.3), name


def test_alpha_and_temperature_follow_their_schedules() -> None:
    from recdistill.distillers.response import SoftLabel
    from recdistill.distillers.schedules import Cosine, Linear

    soft = SoftLabel(temperature=Cosine(4.0, 1.0))
    module = module_of("ranking", {"soft_label": soft}, alpha=Linear(1.0, 0.0))
    assert module.coefficients == {module.objective.name: 0.0, "soft_label": 1.0}
    module.advance(0.25)
    assert module.coefficients == pytest.approx({module.objective.name: 0.25, "soft_label": 0.75})
    assert soft.temperature == pytest.approx(4 - 3 * (1 - math.cos(math.pi / 4)) / 2)
    logged = module.step_facts({module.objective.name: 2.0, "soft_label": 3.0})
    assert logged["alpha"] == 0.75
    assert logged["soft_label.temperature"] == soft.temperature


def test_what_is_logged_under_a_schedule_adds_up_to_the_loss() -> None:
    from recdistill.distillers.schedules import Steps

    module = module_of("ranking", {"soft_label": make("soft_label")}, alpha=Steps([0.0, 1.0], [0.5]))
    for progress, hard in ((0.25, 1.0), (0.75, 0.0)):
        module.advance(progress)
        logged = module.step_facts({"loss": 0.0, module.objective.name: 2.0, "soft_label": 3.0})
        assert logged == {f"{module.objective.name}.weighted": 2.0 * hard, "soft_label.weighted": 3.0 * (1 - hard),
                          "alpha": 1 - hard}  # fmt: skip


@pytest.mark.parametrize("task", MODELS)
def test_weights_that_are_all_one_change_nothing(task: str) -> None:
    """Bit for bit: asking first what the factors are must not take the student's gradients away."""
    from recdistill.distillers.weighting import Gap

    grads = []
    for weighting in (None, Gap(k=6, power=0.0)):
        module = module_of(task, {"soft_label": make("soft_label")}, weighting=weighting)
        plan = module.task.epoch(module.train_part, module.objective, seed=1, epoch=0, batch_size=64, queries=16)
        torch.manual_seed(0)
        module.loss_terms(plan.batch(0))["soft_label"].backward()
        grads.append([p.grad for p in module.model.parameters()])
    for mine, other in zip(*grads, strict=True):
        assert (mine is None) == (other is None)
        assert mine is None or torch.equal(mine, other)


def test_a_regulariser_alone_is_no_distillation() -> None:
    with pytest.raises(InputError, match="teaches nothing by itself"):
        module_of("ctr", {"entropy": make("entropy")})


def test_weights_of_queries_move_the_loss_between_them() -> None:
    from recdistill.distillers.weighting import Gap

    plain = steps(module_of("ctr", {"soft_label": make("soft_label")}), 1)[0]
    module = module_of("ctr", {"soft_label": make("soft_label")}, weighting=Gap())
    weighted = steps(module, 1)[0]
    assert weighted["soft_label"] > plain["soft_label"], "where the gap is wide the loss is high"
    assert module.noted["weighting.sd"] > 0


def test_ratings_are_weighted_by_their_gaps_and_by_closeness() -> None:
    """The loss of a step by a loop over its rows, whose factors have mean 1."""
    from recdistill.distillers.weighting import Adaptive, Gap
    from recdistill.models.bridges import Reach

    rows = len(module_of("rating", {"soft_label": make("soft_label")}).train_part)
    close = torch.rand(rows, generator=torch.Generator().manual_seed(3))
    reach = Reach(torch.ones(rows, dtype=torch.bool), None, close)
    for weighting in (Gap(power=2.0), Adaptive()):
        module = module_of("rating", {"soft_label": make("soft_label")}, weighting=weighting, reach=reach)
        plan = module.task.epoch(module.train_part, module.objective, seed=1, epoch=0, batch_size=64, queries=16)
        batch = plan.batch(0)
        module.model.eval()  # without dropout, so that both sides see the same numbers
        views = module.teacher.view(batch.query), module.look(module.model, batch.query)
        gaps = [(t - s) ** 2 / 2 for t, s in zip(*(view.scores().double().flatten().tolist() for view in views),
                                                 strict=True)]  # fmt: skip
        factors = [gap**2 for gap in gaps] if isinstance(weighting, Gap) else close[batch.query].double().tolist()
        expected = sum(f * gap for f, gap in zip(factors, gaps, strict=True)) / sum(factors)
        assert module.loss_terms(batch)["soft_label"].item() == pytest.approx(expected, rel=1e-4)
        assert module.noted["weighting.sd"] > 0


def test_what_cannot_be_weighted_is_refused() -> None:
    from recdistill.distillers.weighting import Confidence, Entropy

    with pytest.raises(InputError, match="can't be weighted"):
        module_of("ranking", {"hint": make("hint")}, weighting=Confidence())
    with pytest.raises(InputError, match="no distiller whose queries"):
        module_of("ranking", {}, weighting=Confidence())
    for kind in (Confidence, Entropy):
        with pytest.raises(InputError, match="which a rating has not") as caught:
            module_of("rating", {"soft_label": make("soft_label")}, weighting=kind())
        assert "weighting=gap" in str(caught.value.fix)


@pytest.mark.parametrize(("where", "start"), [("temperature", 0.0), ("weight", -1.0)])
def test_a_schedule_that_leaves_the_range_is_refused(where: str, start: float) -> None:
    from recdistill.distillers.response import SoftLabel
    from recdistill.distillers.schedules import Linear

    with pytest.raises(InputError, match="schedule goes from"):
        module_of("ranking", {"soft_label": SoftLabel(**{where: Linear(start, 1.0)})})
