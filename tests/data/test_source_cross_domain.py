"""One domain of a pair with shared users."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.data.filters import Filters
from recdistill.data.interactions import Dataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.cross_domain import CrossDomain
from recdistill.data.splits import GivenSplit
from recdistill.errors import InputError


def pair(root: Path) -> Path:
    """Sport of users 0, 1 and 2; phone of users 0, 1 and 5."""
    for name, train, test, original in (
        ("sport_phone", "0\t10\t1\n1\t10\t1\n1\t11\t1\n2\t12\t1\n", "0\t11\t1\n", "0\t11\t1\n1\t13\t1\n"),
        ("phone_sport", "0\t0\t1\n1\t1\t1\n5\t1\t1\n", "0\t1\t1\n", "0\t1\t1\n"),
    ):
        folder = root / name
        folder.mkdir()
        for file, text in (("train.txt", train), ("test.txt", test), ("test_original.txt", original)):
            (folder / file).write_text(text)
    return root / "sport_phone"


def test_one_domain_is_read_and_the_other_counted(tmp_path: Path) -> None:
    log = CrossDomain(str(pair(tmp_path))).read()
    assert log.events.rows() == [
        ("0", "10", 1.0, 0),
        ("1", "10", 1.0, 0),
        ("1", "11", 1.0, 0),
        ("2", "12", 1.0, 0),
        ("0", "11", 1.0, 2),
    ]
    assert log.facts == {
        "test pairs": "1 in test.txt, 0 of them on items that train lacks",
        "shared users": "2 with phone_sport",
    }


def test_the_original_test_keeps_unknown_items(tmp_path: Path) -> None:
    source = CrossDomain(str(pair(tmp_path)), test="test_original.txt")
    assert source.read().facts["test pairs"] == "2 in test_original.txt, 1 of them on items that train lacks"
    dataset = prepare(source, Filters(), GivenSplit())
    assert isinstance(dataset, Dataset)
    assert dataset.report["parts"]["test"] == {"rows": 2, "users": 2, "cold_rows": 1, "cold_items": 1}


def test_a_single_domain_will_do(tmp_path: Path) -> None:
    folder = pair(tmp_path)
    both = CrossDomain(str(folder)).fingerprint()
    folder = folder.rename(tmp_path / "sport")
    source = CrossDomain(str(folder))
    assert "shared users" not in source.read().facts
    assert source.fingerprint() != both


def test_the_path_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pair(tmp_path))
    assert CrossDomain(".").read().facts["shared users"] == "2 with phone_sport"


def test_the_folder_of_both_is_refused(tmp_path: Path) -> None:
    pair(tmp_path)
    source = CrossDomain(str(tmp_path))
    for attempt in (source.read, source.fingerprint):
        with pytest.raises(InputError, match="both domains") as caught:
            attempt()
        assert f"data.path={tmp_path}/phone_sport" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("text", "where"), [("0\t1\n", ":1"), ("0\t1\tx\n", ":1:value"), ("0\t1\t1\n\t2\t1\n", ":2:user")]
)
def test_a_bad_row_is_named(tmp_path: Path, text: str, where: str) -> None:
    folder = pair(tmp_path)
    (folder / "test.txt").write_text(text)
    with pytest.raises(InputError) as caught:
        CrossDomain(str(folder)).read()
    assert str(caught.value.where).endswith(f"test.txt{where}")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*tset\.txt"):
        CrossDomain(str(pair(tmp_path)), test="tset.txt").read()
    with pytest.raises(InputError):
        CrossDomain(str(tmp_path / "nothing")).read()


def test_the_order_of_lines_has_no_say(tmp_path: Path) -> None:
    folder = pair(tmp_path)
    first = prepare(CrossDomain(str(folder)), Filters(), GivenSplit()).fingerprint
    lines = (folder / "train.txt").read_text().splitlines(keepends=True)
    (folder / "train.txt").write_text("".join(reversed(lines)))
    assert prepare(CrossDomain(str(folder)), Filters(), GivenSplit()).fingerprint == first


def test_some_items_of_each_user_validate_whatever_their_order(tmp_path: Path) -> None:
    folder = pair(tmp_path)
    pairs = [(user, item) for user in range(9) for item in range(user)]
    (folder / "train.txt").write_text("".join(f"{user}\t{item}\t1\n" for user, item in pairs))
    drawn = []
    for text in (pairs, pairs[::-1]):
        (folder / "train.txt").write_text("".join(f"{user}\t{item}\t1\n" for user, item in text))
        events = CrossDomain(str(folder), valid=2).read().events
        drawn.append({(user, item) for user, item, _, part in events.rows() if part == 1})
        assert len(events) == len(pairs) + 1
    assert drawn[0] == drawn[1]
    counts = {user: sum(owner == str(user) for owner, _ in drawn[0]) for user in range(9)}
    assert counts == {user: 2 if user >= 4 else 0 for user in range(9)}
    assert CrossDomain(str(folder), valid=2).fingerprint() != CrossDomain(str(folder)).fingerprint()
