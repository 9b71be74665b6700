"""What `recdistill data` prints of published texts, domains and click tables: the counts of their README.txt."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from recdistill.cli import main

SHARED = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data")

FOLDERS = {
    "amazon-instruments-reviews": (
        ["data=amazon_reviews", "data.path={}/amazon-instruments-reviews/reviews.jsonl.gz"],
        [
            "1,429 users, 900 items, 10,261 rows",
            "1: 217, 2: 250, 3: 772, 4: 2,084, 5: 6,938",
            "2004-09-18 00:00:00 UTC to 2014-07-22 00:00:00 UTC",
            "review (text), summary (text)",
        ],
    ),
    "amazon-instruments-reviews, the folder": (
        ["data=amazon_reviews", "data.path={}/amazon-instruments-reviews"],
        ["1,429 users, 900 items, 10,261 rows"],
    ),
    "amazon-office-text": (
        ["data=amazon_office", "data.path={}/amazon-office-text"],
        [
            "items listed │ 3,459",
            "valid targets │ 4,866 of 1,795 users",
            "test targets │ 4,866 of 2,024 users",
            "longest history │ 10",
            "train.csv is not there",
            "90 pairs of a user and an item bought before are targets again",
            "description (text)",
        ],
    ),
    "cdr-amazon, sport": (
        ["data=cross_domain", "data.path={}/cdr-amazon/sport_phone"],
        ["4,998 with phone_sport", "3,698 in test.txt, 0 of them on items that train lacks", "there is no valid part"],
    ),
    "cdr-amazon, phone, all last items": (
        ["data=cross_domain", "data.path={}/cdr-amazon/phone_sport", "data.test=test_original.txt"],
        ["4,998 with sport_phone", "4,998 in test_original.txt, 999 of them", "test │ 4,998 │ 4,998 │ 999"],
    ),
    "frappe": (
        ["data=frappe", "data.path={}/frappe/nfm_libfm"],
        [
            "5,328 of 5,382 (0 to 5,381)",
            "frappe.train.libfm is not there: frappe.validation.libfm is trained on",
            "train │ 57,722 │ 19,063",
            "test │ 28,860 │ 9,536",
            "2 rows occur more than once",
        ],
    ),
    "ctr-criteo-small": (
        ["data=criteo", "data.path={}/ctr-criteo-small"],
        ["1,728 of 8,000 rows (21.6%)", "train │ 7,200", "valid │ 409", "test │ 391", "empty cells │ 45,592"],
    ),
    "ctr-criteo-small, the sample": (
        ["data=criteo_sample", "data.path={}/ctr-criteo-small/criteo_sample.txt"],
        ["200 rows", "49 of 200 rows (24.5%)"],
    ),
    "ctr-avazu-small": (
        ["data=avazu", "data.path={}/ctr-avazu-small"],
        [
            "1,563 of 8,999 rows (17.4%)",
            "train │ 8,087",
            "valid │ 480",
            "test │ 432",
            "all 8,999 times are equal: no split by time is possible",
            "unseen values",
        ],
    ),
}


@pytest.fixture(autouse=True)
def _terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recdistill"])
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize("name", FOLDERS)
def test_the_counts_of_the_readme(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, expected = FOLDERS[name]
    assert main(["data", *(word.format(SHARED) for word in words)]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 100
    text = " ".join(printed.split())
    assert [part for part in expected if part not in text] == []


def test_one_hour_can_not_be_split_by_time(capsys: pytest.CaptureFixture[str]) -> None:
    path = f"data.path={SHARED}/ctr-avazu-small"
    assert main(["data", "data=avazu", path, "data/split=global_temporal"]) == 2
    assert "data.split" in capsys.readouterr().err


def test_a_table_can_not_be_ranked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "data=criteo", f"data.path={SHARED}/ctr-criteo-small"]) == 2
    said = capsys.readouterr().err
    assert "without users and items to rank" in said
    assert "task=ctr" in said
