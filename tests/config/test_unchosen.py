"""Settings of options that are not chosen: dropped where an experiment holds them, refused where they were typed."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

from mini_conf import write_tree
from recdistill.cli import preflight
from recdistill.config.compose import compose_config, hydra_session, left_out, resolve
from recdistill.config.locate import Sources, find_sources
from recdistill.config.unchosen import NAMED
from recdistill.errors import InputError

CONF = Path(__file__).parents[2] / "conf"
BOTH = """# @package _global_
# Settings of three methods
distiller:
  soft_label: {{weight: 2.0}}
  rrd: {{weight: 3.0}}
  {other}: {{weight: 4.0}}
"""


def composed(words: list[str], sources: Sources) -> dict[str, object]:
    with hydra_session(sources):
        return resolve(compose_config(words))


def with_files(sources: Sources, folder: Path, files: dict[str, str]) -> Sources:
    return Sources(sources.conf, (write_tree(folder, files),), sources.plugins)


@pytest.fixture
def mine(sources: Sources, tmp_path: Path) -> Sources:
    """An experiment, and a distiller of a folder of the user's."""
    files = {
        "experiment/both.yaml": BOTH.format(other="own"),
        "distiller/own.yaml": "own:\n  _target_: miniparts.Kd\n  weight: 1.0\n",
        "distiller/global.yaml": "# @package _global_\ndistiller:\n  global:\n    _target_: miniparts.Kd\n",
        "distiller/bare.yaml": "bare:\n  weight: 1.0\n",
        "distiller/empty.yaml": "",
    }
    return with_files(sources, tmp_path / "mine", files)


CHOICES = [list(c) for n in range(4) for c in itertools.permutations(["soft_label", "rrd", "own"], n)]


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
def test_only_what_is_chosen_is_there(chosen: list[str], mine: Sources) -> None:
    word = f"distiller=[{','.join(chosen)}]" if chosen else "distiller=none"
    found = composed(["experiment=both", word], mine)["distiller"]
    assert found == {name: {"_target_": "miniparts.Kd", "weight": {"soft_label": 2.0, "rrd": 3.0, "own": 4.0}[name]}
                     for name in chosen}  # fmt: skip
    assert list(found) == chosen, "in the order in which they were chosen"
    with hydra_session(mine):
        assert left_out(["experiment=both", word]) == [
            f"distiller.{name}" for name in ("soft_label", "rrd", "own") if name not in chosen
        ]


def test_a_config_is_what_it_is_without_the_settings(mine: Sources) -> None:
    """So that keys of the cache and hashes of configs do not change."""
    plain = composed(["distiller=own", "distiller.own.weight=4.0", "run.name=x"], mine)
    assert composed(["experiment=both", "distiller=own", "run.name=x"], mine) == plain


def test_an_experiment_that_names_the_class_chooses(mine: Sources, tmp_path: Path) -> None:
    entry = "# @package _global_\ndistiller:\n  extra:\n    _target_: miniparts.Kd\n"
    more = Sources(mine.conf, (*mine.extra, write_tree(tmp_path / "x", {"experiment/e.yaml": entry})), mine.plugins)
    assert set(composed(["experiment=e", "distiller=rrd"], more)["distiller"]) == {"rrd", "extra"}  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["distiller=soft_label", "+distiller.rrd.weight=5"], ["where: +distiller.rrd.weight=5", "[soft_label,rrd]"]),
        (["experiment=both", "distiller=rrd", "distiller.soft_label.weight=5"], ["not chosen", "[rrd,soft_label]"]),
        (["distiller=none", "++distiller.rrd={weight:5}"], ["where: ++distiller.rrd={weight:5}", "[rrd]"]),
        (["distiller=none", "+distiller.rdr.weight=5"], ["no distiller called 'rdr'", "did you mean rrd?"]),
        (["+distiller.zzz.weight=5"], ["no distiller called 'zzz'", "distiller.zzz._target_"]),
        (["+baselines.zzz.net.dim=5"], ["no baselines called 'zzz'", "baselines.zzz.net._target_"]),
        (["distiller=[rrd,rrd]"], ["rrd is chosen twice", "leave one out"]),
        (["distiller=bare"], ["distiller.bare names no class", "bare.yaml"]),
    ],
)  # fmt: skip
def test_what_was_typed_is_never_dropped(words: list[str], parts: list[str], mine: Sources) -> None:
    with pytest.raises(InputError) as error:
        composed(words, mine)
    assert [part for part in parts if part not in str(error.value)] == []


