"""Models that look at features are served without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from recdistill.compression.base import materialised, tables
from recdistill.compression.quantize import Quantize
from recdistill.data.features import Features, sizes_of
from recdistill.data.interactions import Interactions, Schema
from recdistill.export.bundle import load_model, save_model
from recdistill.models.base import FactorModel, SequenceModel
from recdistill.models.build import build
from recdistill.models.mf import MF

HISTORY = torch.tensor([[1, 2, 3], [4, 17, 17]])
NETS: dict[str, dict[str, Any]] = {
    "mf": {"_target_": "recdistill.models.mf.MF", "dim": 4, "fusion": "gate", "item_bias": True, "init_std": 0.5},
    "vbpr": {"_target_": "recdistill.models.vbpr.VBPR", "dim": 4, "content_dim": 3, "features": ["text"]},
    "freedom": {"_target_": "recdistill.models.freedom.FREEDOM", "dim": 4},
    "sasrec": {"_target_": "recdistill.models.sasrec.SASRec", "dim": 4, "fusion": "features", "adapter": 3},
    "bert4rec": {"_target_": "recdistill.models.bert4rec.BERT4Rec", "dim": 4, "fusion": "attention"},
    "gru4rec": {"_target_": "recdistill.models.gru4rec.GRU4Rec", "dim": 4, "fusion": "concat", "features": ["text"]},
}


def answers(model: Any) -> torch.Tensor:
    with torch.no_grad():
        if isinstance(model, SequenceModel):
            return model.query(HISTORY) @ model.item_matrix().T
        assert isinstance(model, FactorModel)
        return model.scores(torch.arange(12))


@pytest.mark.parametrize("name", NETS)
def test_without_features_the_answers_stay(train: Interactions, tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    vectors = {key: torch.randn(train.n_items, 5) for key in ("text", "image")}
    given = replace(train, item_features=Features(vector=vectors))
    schema = Schema(train.n_users, train.n_items, max_length=3, item_features=sizes_of(given.item_features))
    model = build(NETS[name], schema)
    model.bind(given)
    model.eval()
    random = torch.get_rng_state()
    state = materialised(model, NETS[name])
    assert torch.equal(torch.get_rng_state(), random)
    torch.testing.assert_close(answers(state.model), answers(model))
    assert not {"fusion", "features", "adapter"} & state.net.keys()
    save_model(tmp_path / "plain", state.model, state.net)
    again = load_model(tmp_path / "plain")  # no training part: nothing to take features from
    torch.testing.assert_close(answers(again), answers(model))
    again.bind(train)
    assert {"item.weight"} == {key for key in tables(again) if key.startswith("item")}
    assert ("bias" in again.state_dict()) == bool(NETS[name].get("item_bias") or name == "bert4rec")
    rounded = Quantize(bits=8).apply(materialised(model, NETS[name]))
    save_model(tmp_path / "rounded", rounded.model, rounded.net, codecs=rounded.codecs, clips=rounded.clips)
    close = answers(load_model(tmp_path / "rounded"))
    assert torch.corrcoef(torch.stack([close.flatten(), answers(model).flatten()]))[0, 1] > 0.99


def test_a_plain_factorisation_stays_itself(schema: Schema) -> None:
    model, net = MF(schema, dim=4), {"_target_": "recdistill.models.mf.MF", "dim": 4}
    assert materialised(model, net).model is model
