"""MovieLens releases as they are downloaded, and its folds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from recdistill.data.filters import Filters
from recdistill.data.prepare import prepare
from recdistill.data.sources.movielens import MovieLens
from recdistill.data.splits import GivenSplit, GlobalTemporal
from recdistill.errors import InputError

MOVIES = (
    "1::Toy Story (1995)::Animation|Comedy\n7::Misérables, Les (1995)::Drama\n9::Alone (2000)::(no genres listed)\n"
)
USERS = "1::F::1::10::48067\n2::M::56::16::70072-01\n"
FILES_1M = {
    "ratings.dat": "1::1::5::978300760\n1::7::3.5::978302109\n2::7::4::978299000\n",
    "movies.dat": MOVIES,
    "users.dat": USERS,
}
FLAGS = {"1": [3, 5], "7": [8], "9": [0]}
FILES_100K = {
    "u.data": "1\t1\t5\t881250949\n1\t7\t3\t891717742\n2\t7\t4\t878887116\n",
    "u.item": "".join(
        f"{item}|Film é {item}|01-Jan-1995||http://x|{'|'.join(str(int(n in on)) for n in range(19))}\n"
        for item, on in FLAGS.items()
    ),
    "u.user": "1|24|M|technician|85711\n2|53|F|other|94043\n",
}
FILES_CSV = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,1,5.0,964982703\n1,7,3.5,964981247\n2,7,4.0,964982224\n",
    "movies.csv": 'movieId,title,genres\n1,Toy Story (1995),Animation|Comedy\n7,"Misérables, Les",Drama\n'
    "9,Alone (2000),(no genres listed)\n",
}
FOLDS = {f"folds/test_1m{fold}.dat": f"1,{fold},{fold}\n2,{fold + 1},3\n" for fold in range(1, 6)}


def folder(where: Path, files: dict[str, str], encoding: str = "utf-8") -> str:
    for name, text in files.items():
        (where / name).parent.mkdir(exist_ok=True)
        (where / name).write_bytes(text.encode(encoding))
    return str(where)


def refused(where: Path, files: dict[str, str], **arguments: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        MovieLens(folder(where, files), **arguments).read()
    assert caught.value.where
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_1m_as_downloaded(tmp_path: Path, encoding: str) -> None:
    log = MovieLens(folder(tmp_path, FILES_1M, encoding)).read()
    assert log.events.columns == ["user", "item", "value", "time"]
    assert log.events.rows() == [("1", "1", 5.0, 978300760), ("1", "7", 3.5, 978302109), ("2", "7", 4.0, 978299000)]
    assert log.items is not None
    assert log.items.rows() == [
        ("1", "Toy Story (1995)", ["Animation", "Comedy"]),
        ("7", "Misérables, Les (1995)", ["Drama"]),
        ("9", "Alone (2000)", []),
    ]
    assert log.users is not None
    assert log.users.rows() == [("1", "F", "1", "10", "48067"), ("2", "M", "56", "16", "70072-01")]
    assert set(log.kinds["user"].values()) == {"categorical"}
    assert log.kinds["item"] == {"genres": "multi"}
    assert log.facts == {"films listed": 3, "users listed": 2}
    assert log.warnings == []


def test_100k_as_downloaded(tmp_path: Path) -> None:
    log = MovieLens(folder(tmp_path, FILES_100K, "latin-1")).read()
    assert log.events.rows()[0] == ("1", "1", 5.0, 881250949)
    assert log.items is not None
    assert log.items.rows() == [
        ("1", "Film é 1", ["Animation", "Comedy"]), ("7", "Film é 7", ["Drama"]), ("9", "Film é 9", []),
    ]  # fmt: skip
    assert log.users is not None
    assert log.users.select("user", "age", "gender", "occupation", "zip").rows() == [
        ("1", 24.0, "M", "technician", "85711"), ("2", 53.0, "F", "other", "94043"),
    ]  # fmt: skip
    assert log.kinds["user"]["age"] == "numeric"


def test_csv_as_downloaded(tmp_path: Path) -> None:
    log = MovieLens(folder(tmp_path, FILES_CSV)).read()
    assert log.events.rows()[1] == ("1", "7", 3.5, 964981247)
    assert log.items is not None
    assert log.items.rows() == [
        ("1", "Toy Story (1995)", ["Animation", "Comedy"]), ("7", "Misérables, Les", ["Drama"]),
        ("9", "Alone (2000)", []),
    ]  # fmt: skip
    assert log.users is None


def test_ratings_alone(tmp_path: Path) -> None:
    for number, files in enumerate((FILES_1M, FILES_100K, FILES_CSV)):
        name = next(iter(files))
        where = tmp_path / str(number)
        where.mkdir()
        log = MovieLens(folder(where, {name: files[name]})).read()
        assert log.events.height == 3
        assert log.items is log.users is None


def test_folds(tmp_path: Path) -> None:
    path = folder(tmp_path, FOLDS | {"movies.dat": MOVIES})
    whole = MovieLens(path).read()
    assert whole.events.height == 10
    assert "part" not in whole.events.columns
    assert whole.warnings == [
        "5 films of the ratings are not listed: nothing else is known of them",
        "the folds hold no times: a split by time needs ratings.dat of the release",
    ]
    tests = []
    for fold in range(1, 6):
        log = MovieLens(path, fold).read()
        assert set(log.events["part"]) == {0, 2}
        tests.append(log.events.filter(log.events["part"] == 2).drop("part"))
        assert tests[-1].rows() == [("1", str(fold), float(fold)), ("2", str(fold + 1), 3.0)]
    assert sorted(row for test in tests for row in test.rows()) == sorted(whole.events.rows())
    assert len({MovieLens(path, fold).fingerprint() for fold in (None, 1, 2)}) == 3


def test_folds_of_100k_have_times(tmp_path: Path) -> None:
    files = {f"u{fold}.test": f"1\t{fold}\t3\t{fold}\n" for fold in range(1, 6)}
    log = MovieLens(folder(tmp_path, FILES_100K | files), 2).read()
    assert log.events.filter(log.events["part"] == 2).rows() == [("1", "2", 3.0, 2, 2)]
    assert log.events.height == 5
    assert MovieLens(str(tmp_path)).read().events.height == 3


def test_what_is_not_there(tmp_path: Path) -> None:
    assert "there is nothing" in str(refused(tmp_path, {}).why)
    error = refused(tmp_path, FILES_1M, fold=3)
    assert error.where == "data.fold"
    assert error.what.startswith("no fold 3 in")
    del (missing := dict(FOLDS))["folds/test_1m4.dat"]
    assert "test_1m4.dat" in refused(tmp_path, missing, fold=3).what
    with pytest.raises(InputError, match="no file"):
        MovieLens(str(tmp_path / "nothing")).fingerprint()


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"ratings.dat": "1::1::5::9\n1::1::5\n"}, "ratings.dat:2"),
        ({"ratings.dat": "1::1::five::9\n"}, "ratings.dat:1:value"),
        ({"movies.dat": "1::A::Drama\n1::B::Drama\n"}, "movies.dat:2:item"),
        ({"users.dat": "1::F::1\n"}, "users.dat:1"),
    ],
)
def test_bad_lines(tmp_path: Path, change: dict[str, str], where: str) -> None:
    assert refused(tmp_path, FILES_1M | change).where == f"{tmp_path}/{where}"


def test_bad_lines_of_100k(tmp_path: Path) -> None:
    bad = FILES_100K["u.item"].replace("7|Film", "7|A|Film")
    assert refused(tmp_path, FILES_100K | {"u.item": bad}).where == f"{tmp_path}/u.item:2"
    bad = FILES_100K["u.item"].replace("|1|0", "|2|0", 1)
    assert refused(tmp_path, FILES_100K | {"u.item": bad}).where == f"{tmp_path}/u.item:1:item"
    error = refused(tmp_path, FILES_100K | {"u.user": "1|old|M|x|1\n"})
    assert error.where == f"{tmp_path}/u.user:1:age"


def test_the_order_of_lines_has_no_say(tmp_path: Path) -> None:
    draw = random.Random(0)
    rows = [
        f"{user}::{item}::{(user * item) % 5 + 1}::{1000 + user * 31 + item * 7}"
        for user in range(9)
        for item in range(8)
    ]
    found = []
    for turn in range(2):
        where = tmp_path / str(turn)
        where.mkdir()
        path = folder(where, {"ratings.dat": "\n".join(rows), "movies.dat": MOVIES, "users.dat": USERS})
        found.append(prepare(MovieLens(path), Filters(), GlobalTemporal()))
        draw.shuffle(rows)
    assert found[0].fingerprint == found[1].fingerprint
    assert found[0].manifest["parts"] == found[1].manifest["parts"]


def test_fold_is_the_test_part(tmp_path: Path) -> None:
    dataset = prepare(MovieLens(folder(tmp_path, FOLDS), 2), Filters(), GivenSplit())
    assert len(dataset.train) == 8
    assert sorted(dataset.items[dataset.test.item.numpy()]) == ["2", "3"]
