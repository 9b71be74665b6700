"""Losses over sampled negatives against loops over their formulas, under every sampler."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.views import ModelView
from recdistill.errors import InputError
from recdistill.models.base import RankingModel
from recdistill.models.mf import MF
from recdistill.models.popularity import Popularity as PopularityModel
from recdistill.tasks.batches import RankingBatch, RankingEpoch, generator
from recdistill.tasks.objectives import BCE, BPR, CCL, Sampled, SampledSoftmax, bce, ccl, sampled_softmax
from recdistill.tasks.ranking import Ranking
from recdistill.tasks.sampling import Hard, InBatch, Popularity, Sampler, Uniform


def epoch_of(train: Interactions, objective: Sampled, batch_size: int = 9) -> RankingEpoch:
    return Ranking().epoch(train, objective, seed=1, epoch=0, batch_size=batch_size, queries=4)


def loss_of(objective: Sampled, model: RankingModel, batch: RankingBatch, train: Interactions) -> Tensor:
    return objective(model, batch, ModelView(model, batch.query, train.csr), generator("cpu", batch.seed))


@pytest.fixture
def model(schema: Schema) -> MF:
    torch.manual_seed(0)
    return MF(schema, dim=4, init_std=1.0)


def cosines(model: MF) -> list[list[float]]:
    return F.cosine_similarity(model.user.weight[:, None], model.item.weight[None], dim=-1).tolist()


def bce_loop(z: list[list[float]], u: int, i: int, others: list[int], _: dict[int, float]) -> float:
    return math.log1p(math.exp(-z[u][i])) + 0.7 * sum(math.log1p(math.exp(z[u][j])) for j in others) / len(others)


def ccl_loop(z: list[list[float]], u: int, i: int, others: list[int], _: dict[int, float]) -> float:
    return 1 - z[u][i] + 3 * sum(max(0.0, z[u][j] - 0.1) for j in others) / len(others)


def softmax_loop(z: list[list[float]], u: int, i: int, others: list[int], q: dict[int, float]) -> float:
    total = math.exp(z[u][i]) + sum(math.exp(z[u][j]) / (len(others) * q[j]) for j in others)
    return math.log(total) - z[u][i]


def corrected_loop(z: list[list[float]], u: int, i: int, others: list[int], q: dict[int, float]) -> float:
    """As Yi et al. write it: every score minus the logarithm of its item's probability."""
    s = {j: z[u][j] - math.log(q[j]) for j in {i, *others}}
    return math.log(math.exp(s[i]) + sum(math.exp(s[j]) for j in others)) - s[i]


LOSSES: dict[str, tuple[Callable[..., Sampled], Callable[..., float]]] = {
    "bce": (lambda **more: BCE(weight=0.7, **more), bce_loop),
    "ccl": (lambda **more: CCL(margin=0.1, weight=3.0, **more), ccl_loop),
    "softmax": (lambda **more: SampledSoftmax(**more), softmax_loop),
    "corrected": (lambda **more: SampledSoftmax(correction="all", **more), corrected_loop),
}


@pytest.mark.parametrize("sampler", [Uniform(), Popularity(0.5)])
@pytest.mark.parametrize("name", LOSSES)
def test_own_negatives_are_the_loop(name: str, sampler: Sampler, model: MF, train: Interactions) -> None:
    make, loop = LOSSES[name]
    objective = make(negatives=5, sampler=sampler)
    batch = epoch_of(train, objective).batch(0)
    z = cosines(model) if name == "ccl" else model.scores(torch.arange(train.n_users)).tolist()
    weight = torch.bincount(train.item, minlength=train.n_items).double() ** sampler.power
    terms = []
    for u, i, others in zip(batch.user.tolist(), batch.item.tolist(), batch.negative.tolist(), strict=True):
        left = weight.clone()
        left[train.item[train.user == u]] = 0
        q = dict(enumerate((weight / left.sum()).tolist()))
        terms.append(loop(z, u, i, others, q))
    assert loss_of(objective, model, batch, train).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def without_itself(loop: Callable[..., float], name: str, z: list[list[float]], u: int, i: int, others: list[int],
                   q: dict[int, float], drawn: int) -> float:  # fmt: skip
    """The loop where a negative that is the positive does not count, in a mean over all that were drawn."""
    kept = [j for j in others if j != i]
    if name == "softmax":
        total = math.exp(z[u][i]) + sum(math.exp(z[u][j]) / (drawn * q[j]) for j in kept)
        return math.log(total) - z[u][i]
    if name == "corrected":
        return loop(z, u, i, kept, q)
    if name == "bce":
        return math.log1p(math.exp(-z[u][i])) + 0.7 * sum(math.log1p(math.exp(z[u][j])) for j in kept) / len(others)
    return 1 - z[u][i] + 3 * sum(max(0.0, z[u][j] - 0.1) for j in kept) / len(others)


