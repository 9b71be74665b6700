"""Last.fm of HetRec: play counts, tags, friends."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.data.filters import Filters
from recdistill.data.prepare import prepare
from recdistill.data.sources.hetrec import LastFM
from recdistill.data.splits import RandomSplit
from recdistill.errors import InputError

FILES = {
    "user_artists.dat": "userID\tartistID\tweight\n2\t51\t13883\n2\t52\t10\n3\t51\t1\n",
    "artists.dat": 'id\tname\turl\tpictureURL\n51\tDuran "Duran"\thttp://x\t\n52\tBjörk\thttp://y\tz\n',
    "tags.dat": "tagID\ttagValue\n1\tmetal\n2\tchanson française\n3\tnever used\n",
    "user_taggedartists.dat": "userID\tartistID\ttagID\tday\tmonth\tyear\n"
    "2\t52\t1\t1\t4\t2009\n3\t52\t1\t1\t4\t2010\n3\t52\t2\t1\t6\t1956\n2\t99\t2\t1\t6\t2011\n2\t51\t7\t1\t6\t1979\n",
    "user_friends.dat": "userID\tfriendID\n2\t3\n3\t2\n2\t9\n9\t2\n",
}


def folder(where: Path, **changes: str) -> Path:
    for name, text in FILES.items():
        text = changes.get(name.removesuffix(".dat"), text)
        (where / name).write_bytes(text.encode("latin-1" if name == "tags.dat" else "utf-8"))
    return where


def test_what_is_read(tmp_path: Path) -> None:
    log = LastFM(str(folder(tmp_path))).read()
    assert log.events.rows() == [("2", "51", 13883.0), ("2", "52", 10.0), ("3", "51", 1.0)]
    assert log.items is not None
    assert log.items.rows() == [("51", 'Duran "Duran"', None), ("52", "Björk", ["chanson française", "metal"])]
    assert log.users is not None
    assert log.users.rows() == [("2", ["3", "9"]), ("3", ["2"]), ("9", ["2"])]
    assert log.facts == {
        "tail of play counts": "median 10, highest 13,883; 1% of the pairs have 100% of all plays",
        "artists listed": 2,
        "tags": 3,
        "tag assignments": 5,
        "friends": "4 rows, 2 pairs",
    }
    assert log.warnings == [
        "2 tag assignments are dated before 2005 (1956, 1979): no date of a tag is used",
        "tags are given to 1 artists that artists.dat does not list: not used",
        "1 tag assignments are of tags that tags.dat does not list: not used",
    ]


def test_an_artist_without_a_listing(tmp_path: Path) -> None:
    log = LastFM(str(folder(tmp_path, artists="id\tname\turl\tpictureURL\n52\tB\tu\tp\n"))).read()
    assert "1 artists are listened to and not listed: they have no title" in log.warnings


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"user_artists": "userID\tartistID\tweight\n2\t51\tmany\n"}, "user_artists.dat:2:value"),
        ({"user_artists": "2\t51\t3\n"}, "user_artists.dat:1"),
        ({"user_artists": "userID\tartistID\tweight\n2\t51\n"}, "user_artists.dat:2"),
        ({"artists": "id\tname\turl\tpictureURL\n51\ta\t\t\n51\tb\t\t\n"}, "artists.dat:3:item"),
        ({"user_taggedartists": "userID\tartistID\ttagID\tday\tmonth\tyear\n2\t51\t1\t1\t1\tx\n"},
         "user_taggedartists.dat:2:year"),
    ],
)  # fmt: skip
def test_bad_lines(tmp_path: Path, changes: dict[str, str], where: str) -> None:
    with pytest.raises(InputError) as caught:
        LastFM(str(folder(tmp_path, **changes))).read()
    assert caught.value.where == f"{tmp_path}/{where}"
    assert caught.value.fix


def test_the_order_of_lines_has_no_say(tmp_path: Path) -> None:
    plays = [f"{user}\t{item}\t{user * 100 + item}" for user in range(8) for item in range(51, 59)]
    found = []
    for step in (1, -1):
        log = folder(tmp_path, user_artists="\n".join(["userID\tartistID\tweight", *plays[::step]]))
        head, *tagged = FILES["user_taggedartists.dat"].strip().split("\n")
        (log / "user_taggedartists.dat").write_text("\n".join([head, *tagged[::step]]))
        found.append(prepare(LastFM(str(log)), Filters(), RandomSplit()))
    assert found[0].fingerprint == found[1].fingerprint
    assert (
        found[0].item_features.multi["tags"].indices.tolist() == found[1].item_features.multi["tags"].indices.tolist()
    )