def test_nor_is_what_was_placed() -> None:
    """A node of another group in the place of a setting."""
    word = "+schedule@distiller.rrd.weight=linear"
    with hydra_session(find_sources([], [])), pytest.raises(InputError, match="not chosen") as error:
        compose_config(["distiller=topk_kl", word])
    assert error.value.where == word
    with hydra_session(find_sources([], [])):
        assert "weight" in compose_config(["distiller=rrd", word])["distiller"]["rrd"]


def test_a_setting_that_hydra_lets_through_is_named_in_full(mine: Sources) -> None:
    """An override whose key begins like another entry's belongs to that one."""
    found = composed(["experiment=both", "distiller=rrd", "+distiller.rrd_long={_target_:miniparts.Kd}"], mine)
    assert set(found["distiller"]) == {"rrd", "rrd_long"}  # type: ignore[call-overload]


def test_options_without_an_entry_of_their_name(mine: Sources) -> None:
    assert set(composed(["distiller=global"], mine)["distiller"]) == {"global"}  # type: ignore[call-overload]
    assert not composed(["distiller=empty"], mine)["distiller"]


def test_a_name_of_an_experiment_that_is_no_option(sources: Sources, tmp_path: Path) -> None:
    wrong = with_files(sources, tmp_path / "m", {"experiment/both.yaml": BOTH.format(other="sof_label")})
    with pytest.raises(InputError) as error:
        composed(["experiment=both"], wrong)
    assert "where: distiller.sof_label" in str(error.value)
    assert "fix: did you mean soft_label?" in str(error.value)


def test_the_groups_are_those_of_the_shipped_folder() -> None:
    """A group is one of named entries where the files of its options hold nothing but their own name."""
    held = {
        folder.name: [set(yaml.safe_load(file.read_text(encoding="utf-8")) or {}) - {"defaults"} - {file.stem}
                      for file in folder.glob("*.yaml")]
        for folder in CONF.iterdir() if folder.is_dir()
    }  # fmt: skip
    named = {name for name, rest in held.items() if rest and not any(rest)}
    assert named - {"standard"} == set(NAMED), "standard is merged into baselines"


RECIPE = ["experiment=recipe", "data=synthetic"]


@pytest.mark.parametrize(
    "words",
    [["compression=none"], ["distiller=rrd"], ["distiller=none", "compression=[low_rank,quantize]"], []],
    ids=" ".join,
)
def test_the_recipe_takes_other_methods(words: list[str]) -> None:
    shipped = find_sources([], [])
    with hydra_session(shipped):
        found = preflight.check_job(preflight.compose_gated([*RECIPE, *words]), shipped)
    for word in words:
        group, _, chosen = word.partition("=")
        assert list(found[group]) == [name for name in chosen.strip("[]").split(",") if name != "none"]


@pytest.mark.parametrize("word", ["teacher=ease", "teacher.net.dim=64", "+teacher.fit.epochs=3", "teacher=assistant"])
@pytest.mark.parametrize("how", ["teaching=born_again", "teaching=mean_teacher"])
def test_a_teacher_that_is_the_student_takes_no_settings(how: str, word: str) -> None:
    with hydra_session(find_sources([], [])):
        with pytest.raises(InputError) as error:
            compose_config([how, word])
        compose_config([how, "student.net.dim=4"])
        compose_config(["teaching=mutual", "teacher=mf"])
    assert error.value.where == word
    assert "leave out one of the two" in str(error.value.fix)
