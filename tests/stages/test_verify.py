"""E24: what a result says of where it comes from, and ``recdistill verify``, which recomputes it."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml
from stage_kit import FULL_CHARTS, words_of

from recdistill.cli import main
from recdistill.reporting import svg
from recdistill.runs.atomic import file_digest
from recdistill.runs.store import Store
from recdistill.stages import verify

WORDS = ("compression=[quantize]", "seed=3")


def write_log(file: Path) -> None:
    """Interactions with times; user ids that look like numbers."""
    lines = ["user,item,time"]
    lines += [f"{u:03},i{(u * 7 + n * (1 + u % 3)) % 40},{n * 100 + u}" for n in range(12) for u in range(60)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on made-up data and one on a file, in ``outputs``."""
    home = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(sys, "argv", ["recdistill"])
        with patch.context() as drawn:
            drawn.setattr(svg, "inline", FULL_CHARTS)
            assert main(["run", *words_of(WORDS), "run.name=one"]) == 0
        write_log(home / "log.csv")
        words = ("data=csv", "data.path=log.csv", "data.source.user=user", "data.source.item=item",
                 "data.source.time=time", "evaluation.ks=[5,10]")  # fmt: skip
        kept = [word for word in words_of((*words, *WORDS)) if "n_users" not in word and "niches" not in word]
        kept = [word for word in kept if word != "data=synthetic" and "n_items" not in word]
        assert main(["run", *kept, "run.name=file"]) == 0
    return home


@pytest.fixture(autouse=True)
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of these runs without the cache."""
    shutil.copytree(made, tmp_path / "home", ignore=shutil.ignore_patterns("cache"))
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setattr(sys, "argv", ["recdistill"])
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path / "home"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What models of the same bytes reach on the same data, for all tests that change neither."""
    return tmp_path_factory.mktemp("evaluated")


@pytest.fixture
def once(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are evaluated by the first test that asks; by its key, as in a cache."""
    monkeypatch.setattr(verify, "Store", lambda _: Store(evaluated))


def edit(file: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def state(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, file_digest(p)) for p in folder.rglob("*") if p.is_file()
    }


def test_e24_what_a_result_says_of_itself(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = json.loads((made / "outputs/one/summary.json").read_text())
    assert summary["seed"] == 3
    assert summary["split_hash"] == summary["data"]["fingerprint"]
    assert set(summary["data"]["manifest"]["parts"]) == {"train", "valid", "test"}
    assert "commit" in summary
    for key in ("config_hash", "recipe_hash"):
        assert re.fullmatch("[0-9a-f]{20}", summary[key])
    for name in ("pytorch-lightning", "numpy", "polars"):
        assert summary["versions"][name] == importlib.metadata.version(name)
    assert summary["versions"]["torch"] == torch.__version__  # with its build, such as +cpu
    assert summary["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(summary["versions"]) == {"recdistill", "python", "torch", "pytorch-lightning", "numpy", "polars"}
    for row in summary["rows"]:
        weights = made / "outputs/one" / row["folder"] / "model.safetensors"
        assert row["weights_hash"] == file_digest(weights)

    monkeypatch.chdir(made)
    monkeypatch.setattr(sys, "argv", ["recdistill"])
    assert main(["evaluate", *words_of(WORDS), "run.name=numbers"]) == 0
    metrics = json.loads((made / "outputs/numbers/metrics.json").read_text())
    for key in ("seed", "commit", "config_hash", "recipe_hash", "split_hash", "versions"):
        assert metrics[key] == summary[key]
    assert metrics["models"]["quantize"]["weights_hash"] == summary["rows"][-1]["weights_hash"]
    shutil.rmtree(made / "outputs/numbers")


def test_e15_p_is_adjusted_over_the_rows_that_are_tested() -> None:
    """Holm by its definition: the largest of the smaller ones' multiples, at most 1."""
    rows = json.loads(Path("outputs/one/summary.json").read_text())["rows"]
    ps = {row["name"]: row["p_alone"] for row in rows if row["p_alone"] is not None}
    assert set(ps) == {row["name"] for row in rows} - {"student alone"}
    for row in rows:
        below = [p for p in ps.values() if row["name"] in ps and p <= ps[row["name"]]]
        multiples = [p * sum(other >= p for other in ps.values()) for p in below]
        assert row["p_alone_holm"] == (pytest.approx(min(1.0, max(multiples))) if below else None)
        assert row["n_cold_items"] == 0


@pytest.mark.parametrize("run", ["one", "file"])
def test_e24_verify_agrees_and_touches_nothing(run: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = state(home)
    assert main(["verify", f"outputs/{run}"]) == 0
    said = capsys.readouterr().out
    assert "checks agree" in said
    assert "DIFFERS" not in said
    lines = [line.strip() for line in said.splitlines()]
    for row in json.loads(Path(f"outputs/{run}/summary.json").read_text())["rows"]:
        at = next(at for at, line in enumerate(lines) if re.match(rf"{row['name']}  .* 0 +agrees$", line))
        assert row["weights_hash"][:12] in lines[at]
        assert re.search(r"weights, \d\d+ figures, \d+ x \d+ values", lines[at + 1])
    assert "data prepared anew from" in said
    assert max(map(len, said.splitlines())) <= 100
    assert state(home) == before  # no cache, no folder, no log


def leaves(value: Any, key: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], float]]:
    if isinstance(value, dict | list):
        for name, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(child, (*key, name))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key, value