@pytest.mark.parametrize("sampler", [Uniform(), Popularity(0.5), InBatch()])
@pytest.mark.parametrize("name", LOSSES)
def test_negatives_of_a_step_are_the_loop(name: str, sampler: Sampler, model: MF, train: Interactions) -> None:
    make, loop = LOSSES[name]
    objective = make(shared=40, sampler=sampler)
    batch = epoch_of(train, objective).batch(0)
    z = cosines(model) if name == "ccl" else model.scores(torch.arange(train.n_users)).tolist()
    weight = torch.bincount(train.item, minlength=train.n_items).double() ** sampler.power
    q = dict(enumerate((weight / weight.sum()).tolist()))
    assert batch.proposal is not None
    drawn = batch.proposal.draw(40, generator("cpu", batch.seed)).tolist()
    others, count = (batch.item.tolist(), len(batch.item) - 1) if sampler.in_batch else (drawn, 40)
    terms = [
        without_itself(loop, name, z, u, i, others, q, count)
        for u, i in zip(batch.user.tolist(), batch.item.tolist(), strict=True)
    ]
    assert loss_of(objective, model, batch, train).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_all_items_as_negatives_are_the_full_softmax(temperature: float, model: MF, train: Interactions) -> None:
    class All(Uniform):
        def proposal(self, train: Interactions):  # type: ignore[no-untyped-def]
            proposal = super().proposal(train)
            proposal.draw = lambda count, _: torch.arange(count)  # type: ignore[method-assign]
            return proposal

    objective = SampledSoftmax(shared=train.n_items, temperature=temperature, sampler=All())
    batch = epoch_of(train, objective).batch(0)
    z = model.scores(batch.user) / temperature
    full = F.cross_entropy(z, batch.item)
    torch.testing.assert_close(loss_of(objective, model, batch, train), full)
    gradients = [torch.autograd.grad(loss, model.item.weight, retain_graph=True)[0]
                 for loss in (loss_of(objective, model, batch, train), full)]  # fmt: skip
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("sampler", [Uniform(), Popularity(1.0)])
def test_the_correction_estimates_the_full_sum(sampler: Sampler, model: MF, train: Interactions) -> None:
    """Many negatives, whatever their distribution, come near the full softmax; uncorrected popular ones do not."""
    many = 200_000
    batch = epoch_of(train, SampledSoftmax(shared=1, sampler=sampler)).batch(0)
    full = F.cross_entropy(model.scores(batch.user), batch.item).item()
    estimate = loss_of(SampledSoftmax(shared=many, sampler=sampler), model, batch, train).item()
    assert estimate == pytest.approx(full, rel=0.01)
    plain = loss_of(SampledSoftmax(shared=many, sampler=sampler, correction="none"), model, batch, train).item()
    assert plain > full + 1


@pytest.mark.parametrize("kind", [BPR, BCE])
def test_hard_negatives_are_the_highest_of_their_candidates(
    kind: type[Sampled], model: MF, train: Interactions
) -> None:
    objective = kind(negatives=2, sampler=Hard(candidates=3), l2=0.1)
    batch = epoch_of(train, objective).batch(0)
    assert batch.negative.shape == (len(batch.user), 6)
    scores = model.scores(batch.user, batch.negative).view(-1, 2, 3)
    best = batch.negative.view(-1, 2, 3).gather(-1, scores.argmax(-1, keepdim=True)).squeeze(-1)
    chosen = RankingBatch(**{**vars(batch), "negative": best})
    expected = loss_of(kind(negatives=2, l2=0.1), model, chosen, train)
    torch.testing.assert_close(loss_of(objective, model, batch, train), expected)
    one = kind(negatives=2, sampler=Hard(candidates=1))
    torch.testing.assert_close(loss_of(one, model, chosen, train), loss_of(kind(negatives=2), model, chosen, train))


