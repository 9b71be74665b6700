"""S7: named members only, nothing outside of the folder, no more than a cap."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from recdistill.data import archives
from recdistill.data.archives import safe_name, unpack
from recdistill.errors import InputError

LOG = b"user,item\n1,2\n"
Make = Callable[[Path, dict[str, bytes]], Path]


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def make_tar(path: Path, members: dict[str, bytes], *special: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as file:
        for info in special:
            file.addfile(info)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


KINDS: list[tuple[str, Make]] = [("a.zip", make_zip), ("a.tar", make_tar), ("a.tar.gz", make_tar), ("a.tgz", make_tar)]
every_kind = pytest.mark.parametrize(("name", "make"), KINDS)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@every_kind
def test_named_members_and_no_others(name: str, make: Make, tmp_path: Path, out: Path) -> None:
    made = make(tmp_path / name, {"x/log.csv": LOG, "x/other.csv": b"no", "x/deep/README": b"read"})
    assert sorted(unpack(made, ["x/log.csv", "x/deep/README"], out)) == [out / "README", out / "log.csv"]
    assert {file.name: file.read_bytes() for file in out.iterdir()} == {"log.csv": LOG, "README": b"read"}


def test_the_one_file_of_a_gz(tmp_path: Path, out: Path) -> None:
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(LOG))
    assert unpack(tmp_path / "log.csv.gz", ["ratings.csv"], out) == [out / "ratings.csv"]
    assert (out / "ratings.csv").read_bytes() == LOG
    with pytest.raises(InputError, match="no archive with 2 members"):
        unpack(tmp_path / "log.csv.gz", ["a", "b"], out)


@every_kind
@pytest.mark.parametrize("bad", ["../evil", "/tmp/evil", "x/../../evil", "..\\evil", "C:\\evil"])
def test_a_path_that_leads_out(name: str, make: Make, bad: str, tmp_path: Path, out: Path) -> None:
    """Also where that member was not asked for: an honest archive has none."""
    made = make(tmp_path / name, {bad: b"evil", "x/log.csv": LOG})
    for members in (["x/log.csv"], [bad]):
        with pytest.raises(InputError, match=r"leads out of the folder|no name of a file"):
            unpack(made, members, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "out"]
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar(kind: bytes, tmp_path: Path, out: Path) -> None:
    link = tarfile.TarInfo("x/log.csv")
    link.type, link.linkname = kind, "/etc/passwd"
    made = make_tar(tmp_path / "a.tar.gz", {"other": LOG}, link)
    for members in (["x/log.csv"], ["other"]):
        with pytest.raises(InputError, match="link or a device"):
            unpack(made, members, out)
    assert list(out.iterdir()) == []


def test_a_link_in_a_zip(tmp_path: Path, out: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        info = zipfile.ZipInfo("log.csv")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match="is a link"):
        unpack(tmp_path / "a.zip", ["log.csv"], out)


@every_kind
def test_a_bomb(name: str, make: Make, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LEAST", 1000)
    monkeypatch.setattr(archives, "CHUNK", 1 << 16)
    monkeypatch.setattr(archives, "RATIO", 100 if name.endswith(("zip", "gz")) else 0)
    made = make(tmp_path / name, {"x/log.csv": bytes(20_000_000)})
    with pytest.raises(InputError, match=r"unpacks to more than"):
        unpack(made, ["x/log.csv"], out)
    assert sum(file.stat().st_size for file in out.iterdir()) <= 20_000_000 // 4


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz"])
def test_a_bomb_beside_the_member(name: str, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is passed over in a tar has to be unpacked too."""
    monkeypatch.setattr(archives, "LEAST", 1000)
    made = make_tar(tmp_path / name, {"bomb": bytes(20_000_000), "x/log.csv": LOG})
    with pytest.raises(InputError, match="unpacks to more than"):
        unpack(made, ["x/log.csv"], out)


def test_a_gz_bomb(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LEAST", 1000)
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(20_000_000)))
    with pytest.raises(InputError, match="unpacks to more than"):
        unpack(tmp_path / "a.gz", ["log"], out)


def test_a_small_file_may_be_well_compressed(tmp_path: Path, out: Path) -> None:
    made = make_zip(tmp_path / "a.zip", {"log": bytes(900_000)})
    assert made.stat().st_size * archives.RATIO < 900_000
    assert unpack(made, ["log"], out)[0].stat().st_size == 900_000


@every_kind
def test_damaged_or_without_the_member(name: str, make: Make, tmp_path: Path, out: Path) -> None:
    made = make(tmp_path / name, {"x/log.csv": LOG * 5000})
    with pytest.raises(InputError, match=r"no member 'log\.csv'"):
        unpack(made, ["log.csv"], out)
    content = made.read_bytes()
    made.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"damaged|no member"):
        unpack(made, ["x/log.csv"], out)
    made.write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match=r"damaged|no member"):
        unpack(made, ["x/log.csv"], out)


def test_names_that_meet(tmp_path: Path, out: Path) -> None:
    made = make_zip(tmp_path / "a.zip", {"x/log": LOG, "y/log": LOG})
    with pytest.raises(InputError, match="one name"):
        unpack(made, ["x/log", "y/log"], out)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(made, "a") as file:
        file.writestr("x/log", "other")
    with pytest.raises(InputError, match="there twice"):
        unpack(made, ["x/log"], out)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a\nb", "\x1b[2Jx"])
def test_no_name_of_a_file(name: str) -> None:
    with pytest.raises(InputError, match="no name"):
        safe_name(name)