FREE = {"latency", "train_seconds", "trials"}  # measured once; trials is a whole number or no summary


@pytest.mark.usefixtures("once")
def test_e24_every_edited_number_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """All figures of a row and of the data at once, each by a millionth: each is named."""
    file = Path("outputs/one/summary.json")
    summary = json.loads(file.read_text())
    row = summary["rows"][3]
    edited = [key for key, _ in leaves(row) if key[0] not in FREE]
    assert len(edited) > 60
    for key in edited:
        place = row
        for name in key[:-1]:
            place = place[name]
        place[key[-1]] += 1e-6
    summary["data"]["report"]["rows"] += 1
    file.write_text(json.dumps(summary))
    assert main(["verify", "outputs/one"]) == 2
    both = capsys.readouterr()
    count = int(re.search(r"(\d+) of \d+ checks", both.out)[1])  # type: ignore[index]
    assert len(edited) + 1 <= count <= len(edited) + 5  # the tables and the page show some of them
    assert "data report: rows" in both.out
    for key in ("metrics.ndcg@10", "ci.ndcg@10.0", "kept.value"):
        assert f"{row['name']}: {key}" in re.sub(r"\s+", " ", both.out)
    assert f"not verified: {count} things do not agree" in both.err


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["rows"][0]["metrics"].update({"ndcg@10": s["rows"][0]["metrics"]["ndcg@10"] + 2e-9}),
         "teacher: metrics.ndcg@10"),
        (lambda s: s["rows"][0]["metrics"].update({"hr@100": 0.9}), "teacher: metrics.hr@100"),
        (lambda s: s["rows"][-1]["metrics"].pop("ndcg@10"), "quantize: metrics.ndcg@10"),
        (lambda s: s["rows"][-1].update(p_alone=None), "quantize: p_alone"),
        (lambda s: s["rows"][-1].update(weights_hash="0"), "quantize: weights"),
        (lambda s: s["rows"].pop(), "quantize: row"),
        (lambda s: s["rows"].append(s["rows"][0]), "order of rows"),
        (lambda s: s["rows"].append(s["rows"][0] | {"name": "better"}), "better: row"),
        (lambda s: s["rows"].reverse(), "order of rows"),
        (lambda s: s["rows"][2].update(name="tiny teacher"), "tiny teacher: row"),
        (lambda s: s["rows"][2].update(role="baseline"), "teacher int4: role"),
        (lambda s: s["rows"][2].update(label="MF d=2"), "teacher int4: label"),
        (lambda s: s["rows"][2].update(trials=7), "teacher int4: trials"),
        (lambda s: s["rows"][2].update(folder=s["rows"][1]["folder"]), "teacher int4: weights"),
        (lambda s: s["rows"][2].update(p_alone_holm=0.001), "teacher int4: p_alone_holm"),
        (lambda s: s["rows"][2].update(n_cold_items=1), "teacher int4: n_cold_items"),
        (lambda s: s["rows"][2].update(award="best"), "teacher int4: award"),
        (lambda s: s["rows"][2].pop("tie_rate"), "teacher int4: tie_rate"),
        (lambda s: s.update(award="best"), "key award"),
        (lambda s: s["data"].update(award="best"), "key data.award"),
        (lambda s: s["data"].update(name="ml-20m"), "data name"),
        (lambda s: s.update(recipe_hash="0"), "recipe hash"),
        (lambda s: s.update(notes=["checked by all"]), "notes"),
        (lambda s: s.update(seed=4), "one: seed"),
        (lambda s: s.update(config_hash="0"), "config hash"),
        (lambda s: s.update(split_hash="0"), "split hash"),
        (lambda s: s.update(n_users=81), "one: users"),
        (lambda s: s["data"]["manifest"]["parts"].update(test="0"), "test part"),
        (lambda s: s["data"].update(fingerprint="0"), "data fingerprint"),
    ],
)  # fmt: skip
def test_e24_an_edited_summary_is_found(
    change: Callable[[Any], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(Path("outputs/one/summary.json"), change)
    assert main(["verify", "outputs/one"]) == 2
    assert said in capsys.readouterr().err


def swap_names(summary: Any) -> None:
    """Two rows, each with the other's name, in the right order of names."""
    rows = summary["rows"]
    rows[1]["name"], rows[2]["name"] = rows[2]["name"], rows[1]["name"]
    rows[1], rows[2] = rows[2], rows[1]


def test_e24_swapped_names_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    edit(Path("outputs/one/summary.json"), swap_names)
    assert main(["verify", "outputs/one"]) == 2
    assert "one: teacher int8: folder" in capsys.readouterr().err
    models = Path("outputs/one/models")
    for old, new in (("teacher_int8", "x"), ("teacher_int4", "teacher_int8"), ("x", "teacher_int4")):
        (models / old).rename(models / new)

    def follow(summary: Any) -> None:
        for row in summary["rows"][1:3]:
            row["folder"] = f"models/{row['name'].replace(' ', '_')}"

    edit(Path("outputs/one/summary.json"), follow)
    assert main(["report", "report.run=outputs/one"]) == 0
    assert main(["verify", "outputs/one"]) == 2
    assert "one: teacher int8: bits" in capsys.readouterr().err


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("file", ["summary.csv", "table.md", "table.tex", "report.html"])
def test_e24_an_edited_table_is_found(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("outputs/one") / file
    value = f"{json.loads(Path('outputs/one/summary.json').read_text())['rows'][0]['metrics']['ndcg@10']:.4f}"
    text = path.read_text()
    assert value in text
    for other in (text.replace(value, "0.9999", 1), text + " ", None):
        path.unlink() if other is None else path.write_text(other)
        assert main(["verify", "outputs/one"]) == (0 if other == text + " " and file == "report.html" else 2)
        said = capsys.readouterr()
        assert "not checked:" in said.out
    assert f"one: {file}" in said.err


@pytest.mark.usefixtures("once")
def test_e24_charts_may_differ_and_nothing_else_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    """They depend on what is installed; a chart can't hide a table."""
    page = Path("outputs/one/report.html")
    text = page.read_text()
    assert "<path" in text[text.index("<svg") :]
    page.write_text(re.sub(r"<svg.*?</svg>", "<svg></svg>", text, flags=re.S))
    assert main(["verify", "outputs/one"]) == 0
    page.write_text(text.replace("<h2>Results</h2>", "<h2>Results</h2><svg></svg>"))
    assert main(["verify", "outputs/one"]) == 2
    assert "report.html" in capsys.readouterr().err


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two baselines, one of them tuned."""
    home = tmp_path_factory.mktemp("tuned")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(sys, "argv", ["recdistill"])
        tune = "baselines.ease.tune={net.l2:[10.0,100.0]}"
        words = words_of(("seed=3", "distiller=none", "baselines=[ease,popularity]", tune))
        assert main(["run", *words, "run.name=tuned"]) == 0
    return home


@pytest.mark.usefixtures("once")
def test_e24_baselines_are_those_of_the_config(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fresh() -> Path:
        shutil.rmtree(tmp_path / "again", ignore_errors=True)
        shutil.copytree(tuned, tmp_path / "again", ignore=shutil.ignore_patterns("cache"))
        return Path("outputs/tuned")

    (tmp_path / "again").mkdir()
    run = fresh()
    monkeypatch.chdir(tmp_path / "again")
    assert main(["verify", "outputs/tuned"]) == 0
    capsys.readouterr()

    def refused() -> str:
        assert main(["verify", "outputs/tuned"]) == 2
        monkeypatch.chdir(tmp_path)
        fresh()
        monkeypatch.chdir(tmp_path / "again")
        return capsys.readouterr().err

    edit(run / "summary.json", lambda s: s["rows"].pop())
    shutil.rmtree(run / "models/popularity")
    assert "popularity: row" in refused()

    edit(run / "summary.json", lambda s: s["rows"][-2].update(trials=1))
    assert "ease: trials" in refused()

    edit(run / "summary.json", lambda s: s["rows"][-2].update(trials=1))
    (run / "models/ease/trials.json").unlink()
    assert "ease: trials of its grid" in refused()

    (run / "models/ease/trials.json").write_text('{"values": 3}')
    assert "ease: trials" in refused()

    # The two change places, folders and all.
    (run / "models/ease").rename(run / "models/x")
    (run / "models/popularity").rename(run / "models/ease")
    (run / "models/x").rename(run / "models/popularity")

    def exchange(summary: Any) -> None:
        ease, popularity = summary["rows"][-2:]
        for row, name in ((ease, "popularity"), (popularity, "ease")):
            row.update(name=name, folder=f"models/{name}")
        summary["rows"][-2:] = [popularity, ease]

    edit(run / "summary.json", exchange)
    assert "ease: model" in refused()


@pytest.mark.usefixtures("once")
def test_e24_an_edited_config_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    file = Path("outputs/one/config.yaml")
    text = file.read_text()
    file.write_text(text.replace("alpha: 0.5", "alpha: 0.25"))
    assert main(["verify", "outputs/one"]) == 2
    assert "one: config hash" in capsys.readouterr().err
    file.write_text(text.replace("alpha: 0.5", "alpha: 5"))
    assert main(["verify", "outputs/one"]) == 2
    assert "alpha" in capsys.readouterr().err


def flip(file: Path) -> None:
    """One bit of the last weight."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def test_e24_a_flipped_bit_of_the_weights_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    flip(Path("outputs/one/models/student_alone/model.safetensors"))
    assert main(["verify", "outputs/one"]) == 2
    both = capsys.readouterr()
    assert "one: student alone: weights" in both.err
    assert "1 of" in both.out


def test_e24_other_weights_with_all_hashes_put_right_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever swaps a model and its hashes still has to make the figures come out."""
    run = Path("outputs/one")
    for file in ("model.safetensors", "model.json"):
        shutil.copyfile(run / "models/student_alone" / file, run / "models/student_distilled" / file)
    edit(run / "summary.json", lambda s: s["rows"][4].update(weights_hash=s["rows"][3]["weights_hash"]))
    assert main(["verify", "outputs/one"]) == 2
    assert "student distilled: metrics." in capsys.readouterr().err


@pytest.mark.usefixtures("once")
def test_e24_an_edited_value_of_a_user_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    file = Path("outputs/file/models/teacher/per_user.parquet")
    frame = pl.read_parquet(file)
    frame.with_columns(award=pl.lit(1.0)).write_parquet(file)
    assert main(["verify", "outputs/file"]) == 2
    assert "teacher: column award" in capsys.readouterr().err
    user = frame["user"][5]
    hidden = pl.when(pl.col("user") == user).then(pl.col("ndcg@10") + 1e-6).otherwise(pl.col("ndcg@10"))
    frame.with_columns(hidden.alias("ndcg@10")).write_parquet(file)
    assert main(["verify", "outputs/file"]) == 2
    assert f"teacher: ndcg@10 of user {user}" in capsys.readouterr().err
    frame.sample(fraction=1.0, shuffle=True, seed=1).write_parquet(file)
    assert main(["verify", "outputs/file"]) == 0
    frame.filter(pl.col("user") != user).write_parquet(file)
    assert main(["verify", "outputs/file"]) == 2
    for odd in (frame.drop("hr@5"), frame.with_columns(pl.lit("much").alias("ndcg@10")), frame.with_columns(
        pl.when(pl.col("user") != user).then(pl.col("n_relevant")).alias("n_relevant")
    )):  # fmt: skip
        odd.write_parquet(file)
        assert main(["verify", "outputs/file"]) == 2
        assert "teacher: " in capsys.readouterr().err
    file.write_bytes(b"PAR1")
    assert main(["verify", "outputs/file"]) == 2
    assert "teacher: values by user" in capsys.readouterr().err


def test_e24_a_changed_row_of_the_data_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    log = Path("log.csv")
    lines = log.read_text().splitlines()
    lines[-1] = re.sub(",i[0-9]+,", ",new,", lines[-1])
    log.write_text("\n".join(lines) + "\n")
    assert main(["verify", "outputs/file"]) == 2
    said = capsys.readouterr().err
    assert "file: test part" in said
    assert "file: train part" not in said
    write_log(log)
    lines = log.read_text().splitlines()
    log.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")  # the same rows in another order
    assert main(["verify", "outputs/file"]) == 0


def test_data_that_were_moved_or_are_gone(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("log.csv").rename("moved.csv")
    assert main(["verify", "outputs/file"]) == 2
    assert "verify.data=PATH" in capsys.readouterr().err
    assert main(["verify", "outputs/file", "verify.data=moved.csv"]) == 0
    assert main(["verify", "outputs/one", "verify.data=moved.csv"]) == 2
    capsys.readouterr()
    shutil.copytree(made / "outputs/cache/data", "kept/data")
    assert main(["verify", "outputs/file", "cache=kept"]) == 0
    assert "data from the cache kept/data/" in capsys.readouterr().out.replace("\n", "")
    for part in Path("kept").glob("data/*/test.safetensors"):
        raw = part.read_bytes()
        size = struct.unpack("<Q", raw[:8])[0]
        part.write_bytes(raw[: 8 + size] + bytes(b ^ (i == 0) for i, b in enumerate(raw[8 + size :])))
    assert main(["verify", "outputs/file", "cache=kept"]) == 2
    assert "file: test part" in capsys.readouterr().err


EVIL = "import pathlib\npathlib.Path(__file__).with_name('canary').touch()\nclass Source: pass\n"


def hostile(config: dict[str, Any], how: str) -> str:
    node = {"_target_": "os.system", "command": "touch canary"}
    if how == "source":
        config["data"]["source"] = node
    elif how == "nested":
        config["data"]["filters"]["k_core"] = {"_target_": "subprocess.check_output", "args": ["touch", "canary"]}
    elif how == "alias":
        config["data"]["split"] = {"_target_": "recdistill.data.splits.importlib.import_module", "name": "evil"}
    elif how == "plugin":
        config["data"]["source"] = {"_target_": "evil.Source"}
    elif how == "interpolation":
        config["t"] = "os.system"
        config["data"]["source"] = {"_target_": "${t}", "command": "touch canary"}
    elif how == "unused":
        config["logger"] = {"x": node}
    text = yaml.safe_dump(config)
    if how == "tag":
        text += "x: !!python/object/apply:os.system ['touch canary']\n"
    if how == "bomb":
        text += "x0: &x0 [1,1,1,1,1,1,1,1,1,1]\n"
        text += "".join(f"x{n}: &x{n} [{','.join([f'*x{n - 1}'] * 10)}]\n" for n in range(1, 9))
    return text


@pytest.mark.parametrize("how", ["source", "nested", "alias", "plugin", "interpolation", "unused", "tag", "bomb"])
def test_a_hostile_config_is_refused(how: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """S4, S5: a run folder from somebody else passes the same gate as the command line."""
    Path("evil.py").write_text(EVIL)
    file = Path("outputs/one/config.yaml")
    file.write_text(hostile(yaml.safe_load(file.read_text()), how))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(home))
        assert main(["verify", "outputs/one"]) == 2
    said = capsys.readouterr().err
    assert "not allowed" in said or "aliases" in said or "does not exist" in said
    assert "config.yaml" in said
    assert not Path("canary").exists()


def test_a_hostile_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    edit(
        Path("outputs/one/models/teacher/model.json"),
        lambda info: info.update(net={"_target_": "os.system", "command": "touch canary"}),
    )
    assert main(["verify", "outputs/one"]) == 2
    assert "the target 'os.system' is not allowed" in capsys.readouterr().err
    assert not Path("canary").exists()


@pytest.mark.usefixtures("once")
def test_other_versions_are_said_and_do_not_fail(capsys: pytest.CaptureFixture[str]) -> None:
    edit(Path("outputs/one/summary.json"), lambda s: s["versions"].update(torch="1.0", numpy="1.0"))
    assert main(["report", "report.run=outputs/one"]) == 0
    assert main(["verify", "outputs/one"]) == 0
    assert "note: other versions: torch 1.0 there," in capsys.readouterr().out


def test_a_grid_is_verified_job_by_job(
    cli: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("run", "-m", "seed=1,2", "run.name=grid", "distiller=none", "student.fit.epochs=1") == 0
    capsys.readouterr()
    assert main(["verify", "outputs/grid"]) == 0
    said = capsys.readouterr().out
    assert said.count("checks agree") == 3
    edit(Path("outputs/grid/grid.json"), lambda grid: grid["rows"][0]["metrics"]["ndcg@10"].update(mean=0.9))
    edit(Path("outputs/grid/1/summary.json"), lambda s: s["rows"][0]["metrics"].update({"ndcg@5": 0.9}))
    assert main(["verify", "outputs/grid"]) == 2
    said = capsys.readouterr().err
    assert "grid/1: teacher: metrics.ndcg@5" in said
    assert "grid: joint table: rows.0.metrics." in said
    assert not list(tmp_path.glob("outputs/*/verify*"))
    Path("outputs/grid/grid.json").write_text("[1]")
    assert main(["verify", "outputs/grid"]) == 2
    assert "grid: joint table: grid.json" in capsys.readouterr().err


def test_a_run_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify"]) == 2
    assert "recdistill verify outputs/one" in capsys.readouterr().err
    assert main(["verify", "outputs/onw"]) == 2
    assert "did you mean outputs/one?" in capsys.readouterr().err
    Path("outputs/one/config.yaml").unlink()
    assert main(["verify", "outputs/one"]) == 2
    assert "config.yaml" in capsys.readouterr().err
