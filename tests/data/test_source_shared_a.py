"""What `recdistill data` prints of the published folders: the counts that their README.txt states."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from recdistill.cli import main
from recdistill.data.prepare import prepare

CONF = Path(__file__).parents[2] / "conf"
SHARED = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data")

FOLDERS = {
    "gowalla": (
        ["data=gowalla", "data.path={}/gowalla"],
        [
            "29,858 users, 40,981 items, 1,027,370 rows",
            "719,081 train + 91,047 valid + 217,242 test; train and valid 810,128",
            "0 users, 2 items",
            "2 outside train",
        ],
    ),
    "ml-1m as adjacency": (
        ["data=lightgcn", "data.path={}/ml-1m/lightgcn_split"],
        ["6,040 users, 3,706 items, 1,000,209 rows", "797,758 train + 202,451 test", "there is no valid part"],
    ),
    "ml-1m": (
        ["data=ml1m", "data.path={}/ml-1m"],
        [
            "6,040 users, 3,706 items, 1,000,209 rows",
            "1: 56,174, 2: 107,557, 3: 261,197, 4: 348,971, 5: 226,310",
            "films listed │ 3,883",
            "users listed │ 6,040",
            "20,782 triples, 7 relations",
            "items in the graph │ 2,347",
            "genres (multi)",
            "the folds hold no times",
        ],
    ),
    "ml-1m, fold 5": (
        ["data=ml1m", "data.path={}/ml-1m", "data.fold=5", "data/split=given"],
        ["1,000,209 rows", "test │ 200,041", "train │ 800,168"],
    ),
    "citeulike-a": (
        ["data=citeulike_a", "data.path={}/citeulike-a"],
        [
            "5,551 users, 16,980 items, 204,986 rows",
            "tags │ 46,391",
            "item-tag links │ 239,253",
            "citation links │ 89,418",
        ],
    ),
    "lastfm-hetrec": (
        ["data=lastfm", "data.path={}/lastfm-hetrec"],
        [
            "1,892 users, 17,632 items, 92,834 rows",
            "1 to 352698",
            "tag assignments │ 186,479",
            "25,434 rows, 12,717 pairs",
            "15,518 triples, 60 relations",
            "5 tag assignments are dated before 2005 (1956, 1957, 1979)",
            "median 260, highest 352,698; 1% of the pairs have 29% of all plays",
        ],
    ),
    "lastfm-hetrec, given split": (
        ["data=lastfm_split", "data.path={}/lastfm-hetrec/lightgcn_split"],
        ["1,880 users, 4,489 items, 52,668 rows", "train │ 42,135", "test │ 10,530", "left out: 3 × user without"],
    ),
    "ml-100k": (
        ["data=ml100k", "data.path={}/ml-100k"],
        [
            "943 users, 1,682 items, 100,000 rows",
            "1997-09-20",
            "1998-04-22",
            "91,631 triples, 24 relations, 34,628 entities",
            "items linked to the graph │ 1,598",
        ],
    ),
    "citeulike-loo, topology": (
        ["data=citeulike", "data.path={}/citeulike-loo/topology"],
        ["5,219 users, 25,181 items, 125,580 rows", "train │ 115,142", "test │ 5,219"],
    ),
    "citeulike-loo, derrd": (
        ["data=citeulike", "data.path={}/citeulike-loo/derrd"],
        ["5,219 users, 25,181 items, 125,580 rows", "train │ 115,142", "test │ 5,219"],
    ),
    "amazon-beauty-seq": (
        ["data=beauty", "data.path={}/amazon-beauty-seq"],
        ["22,363 users, 12,101 items, 198,502 rows", "attributes │ 637", "5 to 204 items", "test │ 22,363"],
    ),
    "tiktok-mm": (
        ["data=tiktok", "data.path={}/tiktok-mm"],
        [
            "9,308 users, 6,710 items, 68,722 rows",
            # 3,051 and 6,130 pairs, less those of users without training history.
            "train │ 59,541",
            "valid │ 3,046",
            "test │ 6,125",
            "left out: 5 × user without training history (valid), 5 × user without training history (test)",
            "image (vector), audio (vector)",
        ],
    ),
}


def test_vectors_are_those_of_the_item(tmp_path: Path) -> None:
    folder = SHARED / "tiktok-mm"
    (tmp_path / "config.yaml").write_text(
        f"defaults:\n  - data: tiktok\n  - _self_\nhydra:\n  searchpath: ['file://{CONF}']\n"
    )
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        data = compose("config", [f"data.path={folder}"]).data
    dataset = prepare(*(instantiate(data[name]) for name in ("source", "filters", "split")))
    for name in ("image", "audio"):
        expected = np.load(folder / f"{name}_feat.npy", allow_pickle=False)[dataset.items.astype(int)]
        assert np.array_equal(dataset.item_features.vector[name].numpy(), expected.astype(np.float32))


@pytest.mark.parametrize("name", FOLDERS)
def test_the_counts_of_the_readme(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words, expected = FOLDERS[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recdistill"])
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["data", *(word.format(SHARED) for word in words)]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 100
    text = " ".join(printed.split())
    assert [part for part in expected if part not in text] == []
