"""The command line: verbs, exit codes, grids and what is left in the run folder."""

from __future__ import annotations

import json
import logging
import os
import pickle
import resource
import shlex
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from mini_conf import PLUGIN, STAGES, make_conf, make_launcher, write_tree
from recdistill.cli import main
from recdistill.cli.job import Job
from recdistill.cli.text import EXAMPLES
from recdistill.cli.words import VERBS, parse_words
from recdistill.config import compose, locate
from recdistill.config.listing import render_group
from recdistill.config.overrides import expand, parse
from recdistill.errors import InputError
from recdistill.serving.settings import settings_of

Cli = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_conf(tmp_path / "conf")
    write_tree(tmp_path / "plug", {"miniparts.py": PLUGIN})
    (tmp_path / "work").mkdir()
    return tmp_path


@pytest.fixture
def cli(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """``main`` in this process, on the miniature conf and with fake stages, in an empty folder."""
    monkeypatch.chdir(folder / "work")
    monkeypatch.setattr(locate, "conf_dir", lambda: folder / "conf")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["recdistill"])
    monkeypatch.setenv("RECDISTILL_PLUGINS", "")
    for name in ("miniparts", "recdistill.stages.verbs", "recdistill.stages.grid"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    del sys.modules["miniparts"]
    exec(STAGES, {})

    yield lambda *words: main([*words, "--plugin", str(folder / "plug")])
    for handler in list(logging.getLogger().handlers):
        if type(handler) in (logging.StreamHandler, logging.FileHandler):
            logging.getLogger().removeHandler(handler)
            handler.close()


def status(folder: Path, name: str) -> dict[str, object]:
    found = json.loads((folder / "work/outputs" / name / "status.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("result", ["summary.json", "grid.json"])
def test_a_finished_run_is_not_overwritten_by_another_command(
    cli: Cli, folder: Path, capsys: pytest.CaptureFixture[str], result: str
) -> None:
    assert cli("run", "seed=3", "run.name=one") == 0
    assert cli("run", "seed=4", "run.name=one") == 0, "nothing was finished there"
    run = folder / "work/outputs/one"
    (run / result).write_text("{}")
    before = {path: path.read_bytes() for path in run.iterdir()}
    for words in (["run", "seed=5"], ["data", "seed=4"], ["run", "-m", "seed=4"]):
        capsys.readouterr()
        assert cli(*words, "run.name=one") == 2
        said = capsys.readouterr().err
        assert "made by another command: run seed=4" in said
        assert "run.name=one_2" in said
        assert {path: path.read_bytes() for path in run.iterdir()} == before
    assert cli("run", "seed=4", "run.name=one") == 0, "the same command may come again"


def test_a_run_leaves_its_folder(cli: Cli, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("run", "seed=3", "run.name=one") == 0
    run = folder / "work/outputs/one"
    assert sorted(p.name for p in run.iterdir()) == [
        "command.json",
        "config.yaml",
        "run.log",
        "seen.txt",
        "status.json",
    ]
    assert status(folder, "one") == {"state": "done", "error": None, "exit_code": 0, "overrides": ["seed=3"]}
    assert capsys.readouterr().out == "seed 3\n"
    assert "[recdistill] seed 3" in (run / "run.log").read_text(encoding="utf-8")
    assert "seed: 3" in (run / "config.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("seed", "code", "text"),
    [
        (7, 1, "ValueError: bad seed"),
        (8, 3, "nan"),
        (9, 4, "No space left"),
        (10, 4, "MemoryError"),
        (11, 130, "interrupted"),
        (12, 2, "fix: yes"),
        (13, 143, "SIGTERM"),
    ],
)
def test_exit_codes(
    seed: int, code: int, text: str, cli: Cli, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("run", f"seed={seed}", "run.name=x") == code
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error
    assert status(folder, "x")["exit_code"] == code
    assert (folder / "work/outputs/x/error.log").exists() == (code == 1)


def test_a_failing_job_stops_no_other(cli: Cli, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("run", "-m", "seed=1,8,7,2", "run.name=grid") == 3
    out, err = capsys.readouterr()
    assert [status(folder, f"grid/{i}")["exit_code"] for i in range(4)] == [0, 3, 1, 0]
    assert "joint table of grid" in out
    assert "grid/2/error.log" in err
    assert "Traceback" not in err
    assert "ValueError: bad seed" in (folder / "work/outputs/grid/2/error.log").read_text(encoding="utf-8")


def test_ctrl_c_ends_a_grid(cli: Cli, folder: Path) -> None:
    assert cli("run", "-m", "seed=11,1", "run.name=grid") == 130
    assert not (folder / "work/outputs/grid/1").exists()


def test_a_grid_of_lists(cli: Cli, folder: Path) -> None:
    assert cli("run", "-m", "distiller=[none],[rrd,soft_label]", "run.name=g") == 0
    assert status(folder, "g/1")["overrides"] == ["distiller=[rrd,soft_label]"]


def test_nothing_runs_when_one_job_is_wrong(cli: Cli, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("run", "-m", "distiller=rrd,rdr") == 2
    assert cli("run", "-m", "student.net.dim=1,0") == 2
    assert not (folder / "work/outputs").exists()
    assert "in the config of: student.net.dim=0" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/../../x", "..", ".", "", "~x", "a/../..", "..\\x", "a\nb"])
def test_name_stays_in_the_folder(name: str, cli: Cli, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    text = name.replace("\\", "\\\\")
    assert cli("run", f'run.name="{text}"') == 2
    assert sorted(p for p in folder.rglob("*") if "__pycache__" not in p.parts) == [
        p for p in before if "__pycache__" not in p.parts
    ]


@pytest.mark.parametrize("name", ["a b", "ünï", "a=b", "a,b", "sub/x", "a'b", "$x", "a[0]", "{a}"])
def test_odd_names_work(name: str, cli: Cli, folder: Path) -> None:
    assert cli("run", f'run.name="{name}"') == 0
    assert (folder / "work/outputs" / name / "status.json").is_file()


def test_two_runs_at_once_get_two_folders(cli: Cli, folder: Path) -> None:
    names = {tuple(sorted(p.name for p in (folder / "work/outputs").iterdir())) for _ in "ab" if not cli("run")}
    assert max(len(found) for found in names) == 2


def test_root_elsewhere(cli: Cli, folder: Path) -> None:
    assert cli("run", f"run.root={folder / 'else where'}", "run.name=x") == 0
    assert (folder / "else where/x/status.json").is_file()
    assert not (folder / "work/outputs").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(cli: Cli, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "work").chmod(0o500)
    assert cli("run") == 4
    assert "run.root=DIR" in capsys.readouterr().err


def test_folder_that_cannot_be(cli: Cli, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "work/outputs").write_text("", encoding="utf-8")
    assert cli("run") == 4
    assert "run.root=DIR" in capsys.readouterr().err


def test_file_of_the_user_wins(cli: Cli, folder: Path) -> None:
    mine = write_tree(folder / "my conf", {"student/mf.yaml": "net: {_target_: miniparts.Net, dim: 3}\n"})
    assert cli("run", "--config-dir", str(mine), "run.name=x") == 0
    assert (folder / "work/outputs/x/seen.txt").read_text(encoding="utf-8") == "3"


def test_check_leaves_nothing(cli: Cli, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("check", "seed=2") == 0
    assert cli("check", "seed=x", "alpha=3") == 2
    assert "2 things" in capsys.readouterr().err
    assert not (folder / "work/outputs").exists()


def test_cfg_is_hydras(cli: Cli, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("run", "--cfg", "job", "-p", "student", "student.net.dim=5") == 0
    assert "dim: 5" in capsys.readouterr().out
    assert cli("run", "--info", "defaults") == 0
    assert "student/mf" in capsys.readouterr().out
    assert not (folder / "work/outputs").exists()


def test_settings_of_what_is_not_chosen_are_nowhere(cli: Cli, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "# @package _global_\ndistiller:\n  soft_label: {weight: 9.0}\n  rrd: {weight: 8.0}\n"
    write_tree(folder / "conf", {"experiment/both.yaml": text})
    assert cli("run", "experiment=both", "distiller=rrd", "run.name=one") == 0
    assert cli("run", "-m", "experiment=both", "distiller=rrd,soft_label,none", "run.name=grid") == 0
    capsys.readouterr()
    assert cli("run", "experiment=both", "distiller=none", "--cfg", "job") == 0
    shown = yaml.safe_load(capsys.readouterr().out)["distiller"]
    runs = [folder / "work/outputs" / name for name in ("one", "grid/0", "grid/1", "grid/2")]
    saved = [yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["distiller"] for run in runs]
    rrd, soft = ({"_target_": "miniparts.Kd", "weight": weight} for weight in (8.0, 9.0))
    assert [*saved, shown] == [{"rrd": rrd}, {"rrd": rrd}, {"soft_label": soft}, {}, {}]


def test_secrets_stay_out(cli: Cli, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("cache=https://user:canary123@h/x", "+logger.wandb.api_key=canary123"):
        assert cli("run", word) == 2
    assert "canary123" not in "".join(capsys.readouterr())
    assert not (folder / "work/outputs").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["rnu"], "did you mean run?"),
        (["seed=1"], "recdistill run seed=1"),
        (["run", "--multirn"], "did you mean --multirun?"),
        (["run", "--config-path", "x"], "--config-dir DIR"),
        (["run", "--experimental-rerun", "x.pickle"], "status.json"),
        (["run", "--config-dir"], "needs a value"),
        (["ls", "distiler"], "did you mean distiller?"),
    ],
)
def test_wrong_words(words: list[str], text: str, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2 if "--config-dir" in words else cli(*words) == 2
    assert text in capsys.readouterr().err


def test_flags_may_stand_anywhere() -> None:
    words = parse_words(["--plugin=p", "run", "-m", "a=1", "--config-dir", "c", "--cfg", "job", "~b"])
    assert (words.verb, words.overrides, words.plugins, words.config_dirs) == (
        "run",
        ["a=1", "~b"],
        ["p"],
        ["c"],
    )
    assert words.hydra_flags == ["-m", "--cfg", "job"]
    with pytest.raises(InputError, match="verb"):
        parse_words(["runn"])


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help(verb: str, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(*([verb] if verb else []), "--help") == 0
    text = capsys.readouterr().out
    assert text.count("\n  recdistill ") == 5
    assert "distiller    none, rrd, soft_label" in text
    assert "exit codes: 0 done" in text


@pytest.mark.parametrize("example", [e for found in EXAMPLES.values() for e in found if " my_" not in e])
def test_examples_of_the_help_compose(example: str) -> None:
    words = parse_words(shlex.split(example)[1:])
    sources = locate.find_sources([], [])
    if words.verb == "ls":
        assert all(render_group(sources.folders, group) for group in words.overrides)
        return
    if words.verb == "serve":  # reads no config
        assert settings_of(words.overrides)
        return
    with compose.hydra_session(sources):
        for overrides in expand(parse(words.overrides)):
            compose.resolve(compose.compose_config(overrides))


def test_a_job_can_be_sent_to_another_process(folder: Path) -> None:
    job = Job("run", locate.Sources(folder / "conf", (), (folder / "plug",)), True)
    assert pickle.loads(pickle.dumps(job)) == job


def test_ls(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("ls") == 0
    assert cli("ls", "distiller") == 0
    assert "  rrd         Relaxed ranking" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("recdistill ev", "evaluate"),
        ("recdistill ls dis", "distiller"),
        ("recdistill run dist", "distiller. distiller="),
        ("recdistill run -m seed=1 distiller=s", "distiller=soft_label"),
        ("recdistill run student.net.d", "student.net.dim="),
        ("recdistill serve serve.po", "serve.port="),
    ],
)
def test_completion(
    line: str, expected: str, cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert cli("-sc", "query=bash") == 0
    assert capsys.readouterr().out.strip() == expected


def test_completion_script(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("-sc", "install=bash") == 0
    assert capsys.readouterr().out.rstrip().endswith("hydra_bash_completion recdistill")


def cpu_of(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_costs_less_than_an_empty_hydra_app(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        "import hydra\n@hydra.main(version_base='1.3', config_path=None)\ndef main(cfg): ...\nmain()\n",
        encoding="utf-8",
    )
    empty = min(cpu_of([sys.executable, str(app), "--help"]) for _ in range(2))
    ours = min(cpu_of([sys.executable, "-m", "recdistill", "run", "--help"]) for _ in range(2))
    assert ours <= 1.5 * empty


def test_light_verbs_import_nothing_heavy() -> None:
    code = (
        "import sys; from recdistill.cli import main; main(['--help']); main(['ls']); main(['rnu']);"
        "heavy = {'hydra', 'omegaconf', 'torch', 'pydantic', 'polars', 'numpy', 'wandb', 'yaml', 'rich'};"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_odd_surroundings(folder: Path) -> None:
    command = make_launcher(folder / "go.py", folder / "conf")
    env = {
        "PATH": os.environ["PATH"],
        "LANG": "C",
        "LC_ALL": "C",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    words = ["run", "--plugin", str(folder / "plug"), 'run.name="ü é"', f"run.root={folder / 'out'}"]
    done = subprocess.run([*command, *words], env=env, cwd="/proc", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "out/ü é/status.json").is_file()
    assert not done.stderr