def test_hard_shared_negatives_are_no_positives(model: MF, train: Interactions) -> None:
    objective = BPR(shared=4, sampler=Hard(candidates=30))
    batch = epoch_of(train, objective).batch(0)
    assert batch.proposal is not None
    drawn = batch.proposal.draw(120, generator("cpu", batch.seed)).view(4, 30).tolist()
    z = model.scores(torch.arange(train.n_users)).tolist()
    terms = [
        math.log1p(math.exp(max(z[u][j] for j in group if j != i) - z[u][i]))
        for u, i in zip(batch.user.tolist(), batch.item.tolist(), strict=True)
        for group in drawn
    ]
    assert loss_of(objective, model, batch, train).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_they_pass_gradcheck_and_survive_what_is_left_out() -> None:
    torch.manual_seed(1)
    positive = torch.randn(4, dtype=torch.float64, requires_grad=True)
    negative = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    losses = (bce, sampled_softmax, lambda x, y: ccl(x, y, 0.1, 2.0))
    for loss in losses:
        assert torch.autograd.gradcheck(loss, (positive, negative))
        hidden = negative.masked_fill(torch.ones(4, 3, dtype=torch.bool), -torch.inf)
        value = loss(positive, hidden)
        for gradient in torch.autograd.grad(value, (positive, negative)):
            assert bool(gradient.isfinite().all())
        assert value.item() == pytest.approx(loss(positive, torch.full((4, 3), -1e9, dtype=torch.float64)).item())


CASES = [
    (kind, form, sampler)
    for kind, form, sampler in product(
        (BPR, BCE, CCL, SampledSoftmax),
        ({"negatives": 3}, {"shared": 20}),
        (Uniform(), Popularity(), InBatch(), Hard()),
    )
    if not (kind is SampledSoftmax and isinstance(sampler, Hard))
]


@pytest.mark.parametrize(("kind", "form", "sampler"), CASES)
def test_shares_give_the_gradient_of_one_process(
    kind: type[Sampled], form: dict[str, int], sampler: Sampler, schema: Schema, train: Interactions
) -> None:
    torch.manual_seed(0)
    model = MF(schema, dim=4, init_std=1.0).double()
    objective = kind(**form, sampler=sampler)
    plan = epoch_of(train, objective, batch_size=5)
    loss_of(objective, model, plan.batch(0), train).backward()
    expected = model.item.weight.grad
    model.item.weight.grad = None
    for rank in range(7):  # more processes than samples
        share = plan.batch(0, rank, 7)
        (share.weight * loss_of(objective, model, share, train) / 7).backward()
    torch.testing.assert_close(model.item.weight.grad, expected, rtol=1e-5, atol=1e-6)


def test_what_can_t_go_together_is_refused(schema: Schema, train: Interactions) -> None:
    with pytest.raises(InputError, match="hard negatives"):
        SampledSoftmax(sampler=Hard())
    SampledSoftmax(sampler=Hard(), correction="none")
    objective = CCL()
    with pytest.raises(InputError, match="Popularity has none"):
        loss_of(objective, PopularityModel(schema), epoch_of(train, objective).batch(0), train)


def test_in_batch_negatives_replace_the_others() -> None:
    assert BPR(negatives=3, shared=5, sampler=InBatch()).negatives == 0
    assert BPR(negatives=3, shared=5).negatives == 0
    assert BPR(negatives=3, sampler=Hard()).negatives == 3


def test_a_unit_model_scores_by_the_cosine(schema: Schema) -> None:
    torch.manual_seed(0)
    model = MF(schema, dim=4, init_std=3.0, normalise=True)
    torch.testing.assert_close(model.scores(torch.arange(schema.n_users)), torch.tensor(cosines(model)))
    biased = MF(schema, dim=4, normalise=True, item_bias=True)
    assert biased.bias is not None
    with torch.no_grad():
        biased.bias.copy_(torch.arange(schema.n_items))
    expected = torch.tensor(cosines(biased)) + biased.bias
    torch.testing.assert_close(biased.scores(torch.arange(schema.n_users)), expected)
