"""Distillation experts, personal maps and assistants: against loops in float64, and at their limits."""

from __future__ import annotations

import math

import pytest
import torch
from distiller_parts import make_mf
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.base import Distiller, Setting
from recdistill.distillers.experts import (
    DE,
    PHR,
    Assistants,
    ExpertMixture,
    PersonalMap,
    TeacherAssistants,
    gumbel_softmax,
    sizes_between,
)
from recdistill.distillers.teacher import LiveTeacher
from recdistill.distillers.views import ModelView
from recdistill.errors import InputError
from recdistill.models.base import FactorModel
from recdistill.tasks.batches import generator

N, STUDENT, TEACHER, M = 4, 3, 5, 6


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def new(kind: type, *arguments: object) -> torch.nn.Module:
    torch.manual_seed(0)
    module: torch.nn.Module = kind(*arguments)
    return module.double()


def affine(x: list[float], weight: list[list[float]], bias: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(x, row, strict=True)) + c for row, c in zip(weight, bias, strict=True)]


def relu(x: list[float]) -> list[float]:
    return [max(value, 0.0) for value in x]


def softmax(z: list[float]) -> list[float]:
    e = [math.exp(value - max(z)) for value in z]
    return [value / sum(e) for value in e]


def mixture_loop(
    m: ExpertMixture, s: list[float], t: list[float], noise: list[float], temperature: float
) -> list[float]:
    """Σ_m s_m E_m(e_s), one expert after another."""
    hidden = m.second.shape[1]
    log_p = [math.log(p) for p in softmax(affine(t, m.selector.weight.tolist(), m.selector.bias.tolist()))]
    shares = softmax([(a + g) / temperature for a, g in zip(log_p, noise, strict=True)])
    total = [0.0] * len(t)
    for k, share in enumerate(shares):
        own = slice(k * hidden, (k + 1) * hidden)
        inner = relu(affine(s, m.first.weight[own].tolist(), m.first.bias[own].tolist()))
        outer = affine(inner, m.second[k].T.tolist(), m.bias[k].tolist())
        total = [a + share * b for a, b in zip(total, outer, strict=True)]
    return total


