"""Every kind of table through the same trials, alone and in every model that has one."""

from __future__ import annotations

import json
import struct
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answers_kit import target
from contract_kit import check_header, every, files, node, problems
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recdistill.compression.base import Compressed, constrain, release
from recdistill.compression.embedding import Embedding, node_of
from recdistill.compression.quantize import Quantize
from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions, Schema
from recdistill.data.rows import Rows, columns
from recdistill.errors import InputError
from recdistill.export.bundle import INFO, WEIGHTS, load_model, save_model
from recdistill.models.base import TableModel
from recdistill.models.build import build, instantiate
from recdistill.models.tables.base import Table, TableKind, read_form, stored_form, stored_state, table_of, tables_of
from recdistill.models.tables.md import MD
from recdistill.runs.atomic import file_digest

USERS, ITEMS, DIM = 700, 1100, 32
SIZES = {"categorical": {"user": 400, "item": 900, "genre": 6}, "multi": {"tags": 500}, "numeric": {"age": 1}}
NET: dict[str, Any] = {"_target_": "recdistill.models.mf.MF", "dim": DIM, "init_std": 0.1}


def kind_of(option: str) -> TableKind:
    made: TableKind = instantiate(node("table", option))
    return made


def made(option: str, rows: int = ITEMS, dim: int = DIM) -> Table:
    torch.manual_seed(0)
    table = table_of(kind_of(option), rows, dim, 0.1)
    assert isinstance(table, Table)
    return table


def mf(option: str) -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(0)
    net = {**NET, "table": node("table", option)}
    model = build(net, Schema(USERS, ITEMS))
    model.bind(events())
    return model, net


def events() -> Interactions:
    """Item i is the more frequent, the nearer it is to the middle of the catalogue."""
    draw = torch.Generator().manual_seed(1)
    item = (torch.randn(6000, generator=draw) * ITEMS / 6 + ITEMS / 2).long().clamp(0, ITEMS - 1)
    return Interactions(torch.randint(USERS, (6000,), generator=draw), item, USERS, ITEMS)


def payload(file: Path) -> int:
    """Bytes of the tensors of a safetensors file: all but its header."""
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert json.loads(content[8 : 8 + length])
    return len(content) - 8 - length


