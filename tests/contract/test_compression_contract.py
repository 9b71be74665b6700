"""Every compression pass through the same trials."""

from __future__ import annotations

from pathlib import Path

import torch
from contract_kit import (
    all_scores,
    board,
    check_header,
    every,
    good_mf,
    node,
    problems,
    recovery,
    train_model,
)

from recdistill.compression.base import Compressed, CompressionPass, constrain, release
from recdistill.export.bundle import WEIGHTS, load_model, save_model
from recdistill.models.build import instantiate
from recdistill.models.fit import Fit
from recdistill.tasks.objectives import Softmax

NET = {"_target_": "recdistill.models.mf.MF", "dim": 12, "init_std": 0.1}


def write(state: Compressed, folder: Path) -> int:
    save_model(folder, state.model, state.net, codecs=state.codecs, clips=state.clips)
    return (folder / WEIGHTS).stat().st_size


def compressed(option: str) -> Compressed:
    step = instantiate(node("compression", option)[option])
    assert isinstance(step, CompressionPass)
    return step.apply(Compressed(good_mf(), NET))


@every("compression")
class TestPass:
    def test_composes_and_binds(self, option: str) -> None:
        check_header("compression", option)
        assert problems("compression", option) == []
        assert list(node("compression", option)) == [option], "one key, named as the file, so that lists merge"

    def test_the_file_is_smaller_and_ranks_as_well(self, option: str, tmp_path: Path) -> None:
        before = write(Compressed(good_mf(), NET), tmp_path / "before")
        after = write(compressed(option), tmp_path / "after")
        if node("compression", option)[option].get("finetune"):  # it says itself that it needs one: see below
            assert after <= 1.02 * before  # tables of this size may be left as they are
            return
        assert after < 0.9 * before
        again = all_scores(load_model(tmp_path / "after"))
        full = recovery(all_scores(good_mf()))
        assert recovery(again) > full - 0.1

    def test_is_a_function_of_the_model(self, option: str, tmp_path: Path) -> None:
        state = torch.get_rng_state()
        for name in ("a", "b"):
            write(compressed(option), tmp_path / name)
        assert torch.equal(torch.get_rng_state(), state)
        assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()

    def test_what_was_fine_tuned_is_what_is_stored(self, option: str, tmp_path: Path) -> None:
        state = compressed(option)
        small = write(state, tmp_path / "plain")
        constrain(state)
        losses = train_model(state.model, Softmax(), Fit(lr=0.02, batch_size=64), 20)
        assert losses[-1] < losses[0] * 1.05
        seen = all_scores(state.model)
        release(state.model)
        assert write(state, tmp_path / "tuned") <= small * 1.02
        again = load_model(tmp_path / "tuned", board().train)
        assert torch.equal(all_scores(again), seen)
        if not node("compression", option)[option].get("finetune"):  # the board is too small for tables of shared rows
            assert recovery(seen) > 0.9