@pytest.mark.parametrize("temperature", [1.0, 0.1, 1e-10])
def test_experts_are_the_loop(temperature: float) -> None:
    mixture, s, t = new(ExpertMixture, STUDENT, TEACHER, M), randn(N, STUDENT), randn(N, TEACHER, seed=1)
    assert isinstance(mixture, ExpertMixture)
    found = mixture(s, t, temperature, generator("cpu", 3))
    noise = -torch.empty(N, M, dtype=torch.float64).exponential_(generator=generator("cpu", 3)).log()
    rows = [
        mixture_loop(mixture, *row, temperature) for row in zip(s.tolist(), t.tolist(), noise.tolist(), strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(rows, dtype=torch.float64))


def test_experts_begin_as_separate_layers_do() -> None:
    torch.manual_seed(0)
    mixture = ExpertMixture(40, 60, 30)
    assert mixture.first.weight.abs().max().item() == pytest.approx(40**-0.5, rel=0.01)
    for weight in (mixture.second, mixture.bias):
        assert weight.abs().max().item() == pytest.approx(50**-0.5, rel=0.01)


@given(st.integers(0, 100), st.floats(0.05, 3))
def test_the_choice_of_an_expert(seed: int, temperature: float) -> None:
    z = randn(3, 5, seed=seed)
    shares = gumbel_softmax(z, temperature, generator("cpu", seed))
    torch.testing.assert_close(shares.sum(-1), torch.ones(3, dtype=torch.float64))
    exponential = torch.empty(3, 5, dtype=torch.float64).exponential_(generator=generator("cpu", seed))
    assert torch.equal(shares.argmax(-1), (z.softmax(-1) / exponential).argmax(-1))


def test_a_cold_choice_is_drawn_by_the_softmax() -> None:
    z = torch.tensor([1.0, 0.0, -1.0])
    shares = gumbel_softmax(z.expand(20000, 3), 1e-10, generator("cpu", 1))
    assert bool(((shares == 0) | (shares == 1)).all())
    torch.testing.assert_close(shares.mean(0), z.softmax(-1), atol=0.01, rtol=0)


def test_a_personal_map_is_the_loop() -> None:
    personal, s, t = new(PersonalMap, STUDENT, TEACHER), randn(N, STUDENT), randn(N, TEACHER, seed=1)
    assert isinstance(personal, PersonalMap)
    first, _, second = personal.network
    found = personal(s, t, 1.0, generator("cpu", 1))
    for row, x, y in zip(found.tolist(), s.tolist(), t.tolist(), strict=True):
        inner = relu(affine(y, first.weight.tolist(), first.bias.tolist()))
        entries = affine(inner, second.weight.tolist(), second.bias.tolist())
        expected = [sum(entries[o * STUDENT + i] * x[i] for i in range(STUDENT)) for o in range(TEACHER)]
        assert row == pytest.approx(expected)


@pytest.mark.parametrize("rank", [None, 2])
def test_assistants_are_the_loop(rank: int | None) -> None:
    """W_k(e) e, with W_k(e) written out, of the mean square of e."""
    sizes = [2, 3]
    hyper, t = new(Assistants, TEACHER, sizes, rank), randn(N, TEACHER)
    assert isinstance(hyper, Assistants)
    found = hyper(t)
    parts = hyper.basis.weight.view(-1, sum(sizes), TEACHER)  # A_0, A_1, …
    for number, e in enumerate(t):
        factors = [1.0, *(e if rank is None else hyper.coefficients(e)).tolist()]
        matrix = sum(f * part for f, part in zip(factors, parts, strict=True))
        root = math.sqrt(sum(x * x for x in e.tolist()) / TEACHER)
        for a, raw in zip(found, (matrix @ e).split(sizes), strict=True):
            length = math.sqrt(sum(x * x for x in raw.tolist()) / len(raw))
            assert a[number].tolist() == pytest.approx([x * root / length for x in raw.tolist()])
    assert [a.shape[1] for a in found] == sizes
    assert all(bool((a == 0).all()) for a in hyper(torch.zeros(2, TEACHER, dtype=t.dtype)))


def test_sizes_of_assistants() -> None:
    assert sizes_between(20, 200, 8) == [40, 60, 80, 100, 120, 140, 160, 180]
    assert sizes_between(4, 6, 3) == [4, 5, 5]


def test_gradcheck() -> None:
    s, t = randn(N, STUDENT).requires_grad_(), randn(N, TEACHER, seed=1).requires_grad_()
    mixture, personal = new(ExpertMixture, STUDENT, TEACHER, M), new(PersonalMap, STUDENT, TEACHER)
    hyper = new(Assistants, TEACHER, [2, 3], 2)
    assert torch.autograd.gradcheck(lambda s, t: mixture(s, t, 0.7, generator("cpu", 3)), (s, t))
    assert torch.autograd.gradcheck(lambda s, t: personal(s, t, 1.0, generator("cpu", 3)), (s, t))
    assert torch.autograd.gradcheck(lambda t: torch.cat(hyper(t), 1), (t,))


MAKERS = {
    "de": lambda rows: DE(experts=4, rows=rows),
    "phr": lambda rows: PHR(rows=rows),
    "assistants_phr": lambda rows: TeacherAssistants("phr", assistants=2, rows=rows),
    "assistants_sized": lambda rows: TeacherAssistants("phr", assistants=[5, 2, 3], rows=rows),
    "assistants_de": lambda rows: TeacherAssistants("de", assistants=2, experts=3, rank=None, rows=rows),
}  # fmt: skip


def made(name: str, rows: int = 7) -> Distiller:
    distiller: Distiller = MAKERS[name](rows)
    torch.manual_seed(5)
    distiller.prepare(Setting(4, 6))
    return distiller


def views(
    student: FactorModel, teacher: FactorModel, train: Interactions, users: Tensor
) -> tuple[ModelView, ModelView]:
    live = LiveTeacher(teacher, train).view(users).inner
    assert isinstance(live, ModelView)
    return ModelView(student, users, train.csr), live


def test_de_is_the_mean_of_users_and_items(student: FactorModel, teacher: FactorModel, train: Interactions) -> None:
    distiller, users = made("de"), torch.tensor([3, 1, 4])
    found = distiller(*views(student, teacher, train, users), generator("cpu", 1))
    rng = generator("cpu", 1)
    items = torch.randint(train.n_items, (7,), generator=rng)
    means = []
    for maps, ids, side in zip(distiller.maps, (users, items), (0, 1), strict=True):  # type: ignore[arg-type]
        s, t = student.factors()[side][ids], teacher.factors()[side][ids]
        means.append((t - maps(s, t, 1.0, rng)).square().mean().item())
    assert found.item() == pytest.approx(sum(means) / 2, rel=1e-5)


def test_phr_maps_users_and_items_by_one_network(
    student: FactorModel, teacher: FactorModel, train: Interactions
) -> None:
    distiller, users = made("phr"), torch.tensor([3, 1, 4])
    found = distiller(*views(student, teacher, train, users), generator("cpu", 1))
    items = torch.randint(train.n_items, (7,), generator=generator("cpu", 1))
    means = []
    for ids, side in ((users, 0), (items, 1)):
        s, t = student.factors()[side][ids], teacher.factors()[side][ids]
        matrices = distiller.map.network(t).view(len(ids), 6, 4)  # type: ignore[union-attr, operator]
        means.append((t - torch.einsum("nts,ns->nt", matrices, s)).square().mean().item())
    assert found.item() == pytest.approx(sum(means) / 2, rel=1e-5)


@pytest.mark.parametrize(("name", "sizes"), [("assistants_phr", [4, 5]), ("assistants_sized", [5, 2, 3])])
def test_assistants_weigh_their_gaps_by_the_gate(
    name: str, sizes: list[int], student: FactorModel, teacher: FactorModel
) -> None:
    distiller, users = made(name), torch.tensor([3, 1, 4])
    assert isinstance(distiller, TeacherAssistants)
    distiller.assistant_weight = 0.3
    s, t = student.factors()[0][users].detach(), teacher.factors()[0][users].detach()
    found = distiller.gaps(distiller.maps[0], s, t, generator("cpu", 1)).mean().item()
    total = 0.0
    for row in range(3):
        e, x = t[row : row + 1], s[row : row + 1]
        gate = softmax((distiller.gate(e)[0]).tolist())
        targets = [e, *distiller.hyper(e)]
        assert [target.shape[1] for target in targets] == [6, *sizes]
        gaps = [(target - mapping(x, target, 1.0, None)).square().mean().item()
                for mapping, target in zip(distiller.maps[0], targets, strict=True)]  # type: ignore[arg-type]  # fmt: skip
        total += gaps[0] + 0.3 * sum(g * gap for g, gap in zip(gate, gaps[1:], strict=True))
    assert found == pytest.approx(total / 3, rel=1e-5)


@pytest.mark.parametrize("name", ["assistants_phr", "assistants_sized"])
def test_assistants_of_users_and_items_count_alike(
    name: str, student: FactorModel, teacher: FactorModel, train: Interactions
) -> None:
    """Whoever is more: 3 users here and 7 items."""
    distiller, users = made(name), torch.tensor([3, 1, 4])
    assert isinstance(distiller, TeacherAssistants)
    found = distiller(*views(student, teacher, train, users), generator("cpu", 1))
    items = torch.randint(train.n_items, (7,), generator=generator("cpu", 1))
    means = []
    for ids, side in ((users, 0), (items, 1)):
        s, t = student.factors()[side][ids], teacher.factors()[side][ids]
        means.append(distiller.gaps(distiller.maps[0], s, t, generator("cpu", 1)).mean().item())
    assert found.item() == pytest.approx(sum(means) / 2, rel=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_extreme_vectors_and_cold_choices(
    name: str, student: FactorModel, teacher: FactorModel, train: Interactions
) -> None:
    distiller = made(name)
    vars(distiller)["temperature"] = 1e-10
    with torch.no_grad():
        for model in (student, teacher):
            for parameter in model.parameters():
                parameter.mul_(1e4)
    distiller(*views(student, teacher, train, torch.arange(5)), generator("cpu", 1)).backward()
    for parameter in (*student.parameters(), *distiller.parameters()):
        assert parameter.grad is not None
        assert bool(parameter.grad.isfinite().all())


@pytest.mark.parametrize("name", MAKERS)
def test_a_student_without_vectors_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="needs a student with user and item vectors"):
        MAKERS[name](7).prepare(Setting(0, 4))


def test_half_of_the_items_are_drawn_by_popularity() -> None:
    train = Interactions(torch.zeros(50, dtype=torch.int64), torch.full((50,), 3), 1, 1000)
    distiller = PHR(rows=20)
    distiller.prepare(Setting(4, 6, train=train))
    items = distiller.draw(1000, generator("cpu", 1))
    assert items.shape == (20,)
    assert (items == 3).sum() >= 10
    assert len(items.unique()) > 8
    assert "events" not in distiller.state_dict()


def test_no_more_rows_than_asked_for(schema: Schema, train: Interactions) -> None:
    distiller = made("de", rows=2)
    student = make_mf(schema, 1)
    distiller(*views(student, make_mf(schema, 2, 5), train, torch.arange(9)), generator("cpu", 1)).backward()
    touched = (student.user.weight.grad != 0).any(1)  # type: ignore[union-attr]
    assert touched.nonzero().flatten().tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gumbel_noise_of_half_precision_is_a_number(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among half precision numbers an exact 0 is drawn now and then: the noise must not be of the logits' type."""
    drawn: list[torch.dtype] = []
    exponential = torch.Tensor.exponential_
    monkeypatch.setattr(
        torch.Tensor, "exponential_", lambda x, **given: (drawn.append(x.dtype), exponential(x, **given))[1]
    )
    share = gumbel_softmax(torch.zeros(4, 3, dtype=dtype), 0.1, generator("cpu", 1))
    assert drawn == [torch.float32]
    assert share.dtype == dtype