@every("table")
class TestTable:
    def test_composes_and_binds(self, option: str) -> None:
        check_header("table", option)
        assert problems("table", option) == []
        assert node("table", option)["_partial_"] is True
        assert node_of(kind_of(option)) == node("table", option)
        assert f"embedding_{option}" in files("compression"), "a kind is a pass, too"

    def test_looks_up_what_its_weight_holds(self, option: str) -> None:
        table = made(option)
        ids = torch.tensor([[0, 5, ITEMS - 1], [7, 5, 0]])
        for mode in (True, False):
            table.train(mode)
            assert table.weight.shape == (ITEMS, DIM)
            torch.testing.assert_close(table(ids), table.weight[ids], rtol=1e-5, atol=1e-7)

    @pytest.mark.parametrize(("rows", "dim"), [(1, 1), (2, 7), (5, 3), (257, 5), (1000, 64)])
    def test_takes_any_size(self, option: str, rows: int, dim: int) -> None:
        table = kind_of(option)(rows=rows, dim=dim, init_std=0.1)
        assert table(torch.arange(rows)).shape == (rows, dim)
        state = stored_state(table)
        assert table.nbytes == sum(part.nbytes for part in state.values())
        with stored_form(), torch.device("meta"):
            again = kind_of(option)(rows=rows, dim=dim, init_std=0.1)
        assert {name: part.shape for name, part in again.state_dict().items()} == {
            name: part.shape for name, part in state.items()
        }

    def test_rows_start_apart_and_at_the_scale_that_is_asked_for(self, option: str) -> None:
        weight = made(option).train().weight.detach()
        assert len(torch.unique(weight, dim=0)) > 0.3 * ITEMS
        assert 0.04 < float(weight.std()) < 0.25

    def test_gradients(self, option: str) -> None:
        table = kind_of(option)(rows=30, dim=4, init_std=0.5).double()
        table.settle()  # what is chosen has no derivative
        names, weights = zip(
            *((n, p.detach().clone().requires_grad_()) for n, p in table.named_parameters()), strict=True
        )

        def vectors(*values: Tensor) -> Tensor:
            given = dict(zip(names, values, strict=True))
            return torch.func.functional_call(table, given, (torch.tensor([0, 29, 3, 3]),))

        assert torch.autograd.gradcheck(vectors, weights)

    def test_every_trained_number_is_reached(self, option: str) -> None:
        table = made(option).train()
        ((table.weight - torch.randn(ITEMS, DIM)) ** 2).mean().backward()
        assert all(bool((part.grad != 0).any()) for part in table.parameters())

    def test_it_learns(self, option: str) -> None:
        table = made(option).train()
        target = 0.3 * torch.randn(8, DIM)[torch.arange(ITEMS) * 8 // ITEMS]  # eight kinds of rows
        optimizer = torch.optim.Adam(table.parameters(), lr=0.01)

        def gap() -> Tensor:
            return (table.weight - target).square().mean()

        before = gap().item()
        for _ in range(60):
            optimizer.zero_grad()
            gap().backward()
            optimizer.step()
        assert gap().item() < 0.85 * before  # an eighth of the numbers

    def test_a_fit_is_near_and_draws_nothing(self, option: str) -> None:
        draw = torch.Generator().manual_seed(3)
        rank = torch.randn(ITEMS, 6, generator=draw) @ torch.randn(6, DIM, generator=draw)
        target = rank + 0.05 * torch.randn(ITEMS, DIM, generator=draw)
        found = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            table = kind_of(option)(rows=ITEMS, dim=DIM, init_std=0.1)
            state = torch.get_rng_state()
            table.fit(target)
            assert torch.equal(torch.get_rng_state(), state)
            table.settle()
            found.append(table.eval().weight.detach())
        assert torch.equal(*found)
        assert float((found[0] - target).square().mean()) < float(target.square().mean())  # nearer than zeros

    def test_settling_changes_no_answer(self, option: str) -> None:
        table = made(option).eval()
        before = table.weight.detach()
        table.settle()
        assert not table.loose
        assert not table.prefixes
        assert torch.equal(table.weight, before)
        table.settle()
        table.loosen()
        torch.testing.assert_close(table.train().weight, before)
        table.settle()
        torch.testing.assert_close(table.eval().weight, before)

    def test_the_file_has_the_bytes_of_the_formula(self, option: str, tmp_path: Path) -> None:
        model, net = mf(option)
        save_model(tmp_path, model, net)
        said = sum(table.nbytes for table in tables_of(model).values())
        plain = sum(4 * part.weight.numel() for part in (model.user, model.item) if isinstance(part, nn.Embedding))
        assert payload(tmp_path / WEIGHTS) == said + plain
        assert said + plain < 4 * DIM * (USERS + ITEMS)
        assert isinstance(model.item, Table)

    def test_a_bundle_is_whole_and_answers_the_same(self, option: str, tmp_path: Path) -> None:
        model, net = mf(option)
        save_model(tmp_path / "a", model, net)
        random = torch.get_rng_state()
        again = load_model(tmp_path / "a")  # without the data that were counted
        assert torch.equal(torch.get_rng_state(), random)
        users = torch.tensor([0, 3, USERS - 1])
        assert torch.equal(again.scores(users), model.eval().scores(users))
        assert not any(table.loose for table in tables_of(again).values())
        save_model(tmp_path / "b", again, net)
        assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()

    def test_whole_numbers_that_point_nowhere_are_refused(self, option: str, tmp_path: Path) -> None:
        model, net = mf(option)
        save_model(tmp_path, model, net)
        state = load_file(tmp_path / WEIGHTS)
        whole = [name for name, part in state.items() if not part.is_floating_point()]
        for name in whole:
            bad = state[name].clone()
            bad.view(-1)[0] = torch.iinfo(bad.dtype).max
            save_file({**state, name: bad}, tmp_path / WEIGHTS)
            info = json.loads((tmp_path / INFO).read_text(encoding="utf-8"))
            info["hash"] = file_digest(tmp_path / WEIGHTS)
            (tmp_path / INFO).write_text(json.dumps(info), encoding="utf-8")
            if option == "pq" and model.item.k == 256:  # every byte is a code
                continue
            with pytest.raises(InputError, match="the model cannot be read"):
                load_model(tmp_path)

    @pytest.mark.parametrize("bits", [8, 4])
    def test_its_numbers_can_be_rounded_too(self, option: str, bits: Any, tmp_path: Path) -> None:
        model, net = mf(option)
        save_model(tmp_path / "plain", model, net)
        state = Quantize(bits).apply(Compressed(load_model(tmp_path / "plain"), net))
        constrain(state)
        optimizer = torch.optim.Adam(state.model.parameters(), lr=0.01)
        users = torch.arange(40)
        for _ in range(3):
            optimizer.zero_grad()
            state.model.train().scores(users).square().mean().backward()
            optimizer.step()
        seen = state.model.eval().scores(users).detach()
        release(state.model)
        save_model(tmp_path / "small", state.model, net, codecs=state.codecs, clips=state.clips)
        assert torch.equal(load_model(tmp_path / "small").scores(users), seen)
        share = payload(tmp_path / "small" / WEIGHTS) / payload(tmp_path / "plain" / WEIGHTS)
        assert share < 0.75, "codes and numbers of rows stay as they are"

    def test_a_prefix_is_served_and_all_are_trained(self, option: str) -> None:
        table = made(option).train()
        for number, length in enumerate(table.prefixes):
            read_form([table], number)
            assert int(table.weight.count_nonzero(1).max()) <= length
        if table.prefixes:
            assert table.read == DIM

    def test_an_anchor_pulls(self, option: str) -> None:
        table = made(option)
        commitment = table.penalty()
        anchor = torch.randn(ITEMS, DIM)
        table.hold(anchor, 2.0)
        error = (table.weight - anchor).square().mean() / anchor.square().mean()
        own = 0.0 if commitment is None else float(commitment.detach())
        assert float(table.penalty().detach()) == pytest.approx(2 * error.item() + own, rel=1e-4)  # type: ignore[union-attr]
        assert not any("anchor" in name for name in table.state_dict())


# In models.

HAVE = sorted({option for option in files("model") if "table@table" in files("model")[option].read_text("utf-8")})


def schema_of(option: str) -> Schema:
    if issubclass(target("model", option), TableModel):
        sizes = {**SIZES, "multi": {**SIZES["multi"], "history": SIZES["categorical"]["item"]}}
        return Schema(features=sizes)
    return Schema(USERS, ITEMS, max_length=6)


def asked(option: str) -> tuple[Any, ...]:
    draw = torch.Generator().manual_seed(0)
    if issubclass(target("model", option), TableModel):
        order = columns(SIZES, "categorical")
        codes = torch.stack([torch.randint(SIZES["categorical"][name], (5,), generator=draw) for name in order], 1)
        sets = {name: Csr(torch.arange(0, 11, 2), torch.randint(size, (10,), generator=draw))
                for name, size in (("tags", 500), ("history", 900))}  # fmt: skip
        return (Rows(codes, torch.randn(5, 1, generator=draw), sets, {}),)
    return (torch.randint(ITEMS, (5, 6), generator=draw),)


def answer(model: Any, option: str) -> Tensor:
    if option == "mf":
        return model.scores(torch.arange(5))  # type: ignore[no-any-return]
    if isinstance(model, TableModel):
        return model(*asked(option))
    return model.query(*asked(option)) @ model.item_matrix().T  # type: ignore[no-any-return]


def with_table(option: str, kind: str | None) -> tuple[Any, dict[str, Any]]:
    net = {**node("model", option), "table": node("table", kind) if kind else {}}
    torch.manual_seed(0)
    return build(net, schema_of(option)), net


def test_models_with_tables_are_all_of_those_that_take_one() -> None:
    assert {"mf", "sasrec", "gru4rec", "bert4rec", "dcnv2", "din"} <= set(HAVE)


@pytest.mark.parametrize("model_option", HAVE)
@every("table")
def test_in_every_model(model_option: str, option: str, tmp_path: Path) -> None:
    model, net = with_table(model_option, option)
    tables = tables_of(model)
    assert tables, "there are enough rows for it to pay"
    found = answer(model.train(), model_option)
    found.square().sum().backward()
    for name, table in tables.items():
        assert any(part.grad is not None and bool((part.grad != 0).any()) for part in table.parameters()), name
    save_model(tmp_path, model.eval(), net)
    again = load_model(tmp_path)
    with torch.no_grad():
        assert torch.equal(answer(again, model_option), answer(model, model_option))
    plain, _ = with_table(model_option, None)
    size = sum(part.nbytes for part in plain.state_dict().values())
    assert payload(tmp_path / WEIGHTS) < size


@pytest.mark.parametrize("model_option", ["mf", "gru4rec", "dcnv2", "din", "wide_deep"])
def test_a_pass_that_loses_nothing_changes_no_answer(model_option: str) -> None:
    """Tables of rank 3 in a form of three columns: weights, order of fields and shared rows, all as before."""
    old, net = with_table(model_option, None)
    with torch.no_grad():
        for name, part in old.named_parameters():
            low = torch.randn(part.shape[0], 3) @ torch.randn(3, *part.shape[1:]) if part.dim() == 2 else part
            part.copy_(0.3 * low if "table" in name or "user" in name or "item" in name else part + 0.1)
    share = 3 / net["dim"]
    state = Embedding(partial(MD, serve=share, nested=[share])).apply(Compressed(old.eval(), net))
    assert tables_of(state.model)
    with torch.no_grad():
        torch.testing.assert_close(answer(state.model, model_option), answer(old, model_option), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "model_option", ["mf", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sasrec", "dcnv2"))]
)
@every("table")
def test_onnx_answers_the_same_from_as_few_bytes(model_option: str, option: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="pip install 'recdistill[onnx]'")
    pytest.importorskip("onnxscript", reason="pip install 'recdistill[onnx]'")
    from recdistill.export.graphs import QUERY, SEEN, exported_graph, row_inputs
    from recdistill.export.onnx import session, write_graph

    model, net = with_table(model_option, option)
    save_model(tmp_path, model.eval(), net)
    served = load_model(tmp_path).requires_grad_(False)
    if model_option == "dcnv2":
        inputs, predict = row_inputs(asked(model_option)[0]), torch.sigmoid
    else:
        query = torch.arange(5) if model_option == "mf" else asked(model_option)[0]
        inputs, predict = {QUERY: query, SEEN: torch.tensor([[1, 2, ITEMS]] * 5)}, None
    graph = exported_graph(served, 20, inputs, predict)
    write_graph(graph, tmp_path / "model.onnx")
    found, wanted = session(tmp_path / "model.onnx")(inputs), graph.module(*inputs.values())
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4, atol=1e-5)
    if predict is None:  # of equal scores, as of rows that share all of their buckets, either may come first
        scores = served.scores(query) if model_option == "mf" else answer(served, model_option)
        np.testing.assert_allclose(scores.gather(1, found[1]), wanted[0], rtol=1e-4, atol=1e-5)
    assert (tmp_path / "model.onnx").stat().st_size < (tmp_path / WEIGHTS).stat().st_size + 90_000  # nodes


def test_a_form_that_would_be_larger_is_not_taken() -> None:
    table = table_of(kind_of("pq"), 100, 8, 0.1)
    assert isinstance(table, nn.Embedding)


def test_what_a_pass_refuses() -> None:
    step = Embedding(kind_of("qr"))
    with pytest.raises(InputError, match="no table that could be compressed"):
        step.check({"_target_": "recdistill.models.neumf.NeuMF"}, [])
    with pytest.raises(InputError, match="before the passes"):
        step.check(NET, [Quantize(8)])
    after = step.check({**NET, "fusion": "add"}, [])
    assert "fusion" not in after
    with pytest.raises(InputError, match="compressed already"):
        step.check(after, [step])
    graph = step.check({"_target_": "recdistill.models.lightgcn.LightGCN", "dim": 8, "layers": 2}, [])
    assert graph == {"_target_": NET["_target_"], "dim": 8, "table": node("table", "qr")}
    with pytest.raises(InputError, match="plain table"):
        build({**NET, "fusion": "features", "table": node("table", "qr")}, Schema(USERS, ITEMS))
