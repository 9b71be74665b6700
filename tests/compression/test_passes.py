"""Passes on their own: what they do to the weights, and what the file weighs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from recdistill.compression.base import Compressed, CompressionPass, from_factors, materialised, tables
from recdistill.compression.low_rank import LowRank
from recdistill.compression.prune import Prune
from recdistill.compression.quantize import Quantize
from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import InputError
from recdistill.export.bundle import WEIGHTS, load_model, model_info, read_state, save_model
from recdistill.export.packing import Codec
from recdistill.models.base import Model
from recdistill.models.lightgcn import LightGCN
from recdistill.models.mf import MF

LARGE = Schema(n_users=300, n_items=500)


def mf(schema: Schema = LARGE, dim: int = 16, item_bias: bool = False) -> Compressed:
    torch.manual_seed(0)
    net = {"_target_": "recdistill.models.mf.MF", "dim": dim, "item_bias": item_bias}
    return Compressed(MF(schema, dim=dim, item_bias=item_bias, init_std=1.0), net)


def written(state: Compressed, folder: Path) -> int:
    save_model(folder, state.model, state.net, codecs=state.codecs, clips=state.clips)
    return (folder / WEIGHTS).stat().st_size


def scores(state: Compressed, folder: Path) -> Tensor:
    return load_model(folder).scores(torch.arange(state.model.schema.n_users)).detach()


def test_tables_are_the_two_dimensional_weights() -> None:
    assert list(tables(mf(item_bias=True).model)) == ["user.weight", "item.weight"]


@pytest.mark.parametrize(
    ("passes", "share"),
    [
        ([Prune(0.5)], 0.5 + 1 / 32), ([Quantize(8)], (16 + 2) / 64), ([Quantize(4)], (8 + 2) / 64),
        ([Quantize(16)], 0.5), ([Quantize("bf16")], 0.5),
        ([Prune(0.5), Quantize(8)], (8 + 2 + 2) / 64), ([Prune(0.5), Quantize(4)], (4 + 2 + 2) / 64),
        ([Quantize(8), Prune(0.5)], (8 + 2 + 2) / 64), ([LowRank(4)], 4 / 16), ([LowRank(4), Quantize(8)], 6 /
    64), ],
)  # fmt: skip
def test_the_file_is_as_small_as_promised(tmp_path: Path, passes: list[CompressionPass], share: float) -> None:
    before = written(mf(), tmp_path / "before")
    state = mf()
    for step in passes:
        state = step.apply(state)
    ratio = written(state, tmp_path / "after") / before
    assert share * 0.96 <= ratio <= share + 0.025  # headers; values that round to zero are not stored


class TwoParts(Model):
    """Adds up a part with weights near 1.4 and one with weights near .07, as NeuMF for ratings learned them."""

    def __init__(self, schema: Schema):
        super().__init__(schema)
        torch.manual_seed(0)
        self.table, self.out = nn.Embedding(50, 64), nn.Linear(64, 1)
        with torch.no_grad():
            self.out.weight[:, :32] = 1.4 + 0.05 * torch.randn(32)
            self.out.weight[:, 32:] *= 0.6

    def forward(self) -> Tensor:
        return self.out(torch.cat([0.05 * self.table.weight[:, :32], self.table.weight[:, 32:]], 1))


@pytest.mark.parametrize("bits", [8, 4])
def test_an_output_of_two_parts_survives_few_bits(bits: Literal[8, 4], tmp_path: Path) -> None:
    state = Compressed(TwoParts(Schema()), {"_target_": "x"})
    assert float(state.model.out.weight.detach()[0, 32:].abs().max()) < 1.4 / 7 / 2  # less than half a step of 4 bits
    before = state.model().detach()
    state = Quantize(bits).apply(state)
    assert set(state.codecs) == set(state.clips) == {"table.weight"}
    save_model(tmp_path, state.model, state.net, codecs=state.codecs, clips=state.clips)
    state.model.load_state_dict(read_state(tmp_path, model_info(tmp_path)))
    error = (state.model().detach() - before).std() / before.std()
    assert float(error) < {8: 0.01, 4: 0.15}[bits]


def test_prune_drops_the_smallest_and_no_more() -> None:
    state = mf()
    original = {name: weight.clone() for name, weight in tables(state.model).items()}
    state = Prune(0.3).apply(state)
    for name, weight in tables(state.model).items():
        gone = weight == 0
        assert int(gone.sum()) == round(0.3 * weight.numel())
        assert torch.equal(weight[~gone], original[name][~gone])
        assert original[name][gone].abs().max() <= original[name][~gone].abs().min()
        assert state.codecs[name] == Codec(32, sparse=True)


def test_equal_weights_do_not_all_go() -> None:
    state = mf(Schema(4, 5), dim=2)
    for weight in tables(state.model).values():
        weight.fill_(1.0)
    Prune(0.5).apply(state)
    assert [int(w.count_nonzero()) for w in tables(state.model).values()] == [4, 5]


def test_a_share_too_small_for_one_weight_drops_none() -> None:
    state = Prune(0.01).apply(mf(Schema(4, 5), dim=2))
    assert all(int(w.count_nonzero()) == w.numel() for w in tables(state.model).values())


@pytest.mark.parametrize("item_bias", [False, True])
@pytest.mark.parametrize("rank", [1, 3, 8])
def test_low_rank_is_the_truncated_svd_of_all_scores(rank: int, item_bias: bool) -> None:
    state = mf(Schema(30, 20), dim=9, item_bias=item_bias)
    full = state.model.scores(torch.arange(30)).detach().double()
    left, size, right = torch.linalg.svd(full, full_matrices=False)
    expected = left[:, :rank] * size[:rank] @ right[:rank]
    small = LowRank(rank).apply(state)
    assert small.net["dim"] == rank
    got = small.model.scores(torch.arange(30)).detach().double()
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_low_rank_of_a_tiny_catalogue() -> None:
    small = LowRank(7).apply(mf(Schema(30, 4), dim=9))
    assert small.model.scores(torch.arange(30)).shape == (30, 4)
    assert small.net["dim"] == 4


def test_low_rank_says_what_is_wrong_before_anything_is_trained() -> None:
    mf_net = {"_target_": "recdistill.models.mf.MF", "dim": 16}
    with pytest.raises(InputError, match="does not shorten vectors of length 16"):
        LowRank(16).check(mf_net, [])
    with pytest.raises(InputError, match=r"of length 17 .the item bias counts"):
        LowRank(17).check({**mf_net, "item_bias": True}, [])
    with pytest.raises(InputError, match="must come before"):
        LowRank(4).check(mf_net, [Quantize(8)])
    with pytest.raises(InputError, match="has none"):
        LowRank(4).check({"_target_": "recdistill.models.popularity.Popularity"}, [])
    after = LowRank(4).check(mf_net, [])
    assert after["dim"] == 4
    with pytest.raises(InputError, match="does not shorten vectors of length 4"):
        LowRank(4).check(after, [LowRank(4)])


def test_a_graph_model_is_served_as_a_factorisation(schema: Schema, train: Interactions) -> None:
    model = LightGCN(schema, dim=3, init_std=1.0)
    model.bind(train)
    state = torch.get_rng_state()
    served = materialised(model, {"_target_": "recdistill.models.lightgcn.LightGCN", "dim": 3})
    assert torch.equal(torch.get_rng_state(), state)
    assert type(served.model) is MF
    users = torch.arange(schema.n_users)
    torch.testing.assert_close(served.model.scores(users), model.scores(users))
    assert all(p.requires_grad and not p.is_inference() for p in served.model.parameters())


def test_what_is_a_factorisation_already_stays(schema: Schema) -> None:
    state = mf(schema, item_bias=True)
    assert materialised(state.model, state.net).model is state.model

    class OwnMF(MF):
        def factors(self) -> tuple[Tensor, Tensor]:
            user, item = super().factors()
            return 2 * user, item

    own = OwnMF(schema, dim=3)
    served = materialised(own, {"_target_": "plugin.OwnMF", "dim": 3})
    torch.testing.assert_close(served.model.scores(torch.arange(2)), own.scores(torch.arange(2)))
    assert type(served.model) is MF


def test_from_factors_takes_any_precision(schema: Schema) -> None:
    user, item = torch.randn(schema.n_users, 2).double(), torch.randn(schema.n_items, 2).double()
    with torch.inference_mode():
        view = from_factors(mf(schema).model, user, item).model.scores(torch.arange(3))
    torch.testing.assert_close(view, (user[:3] @ item.T).float(), atol=1e-5, rtol=1e-5)


def test_quantized_prune_of_an_already_stored_model_changes_nothing_but_zeros(tmp_path: Path) -> None:
    """The next pass starts from the file of the one before: on the grid, without clips."""
    state = Quantize(4).apply(mf())
    written(state, tmp_path / "a")
    again = Compressed(load_model(tmp_path / "a"), state.net, dict(state.codecs))
    before = {name: weight.clone() for name, weight in tables(again.model).items()}
    written(Prune(0.4).apply(again), tmp_path / "b")
    for name, weight in tables(load_model(tmp_path / "b")).items():
        kept = weight != 0
        assert torch.equal(weight[kept], before[name][kept])


@pytest.mark.parametrize("bits", [8, 4])
def test_quantize_keeps_the_top_of_the_ranking(tmp_path: Path, bits: int) -> None:
    state = mf()
    exact = state.model.scores(torch.arange(300)).detach()
    written(Quantize(8 if bits == 8 else 4).apply(state), tmp_path)
    best = exact.topk(10).indices
    kept = scores(state, tmp_path).topk(10).indices
    overlap = sum(len(set(a) & set(b)) for a, b in zip(best.tolist(), kept.tolist(), strict=True)) / 3000
    assert overlap > (0.95 if bits == 8 else 0.65)
