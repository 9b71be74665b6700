"""Hints on hidden layers: against loops, and every model that says where its last one is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from recdistill.data.features import Features
from recdistill.data.interactions import Examples, Interactions, Schema
from recdistill.data.rows import Rows
from recdistill.distillers.base import Needs, Setting, some_of
from recdistill.distillers.layers import AttentionHints, LayerHints, attention_loss
from recdistill.errors import InputError
from recdistill.models.attention import LOOK_BACK, SelfAttention
from recdistill.models.autoint import AutoInt
from recdistill.models.cnn import CNN
from recdistill.models.dcnv2 import DCNv2
from recdistill.models.deepfm import DeepFM
from recdistill.models.dnn import DNN
from recdistill.models.finalmlp import FinalMLP
from recdistill.models.gru4rec import GRU4Rec
from recdistill.models.hstu import HSTU
from recdistill.models.layers import recorded, source
from recdistill.models.lr import LR
from recdistill.models.mlp import MLP
from recdistill.models.nextitnet import NextItNet
from recdistill.models.sasrec import SASRec
from recdistill.models.wide_deep import WideDeep
from recdistill.tasks.batches import generator
from recdistill.tasks.sequence_view import SequenceView
from recdistill.tasks.table_batches import TableView
from recdistill.tasks.windows import Sequences


class Fixed:
    """A view with given outputs."""

    def __init__(self, outputs: dict[str, Tensor]):
        self.outputs = outputs
        self.users = torch.arange(len(next(iter(outputs.values()))))

    def layer(self, name: str, rows: Tensor | None = None) -> Tensor:
        return self.outputs[name] if rows is None else self.outputs[name][rows]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mapper", ["linear", "mlp"])
def test_it_is_the_mean_over_layers_of_each_query(mapper: str) -> None:
    distiller = LayerHints({"a": "x", "b": "y"}, mapper=mapper)  # type: ignore[arg-type]
    assert distiller.needs() == Needs(layers=("x", "y"))
    assert distiller.layers == ("a", "b")
    torch.manual_seed(0)
    distiller.prepare(Setting(student_layers={"a": 3, "b": 4}, teacher_layers={"x": 5, "y": 2}))
    student, teacher = (
        {"a": randn(6, 3), "b": randn(6, 4, seed=1)},
        {"x": randn(6, 5, seed=2), "y": randn(6, 2, seed=3)},
    )
    found = distiller(Fixed(student), Fixed(teacher), generator("cpu", 1))  # type: ignore[arg-type]
    assert found.shape == (6,)
    for row in range(6):
        gaps = [(teacher[its][row] - mapping(student[own][row])).square().mean().item()
                for mapping, own, its in zip(distiller.maps, "ab", "xy", strict=True)]  # fmt: skip
        assert found[row].item() == pytest.approx(sum(gaps) / 2, rel=1e-5)


def test_some_rows_of_a_step_stand_for_all() -> None:
    """At even distances, each as in a step of its own times as many as it stands for."""
    few, whole = (LayerHints({"a": "x"}, mapper="none", rows=rows) for rows in (4, 10))
    for distiller in (few, whole):
        distiller.prepare(Setting(student_layers={"a": 3}, teacher_layers={"x": 3}))
    student, teacher = Fixed({"a": randn(10, 3)}), Fixed({"x": randn(10, 3, seed=1)})
    expected = whole(student, teacher, generator("cpu", 1))  # type: ignore[arg-type]
    assert bool((expected > 0).all())
    found = few(student, teacher, generator("cpu", 1))  # type: ignore[arg-type]
    assert found.nonzero().flatten().tolist() == [0, 2, 5, 7]
    torch.testing.assert_close(found[[0, 2, 5, 7]], expected[[0, 2, 5, 7]] * 10 / 4)
    assert found.mean().item() == pytest.approx(expected[[0, 2, 5, 7]].mean().item(), rel=1e-5)


@given(st.integers(1, 300), st.integers(1, 300))
def test_places_are_as_far_apart_as_they_can_be(queries: int, rows: int) -> None:
    """So that of rows that begin with those of one kind each kind has its share, but for one."""
    places = some_of(queries, rows, torch.device("cpu")).tolist()
    assert len(places) == min(queries, rows)
    assert places[0] == 0
    assert places[-1] < queries
    gaps = {b - a for a, b in itertools.pairwise([*places, queries])}
    assert max(gaps) - min(gaps) <= 1


def test_a_teacher_that_learns_too_keeps_every_pair() -> None:
    """Two layers of the student learn from one of the teacher, which learns from both."""
    distiller = LayerHints({"a": "x", "b": "x"})
    distiller.swap()
    assert distiller.needs() == Needs(layers=("a", "b"))
    assert distiller.layers == ("x",)
    torch.manual_seed(0)
    distiller.prepare(Setting(student_layers={"x": 5}, teacher_layers={"a": 3, "b": 4}))
    learns, teaches = {"x": randn(6, 5)}, {"a": randn(6, 3, seed=1), "b": randn(6, 4, seed=2)}
    found = distiller(Fixed(learns), Fixed(teaches), generator("cpu", 1))  # type: ignore[arg-type]
    for row in range(6):
        gaps = [(teaches[name][row] - mapping(learns["x"][row])).square().mean().item()
                for mapping, name in zip(distiller.maps, "ab", strict=True)]  # fmt: skip
        assert found[row].item() == pytest.approx(sum(gaps) / 2, rel=1e-5)
    distiller.swap()
    assert (distiller.layers, distiller.needs()) == (("a", "b"), Needs(layers=("x",)))


def test_a_copy_has_nothing_to_learn() -> None:
    distiller, output = LayerHints({"a": "a"}, mapper="none"), randn(4, 3)
    distiller.prepare(Setting(student_layers={"a": 3}, teacher_layers={"a": 3}))
    own = output.clone().requires_grad_()
    loss = distiller(Fixed({"a": own}), Fixed({"a": output}), generator("cpu", 1)).mean()  # type: ignore[arg-type]
    loss.backward()
    assert loss.item() == 0
    assert not own.grad.any()  # type: ignore[union-attr]


def examples(n: int = 7) -> Examples:
    torch.manual_seed(1)
    return Examples(
        torch.zeros(n), Features({"user": torch.randint(1, 5, (n,)), "item": torch.randint(1, 6, (n,))},
                                 {"number": torch.randn(n)}, vector={"image": torch.randn(n, 16)},
                                 moments={"number": (0.0, 1.0)}),
    )  # fmt: skip


FIELDS = {"categorical": {"user": 5, "item": 6}, "numeric": {"number": 1}, "vector": {"image": 16}}
MODELS = {
    "mlp": (lambda s: MLP(s, hidden=(7, 4), dropout=0.2), 4),
    "cnn": (lambda s: CNN(s, channels=(2,)), 8),
    "dnn": (lambda s: DNN(s, hidden=(7, 3)), 3),
    "dcnv2": (lambda s: DCNv2(s, hidden=(7, 3)), 3),
    "wide_deep": (lambda s: WideDeep(s, hidden=(7, 3)), 3),
    "deepfm": (lambda s: DeepFM(s, hidden=()), 4 * 16),
    "finalmlp": (lambda s: FinalMLP(s, hidden_1=(4,), hidden_2=(7, 3), heads=1), 3),
    "autoint": (lambda s: AutoInt(s, layers=1, heads=2, head_dim=5), 4 * 10),
    "sasrec": (lambda s: SASRec(s, dim=4), 4),
    "hstu": (lambda s: HSTU(s, dim=4), 4),
    "gru4rec": (lambda s: GRU4Rec(s, dim=4, hidden=6), 6),
    "nextitnet": (lambda s: NextItNet(s, dim=4), 4),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_trunk_of_a_model(name: str) -> None:
    make, width = MODELS[name]
    model = make(Schema(5, 6, n_outputs=2, max_length=8, features=FIELDS))  # type: ignore[arg-type]
    model.eval()
    with recorded(model, ["trunk"]) as outputs, torch.no_grad():
        if "ctr" in model.tasks or "classification" in model.tasks:
            model(Rows.of(examples().features, 7))
            assert outputs["trunk"].flatten(1).shape == (7, width)
        else:
            model(torch.tensor([[1, 2, 3], [4, 6, 6]]))
            assert outputs["trunk"].shape == (2, 3, width)


def test_a_model_without_one_says_so() -> None:
    model = LR(Schema(5, 6, features=FIELDS))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="LR has no hidden layer"):
        source(model, "trunk")
    own = nn.ModuleDict({"trunk": nn.Linear(1, 1)})
    assert source(own, "trunk") == (own["trunk"], ""), "a layer of that name"
    flat = MLP(Schema(5, 6, n_outputs=2, features=FIELDS), hidden=())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="MLP has no hidden layer"):
        source(flat, "trunk")


def asked(name: str) -> tuple[Any, Callable[[], TableView | SequenceView]]:
    """A model, and what makes views of 7 rows or of 7 histories."""
    make, _ = MODELS[name]
    model = make(Schema(5, 6, n_outputs=2, max_length=4, features=FIELDS)).eval()  # type: ignore[arg-type]
    if set(model.tasks) & {"ctr", "classification"}:
        return model, lambda: TableView(model, Rows.of(examples().features, 7), torch.arange(7), "click")
    item, user = torch.tensor([0, 1, 2, 3, 4, 5, 1]), torch.tensor([0, 0, 0, 1, 1, 2, 2])
    log = Interactions(user=user, item=item, n_users=5, n_items=6, time=torch.arange(7))
    return model, lambda: SequenceView(model, torch.arange(7), Sequences.of(log, torch.device("cpu"), 4, 4))


@pytest.mark.parametrize("name", MODELS)
def test_what_is_offered_are_layers_that_give_a_vector_of_each_query(name: str) -> None:
    model, view = asked(name)
    offered = view().layers()
    for key, part in model.named_modules():
        if not key:
            continue
        outputs: list[Any] = []
        hook = part.register_forward_hook(lambda _m, _i, output, kept=outputs: kept.append(output))
        with torch.no_grad():
            whole = view()
            answer = whole.output() if isinstance(whole, TableView) else whole.factors()[0]
        hook.remove()
        watched = view().watch([key]) if outputs else view()
        if key in offered:
            with torch.no_grad():
                found = watched.layer(key)
            last = outputs[-1][0] if isinstance(outputs[-1], tuple) else outputs[-1]
            assert len(found) == len(answer) == 7
            rows = last[0] if isinstance(watched, SequenceView) else last  # row 0 is of a history of one event
            assert torch.equal(found[0], rows[0].flatten())
        else:
            with pytest.raises(InputError, match=rf"the layer '{key}' of {type(model).__name__} gives nothing"):
                watched.layer(key)
    assert offered
    assert not {"cross", "streams", "blocks.0.norms", "fields.tables", "fields.tables.0", "position"} & set(offered)


def test_a_list_of_layers_is_none() -> None:
    model = DCNv2(Schema(5, 6, features=FIELDS), hidden=(7, 3))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the layer 'cross' of DCNv2 gives nothing") as caught:
        source(model, "cross")
    assert caught.value.fix == "did you mean cross.2, cross.1, cross.0?"
    with pytest.raises(InputError, match="has no layer 'cros'") as caught:
        source(model, "cros")
    assert "fields.tables," not in str(caught.value.why)


# Attention.


@pytest.mark.parametrize("heads", [1, 2])
def test_weights_are_those_that_mix_the_values(heads: int) -> None:
    """By what the module itself gives for values that say which place they are of."""
    torch.manual_seed(0)
    attention, x = SelfAttention(8, heads, dropout=0.0), torch.randn(2, 5, 8)
    with torch.no_grad():
        queries, keys, _ = attention.qkv(x).unflatten(-1, (3, heads, -1)).unbind(2)  # [2, 5, h, 8 / h]
        found = attention.weights(x)
    assert found.shape == (2, 5, LOOK_BACK)
    for b in range(2):
        for place in range(5):
            total = [0.0] * LOOK_BACK
            for h in range(heads):
                logits = [float(queries[b, place, h] @ keys[b, j, h]) / math.sqrt(8 / heads) for j in range(place + 1)]
                powers = [math.exp(z) for z in logits]
                for j, power in enumerate(powers):
                    total[place - j] += power / sum(powers) / heads
            assert found[b, place].tolist() == pytest.approx(total, abs=1e-6)


def test_attention_is_recorded_beside_a_pass() -> None:
    torch.manual_seed(0)
    model = SASRec(Schema(5, 6, max_length=8), dim=4, layers=2).eval()
    history = torch.tensor([[1, 2, 3], [4, 6, 6]])
    with torch.no_grad(), recorded(model, ["attention", "blocks.0.attention.weights"]) as outputs:
        first = model(history)
    assert torch.equal(first, model(history).detach()), "a look changes nothing"
    assert outputs["attention"].shape == (2, 3, LOOK_BACK)
    assert not torch.equal(*outputs.values())
    torch.testing.assert_close(outputs["attention"].sum(-1), torch.ones(2, 3))
    with pytest.raises(InputError, match="GRU4Rec has no attention over a history"):
        source(GRU4Rec(Schema(5, 6, max_length=8)), "attention")


def test_attention_is_the_loop() -> None:
    student, teacher = randn(4, 6).softmax(-1).double(), randn(4, 6, seed=1).softmax(-1).double()
    student[1, 3:], student[2] = 0, 0  # sees three places; an empty history
    found = attention_loss(student, teacher)
    for row in (0, 1, 3):
        seen = [j for j in range(6) if student[row, j] > 0]
        a_s, a_t = ([x[row, j].item() / sum(x[row, k].item() for k in seen) for j in seen] for x in (student, teacher))
        expected = sum(p * math.log(p / q) for p, q in zip(a_t, a_s, strict=True))
        assert found[row].item() == pytest.approx(expected)
    assert found[2] == 0


def test_several_attentions_are_the_mean_of_each_query() -> None:
    distiller = AttentionHints({"a": "x", "b": "x"})
    assert distiller.needs() == Needs(layers=("x",))
    distiller.prepare(Setting())
    student = {name: randn(4, 5, seed=seed).softmax(-1) for seed, name in enumerate("ab")}
    teacher = {"x": randn(4, 5, seed=7).softmax(-1)}
    found = distiller(Fixed(student), Fixed(teacher), generator("cpu", 1))  # type: ignore[arg-type]
    for row in range(4):
        p, losses = teacher["x"][row].tolist(), []
        for weights in student.values():
            losses.append(sum(a * math.log(a / b) for a, b in zip(p, weights[row].tolist(), strict=True)))
        assert found[row].item() == pytest.approx(sum(losses) / 2, rel=1e-4)


def test_gradient_of_attention() -> None:
    z, target = randn(3, 5).double(), randn(3, 5, seed=1).double().softmax(-1)
    assert torch.autograd.gradcheck(lambda z: attention_loss(z.softmax(-1), target), (z.clone().requires_grad_(),))
    same = target.log().requires_grad_()
    attention_loss(same.softmax(-1), target).sum().backward()
    assert same.grad is not None
    assert same.grad.abs().max() < 1e-9
    cold = (1e4 * z.float()).requires_grad_()
    attention_loss(cold.softmax(-1), target.float()).sum().backward()
    assert cold.grad is not None
    assert bool(cold.grad.isfinite().all())
