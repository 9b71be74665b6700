"""The auxiliary task: classes, the loss in plain Python, what is held out, and that training events alone are read."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from distiller_parts import make_mf
from list_parts import ready, views
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor

from recdistill.data.features import Features
from recdistill.data.interactions import Interactions, Schema
from recdistill.data.withheld import with_labels
from recdistill.distillers.base import Moment, Setting
from recdistill.distillers.sentiment import MOST, AuxSentiment, mean_recall, sentiment_of
from recdistill.distillers.views import ModelView
from recdistill.errors import InputError
from recdistill.models.base import FactorModel
from recdistill.tasks.batches import generator

STARS = torch.tensor([1.0, 2.0, 2.5, 3.0, 4.0, 5.0, torch.nan])


def with_stars(train: Interactions) -> Interactions:
    return replace(train, value=STARS[torch.arange(len(train)) % len(STARS)])


def value_of(distiller: AuxSentiment, student: FactorModel, train: Interactions, seed: int = 1) -> Tensor:
    users = torch.tensor([2, 0])
    frozen = copy.deepcopy(student)  # a teacher, of whom nothing is asked
    loss: Tensor = distiller(*views(student, frozen, train, users), generator("cpu", seed))
    return loss


def test_stars_are_classes() -> None:
    assert sentiment_of(STARS, 2.0, 4.0).tolist() == [0, 0, 1, 1, 2, 2, -1]
    assert sentiment_of(STARS, -0.5, 2.75).tolist() == [1, 1, 1, 2, 2, 2, -1]


@pytest.mark.parametrize("seed", range(5))
def test_mean_recall_is_that_of_another_library(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label, said = rng.permutation([0, 1, 2] * 9 + [1] * 4), rng.integers(0, 3, 31)
    found = mean_recall(torch.from_numpy(said), torch.from_numpy(label)).item()
    assert found == pytest.approx(balanced_accuracy_score(label, said))


def test_the_loss_is_the_loop(student: FactorModel, train: Interactions) -> None:
    train = with_stars(train)
    distiller = AuxSentiment(rows=50)
    torch.manual_seed(0)
    ready(distiller, student, copy.deepcopy(student), train)
    drawn = torch.randint(distiller.kept, len(distiller.label), (50,), generator=generator("cpu", 1)).tolist()
    user, item = (factor.double() for factor in student.factors())
    weight, bias = (p.double() for p in distiller.classifier.parameters())
    stars = {(u, i): v for u, i, v in zip(train.user.tolist(), train.item.tolist(), train.value.tolist(), strict=True)}  # type: ignore[union-attr]
    terms = []
    for n in drawn:
        u, i = int(distiller.user[n]), int(distiller.item[n])
        x = [*(user[u] * item[i]).tolist(), *user[u].tolist(), *item[i].tolist()]
        z = [sum(a * b for a, b in zip(row, x, strict=True)) + c
             for row, c in zip(weight.tolist(), bias.tolist(), strict=True)]  # fmt: skip
        label = 0 if stars[u, i] <= 2 else 2 if stars[u, i] >= 4 else 1
        terms.append(math.log(sum(map(math.exp, z))) - z[label])
    assert value_of(distiller, student, train).item() == pytest.approx(sum(terms) / 50, rel=1e-5)


def test_what_is_held_out_is_measured_and_not_learned(student: FactorModel, train: Interactions) -> None:
    """Another sentiment of what is held out changes the figures, and no loss."""
    train, found = with_stars(train), []
    for turned in (False, True):
        distiller = AuxSentiment(rows=500)
        torch.manual_seed(0)
        distiller.prepare(Setting(4, 4, train=train, queries=train.n_users))
        assert distiller.kept == round(0.1 * int(train.value.isfinite().sum()))  # type: ignore[union-attr]
        if turned:
            distiller.label[: distiller.kept] = (distiller.label[: distiller.kept] + 1) % 3
        distiller.start_epoch(_moment(student, train))
        label = distiller.label[: distiller.kept]
        u, i = distiller.user[: distiller.kept], distiller.item[: distiller.kept]
        p, q = (factor[at] for factor, at in zip(student.factors(), (u, i), strict=True))
        said = distiller.classifier(torch.cat([p * q, p, q], 1)).argmax(1)
        noted = distiller.advance(0.5)
        assert noted["accuracy"] == pytest.approx((said == label).float().mean().item())
        assert "measured" in distiller.state_dict(), "a training that goes on needs them"
        found.append((value_of(distiller, student, train).item(), noted))
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]


def _moment(student: FactorModel, train: Interactions) -> Moment:
    def answer(users: Tensor) -> ModelView:
        return ModelView(student, users, train.csr)

    return Moment(0, 1, train.n_users, answer, answer, generator("cpu", 0))


def test_it_finds_what_items_are_liked() -> None:
    """Users take good and bad items alike, so that no ranking tells them apart: of pairs that it never saw."""
    rng = torch.Generator().manual_seed(0)
    user, item = torch.randint(80, (1500,), generator=rng), torch.randint(40, (1500,), generator=rng)
    train = Interactions(user, item, 80, 40, 1.0 + 2 * (item % 3))  # 1, 3 or 5 stars
    student, distiller = make_mf(Schema(80, 40), 1), AuxSentiment()
    torch.manual_seed(0)
    ready(distiller, student, copy.deepcopy(student), train)
    before = distiller.advance(0.0)["balanced_accuracy"]
    optimizer = torch.optim.Adam([*student.parameters(), *distiller.parameters()], lr=0.03)
    for step in range(150):
        optimizer.zero_grad()
        value_of(distiller, student, train, step).backward()
        optimizer.step()
    distiller.start_epoch(_moment(student, train))
    assert before < 0.6
    assert distiller.advance(1.0)["balanced_accuracy"] > 0.9


def test_a_score_of_the_text_instead_of_stars(train: Interactions) -> None:
    score = torch.linspace(-1, 1, len(train))
    train = replace(train, context=Features(numeric={"polarity": score}))
    distiller = AuxSentiment("polarity", -0.2, 0.2)
    distiller.prepare(Setting(4, 4, train=train, queries=train.n_users))
    counts = torch.bincount(distiller.label, minlength=3).tolist()
    assert counts == [
        int((score <= -0.2).sum()),
        int(((score > -0.2) & (score < 0.2)).sum()),
        int((score >= 0.2).sum()),
    ]


def test_of_a_large_log_few_are_held_out() -> None:
    n = 12 * MOST
    train = Interactions(torch.zeros(n).long(), torch.zeros(n).long(), 1, 1, torch.ones(n))
    distiller = AuxSentiment()
    distiller.prepare(Setting(4, 4, train=train, queries=1))
    assert distiller.kept == MOST


@pytest.mark.parametrize("score", [None, "polarity"])
def test_no_labels_are_another_thing_than_no_ratings(train: Interactions, score: str | None) -> None:
    rated = replace(with_stars(train), context=Features(numeric={"polarity": torch.ones(len(train))}))
    bare = replace(rated, value=None, context=Features())
    for whole, where in ((rated, "data.label_fraction"), (bare, "distiller.aux_sentiment.score")):
        with pytest.raises(InputError) as error:
            AuxSentiment(score).prepare(Setting(4, 4, train=few_labels(whole)))
        assert error.value.where == where
        assert ("of which there are none" in error.value.what) == (whole is rated)


def few_labels(train: Interactions) -> Interactions:
    """What is taught of it at data.label_fraction=0."""
    return with_labels(train, 0.0, 1).taught  # type: ignore[no-any-return]


@pytest.mark.parametrize(("score", "said"), [(None, "has no ratings"), ("mood", "has no numeric feature 'mood'")])
def test_what_is_missing_is_said(train: Interactions, score: str | None, said: str) -> None:
    with pytest.raises(InputError) as error:
        AuxSentiment(score).prepare(Setting(4, 4, train=train))
    assert said in error.value.what
    with pytest.raises(InputError, match="needs a student with user and item vectors"):
        AuxSentiment(score).prepare(Setting(0, 4, train=with_stars(train)))
    with pytest.raises(InputError):
        AuxSentiment().prepare(Setting(4, 4, train=replace(train, value=torch.full((len(train),), torch.nan))))
    with pytest.raises(ValueError, match="low=4 must be below high=4"):
        AuxSentiment(low=4)
