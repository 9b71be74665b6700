"""What a hint compares: maps, sides, and the vectors of a student that trains under rounding."""

from __future__ import annotations

import pytest
import torch
from distiller_parts import make_mf

from recdistill.compression.base import Compressed, constrain
from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.base import Setting
from recdistill.distillers.features import Hint, hint_loss
from recdistill.distillers.schedules import Exponential
from recdistill.distillers.teacher import LiveTeacher
from recdistill.distillers.views import ModelView
from recdistill.errors import InputError
from recdistill.export.packing import Codec, by_row, quantize_rows
from recdistill.models.base import FactorModel
from recdistill.tasks.batches import generator


def value(distiller: Hint, student: FactorModel, teacher: FactorModel, train: Interactions) -> torch.Tensor:
    users = torch.tensor([3, 1, 0])
    loss: torch.Tensor = distiller(
        ModelView(student, users, train.csr), LiveTeacher(teacher, train).view(users), generator("cpu", 1)
    )
    return loss


@pytest.mark.parametrize("mapper", ["linear", "mlp", "none"])
def test_both_sides_are_the_mean_of_each(schema: Schema, train: Interactions, mapper: str) -> None:
    student, teacher = make_mf(schema, 1), make_mf(schema, 2)
    found = {}
    for side in ("both", "user", "item"):
        distiller = Hint(items=9, mapper=mapper, side=side)  # type: ignore[arg-type]
        torch.manual_seed(0)
        distiller.prepare(Setting(4, 4, train=train))
        if side == "both":
            both = distiller
        else:  # the maps of one side alone
            distiller.load_state_dict({k: v for k, v in both.state_dict().items() if k.startswith(f"{side}_map")})
        found[side] = value(distiller, student, teacher, train).item()
        maps = [name for name in ("user", "item") if hasattr(distiller, f"{name}_map")]
        assert maps == {"both": ["user", "item"]}.get(side, [side])
    assert found["both"] == pytest.approx((found["user"] + found["item"]) / 2, rel=1e-6)


def test_without_a_map_a_copy_of_the_teacher_has_nothing_to_learn(schema: Schema, train: Interactions) -> None:
    student, distiller = make_mf(schema, 1), Hint(mapper="none")
    distiller.prepare(Setting(4, 4, train=train))
    loss = value(distiller, student, make_mf(schema, 1), train)
    loss.backward()
    assert loss.item() == 0
    assert all((parameter.grad == 0).all() for parameter in student.parameters())


def test_without_a_map_widths_must_agree() -> None:
    with pytest.raises(InputError, match="4 wide, and of the teacher, 6 wide"):
        Hint(mapper="none").prepare(Setting(4, 6))


@pytest.mark.parametrize("bits", [8, 4])
def test_under_rounding_the_decoded_vectors_are_compared(schema: Schema, train: Interactions, bits: int) -> None:
    """The hint is that of the table that will be stored, and its gradient reaches the latent weights."""
    student, teacher, distiller = make_mf(schema, 1), make_mf(schema, 2, 5), Hint(items=9, side="item")
    torch.manual_seed(0)
    distiller.prepare(Setting(4, 6, train=train))
    latent = student.item.weight.detach().clone()
    constrain(Compressed(student, {}, {"item.weight": Codec(bits=bits)}))
    codes, scale = quantize_rows(latent, bits, None)
    decoded = codes * by_row(scale, codes)
    assert not torch.equal(decoded, latent)
    items = distiller.draw(train.n_items, generator("cpu", 1))
    bias = student.factors()[1][:, 3:].detach()
    expected = hint_loss(distiller.item_map(torch.cat([decoded, bias], 1)[items]), teacher.factors()[1][items])
    loss = value(distiller, student, teacher, train)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    grad = student.item.parametrizations.weight.original.grad  # type: ignore[union-attr]
    assert bool((grad[items.unique()] != 0).any(1).all())


def test_an_exponential_schedule_falls_by_a_constant_factor() -> None:
    fall = Exponential(1.0, 1e-10)
    assert [fall(share) for share in (0, 0.1, 0.5, 1)] == pytest.approx([1, 0.1, 1e-5, 1e-10])
    assert fall.extremes() == (1e-10, 1.0)
    assert Exponential(1.0, 4.0, over=0.5)(0.25) == pytest.approx(2)
    assert Exponential(1.0, 4.0, over=0.5)(0.9) == pytest.approx(4)
