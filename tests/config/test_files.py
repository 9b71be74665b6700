"""S5 and S6: what a config file must not hold; and what ``ls`` shows of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mini_conf import write_tree
from recdistill.config import secrets
from recdistill.config.listing import describe, groups, render_all, render_group
from recdistill.config.locate import Sources
from recdistill.config.yaml_safety import scan_folders
from recdistill.errors import InputError

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 20))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x: !!python/object/apply:os.system [id]\n", "python/object"),
        ("x: !mine {a: 1}\n", "!mine"),
        ("a: &a {b: *a}\n", "holds itself"),
        ("a: [1\nb: 2\n", "x.yaml:2:2"),
        ("a: " + "[" * 5000, "x.yaml"),
        ("hydra: {searchpath: ['file:///x']}\n", "search path"),
        ("x: '" + "a" * 1_100_000 + "'\n", "1,000,000"),
        (BOMB, "expand to"),
    ],
)
def test_refused_at_once(text: str, expected: str, tmp_path: Path) -> None:
    write_tree(tmp_path, {"data/x.yaml": text})
    start = time.process_time()
    with pytest.raises(InputError, match=r"config file|tag|alias") as error:
        scan_folders([tmp_path])
    assert expected in str(error.value)
    assert time.process_time() - start < 10  # a bound on what multiplies; other tests' heaps slow it


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes("a: ü".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        scan_folders([tmp_path])


def test_plain_files_pass(sources: Sources, tmp_path: Path) -> None:
    write_tree(tmp_path / "m", {"a.yaml": "x: &x {y: 1}\nz: [*x, *x]\nd: 2020-01-01\n", "b.yaml": ""})
    assert scan_folders([sources.conf, tmp_path / "m"]) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("logger.wandb.api_key", "0123456789"),
        ("db.password", "hunter2"),
        ("data.path", "https://user:hunter2@host/x.csv"),
        ("a.b", "the canary-of-the-environment is here"),
    ],
)
def test_secret_refused_and_not_repeated(key: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "canary-of-the-environment")
    with pytest.raises(InputError, match="secret") as error:
        secrets.refuse_secrets(value, key)
    assert value not in str(error.value)
    assert "hunter2" not in secrets.redact(f"{key}=https://u:hunter2@h {'canary-of-the-environment'}")
    assert "canary" not in secrets.redact("x canary-of-the-environment y")


def test_no_secret() -> None:
    plain = {"tokens": 3, "api_key": "${oc.env:X}", "url": "https://host/a:b@c", "secret": None}
    assert secrets.refuse_secrets(plain) is None


def test_groups_winner_first(sources: Sources, tmp_path: Path) -> None:
    mine = write_tree(tmp_path / "m", {"student/mf.yaml": "# Mine\nx: 1\n", "new/a.yaml": "x: 1\n"})
    found = groups((mine, sources.conf))
    assert describe(found["student"]["mf"]) == "Mine"
    assert "experiment/paper" in found
    assert "new" in found
    assert not any(group.startswith("hydra") for group in found)


def test_listing_text(sources: Sources) -> None:
    assert "  soft_label  Soft labels" in render_all(sources.folders)
    assert "rrd  A paper" in render_group(sources.folders, "experiment")
    with pytest.raises(InputError, match="did you mean distiller"):
        render_group(sources.folders, "distiler")


def test_description_cannot_steer_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("# a \x1b[31mred\n", encoding="utf-8")
    assert "\x1b" not in describe(file)
