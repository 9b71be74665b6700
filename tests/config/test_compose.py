"""Errors of composition: what is offered instead of Hydra's "+key"."""

from __future__ import annotations

from pathlib import Path

import pytest

from mini_conf import write_tree
from recdistill.cli import preflight
from recdistill.config import compose, overrides
from recdistill.config.locate import Sources, find_sources
from recdistill.errors import InputError


def composed(words: list[str], sources: Sources) -> dict[str, object]:
    with compose.hydra_session(sources):
        return compose.resolve(compose.compose_config(words))


def message(words: list[str], sources: Sources) -> str:
    with pytest.raises(InputError) as error:
        composed(words, sources)
    text = str(error.value)
    assert len(text.splitlines()) <= 24
    return text


@pytest.mark.parametrize(
    ("word", "fix"),
    [
        ("distiler=rrd", "fix: distiller=rrd"),
        ("student.net.dimm=8", "fix: student.net.dim=8"),
        ("studnt.net.dim=8", "fix: student.net.dim=8"),
        ("net.dim=8", "teacher.net.dim=8"),
        ("evaluation.metrc=x", "fix: evaluation.metric=x"),
        ("distiller=rdr", "fix: distiller=rrd"),
        ("distiller=[soft_label,rdr]", "fix: distiller=rrd"),
        ("distiller=zzz", "none, rrd, soft_label"),
        ("distiller.rrd.weight=2", "distiller=rrd distiller.rrd.weight=2"),
        ("distiller.soft_label.weigt=2", "fix: distiller.soft_label.weight=2"),
        ("~alhpa", "alpha"),
        ("+alpha=1", "fix: alpha=1"),
        ("seed=[1", "quote the value"),
        ("seed", "seed=VALUE"),
        ("student.net.dropout=0.1", "fix: +student.net.dropout=0.1"),
        ("student.net.droput=0.1", "fix: +student.net.dropout=0.1"),
    ],
)
def test_the_right_cure(word: str, fix: str, sources: Sources) -> None:
    text = message([word], sources)
    assert fix in text
    assert "append" not in text


def test_a_typo_is_never_cured_by_plus(sources: Sources) -> None:
    assert "+distiler" not in message(["distiler=rrd"], sources)


@pytest.mark.parametrize(
    ("word", "fix"),
    [
        ("alone.net.dim=1", "fix: +alone.net.dim=1"),
        ("alone.net.dimm=1", "fix: +alone.net.dim=1"),
        ("alone={net:{dim:2,act:gelu}}", "fix: +alone.net.dim=2 +alone.net.act=gelu"),
    ],
)
def test_alone_is_empty(word: str, fix: str, sources: Sources) -> None:
    text = message([word], sources)
    assert fix in text
    assert "takes the student's keys" in text
    composed([fix.split()[1]], sources)


def test_path_of_a_data_set_that_is_made(sources: Sources, tmp_path: Path) -> None:
    files = {"data/made.yaml": "rows: 1\n", "data/another.yaml": "path: ???\n"}
    mine = Sources(sources.conf, (write_tree(tmp_path / "m", files),), sources.plugins)
    text = message(["data=made", "data.path=/nope"], mine)
    assert "this data set is made, not read from a file" in text
    assert "fix: add data=csv (or another, synthetic)" in text


def test_missing_value_names_the_key(sources: Sources) -> None:
    assert "data.path is needed: a file or folder" in message(["data=csv"], sources)


def test_missing_value_behind_an_interpolation(sources: Sources, tmp_path: Path) -> None:
    mine = write_tree(tmp_path / "m", {"data/deep.yaml": "path: ???\nsource: {path: '${data.path}'}\n"})
    found = message(["data=deep"], Sources(sources.conf, (mine,), sources.plugins))
    assert found.startswith("data.path is needed")
    assert "fix: data.path=VALUE" in found


def test_wrong_default_in_a_user_file(sources: Sources, tmp_path: Path) -> None:
    text = "# @package _global_\ndefaults:\n  - override /student: mff\n"
    mine = Sources(sources.conf, (write_tree(tmp_path / "m", {"experiment/e.yaml": text}),), sources.plugins)
    assert "did you mean mf?" in message(["experiment=e"], mine)


def test_broken_interpolation(sources: Sources) -> None:
    assert "cannot be resolved" in message(["cache=${nowhere}"], sources)


def test_file_of_the_user_wins(sources: Sources, tmp_path: Path) -> None:
    mine = write_tree(tmp_path / "mine", {"student/mf.yaml": "net: {_target_: miniparts.Net, dim: 3}\n"})
    plug = write_tree(
        tmp_path / "plug2",
        {
            "conf/student/mf.yaml": "net: {_target_: miniparts.Net, dim: 4}\n",
            "conf/student/tiny.yaml": "net: {_target_: miniparts.Net, dim: 1}\n",
        },
    )
    both = find_sources([str(mine)], [str(plug)])
    assert composed([], both)["student"]["net"]["dim"] == 3  # type: ignore[index]
    assert composed(["student=tiny"], both)["student"]["net"]["dim"] == 1  # type: ignore[index]
    assert composed([], find_sources([], [str(plug)]))["student"]["net"]["dim"] == 4  # type: ignore[index]
    assert composed([], sources)["student"]["net"]["dim"] == 8  # type: ignore[index]


def test_lists_merge_and_experiment_overrides(sources: Sources) -> None:
    assert list(composed(["distiller=[rrd,soft_label]"], sources)["distiller"]) == ["rrd", "soft_label"]  # type: ignore[call-overload]
    assert composed(["experiment=paper/rrd"], sources)["alpha"] == 0.9


def test_expand_takes_each_choice_once() -> None:
    parsed = overrides.parse(["distiller=[none],[rrd]", "seed=1,2,3", "alpha=0.1"])
    found = overrides.expand(parsed)
    assert len(found) == 4
    assert ["distiller=[rrd]", "seed=1", "alpha=0.1"] in found
    assert len(overrides.expand(overrides.parse(["seed=range(1000)"]))) == overrides.MAX_CONFIGS


def test_every_choice_of_a_sweep_is_checked(sources: Sources) -> None:
    parsed = preflight.gate_overrides(["student.net.dim=8,16,0", "seed=1,2"], sources)
    with pytest.raises(InputError, match=r"in the config of: student\.net\.dim=0 seed=1"):
        preflight.check_all(parsed, sources, multirun=True)


def test_sweep_without_m(sources: Sources) -> None:
    with pytest.raises(InputError, match="add -m"):
        preflight.check_all(preflight.gate_overrides(["seed=1,2"], sources), sources, multirun=False)


@pytest.mark.parametrize("value", ["a b", "x=y", "a,b", 'q"q', "back\\slash", "ünï", "${no}"])
def test_quoted_round_trip(value: str) -> None:
    assert overrides.values(overrides.parse([overrides.quoted("k", value)])[0]) == [value]


@pytest.mark.parametrize(("flag", "fix"), [("--config-dir", "did you mean mine?"), ("--plugin", "did you mean mine?")])
@pytest.mark.usefixtures("sources")
def test_missing_folder(flag: str, fix: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    given = [str(tmp_path / "mime")]
    with pytest.raises(InputError, match="is not a folder") as error:
        find_sources(given if flag == "--config-dir" else [], given if flag == "--plugin" else [])
    assert fix in str(error.value)


@pytest.mark.usefixtures("sources")
def test_plugin_must_not_hide_a_module(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name of an installed one"):
        find_sources([], [str(write_tree(tmp_path / "p", {"torch.py": ""}))])
