"""Lines whose teacher is of another domain: what crosses, who is masked, what is said, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from task_kit import command, write_digits

from recdistill.export.bundle import load_model, model_info
from recdistill.stages import transfer
from recdistill.stages.transfer import reach_of

USERS, SHARED = 60, 40
SMALL = ("teacher=ials", "teacher.net.dim=6", "teacher.net.epochs=4", "student=mf", "student.net.dim=4",
         "student.fit.epochs=3", "student.fit.validate_every=3", "evaluation.ks=[5,10]", "logger=none",
         "trainer=cpu")  # fmt: skip
TARGET = ("data=csv", "data.path=target.csv", "data/split=random", "data.split.seed=1")
SOURCE = ("data@transfer.data=csv", "transfer.data.path=source.csv", "data/split@transfer.data.split=random")
ACROSS = (*SMALL, *TARGET, "transfer=users", *SOURCE, "distiller=topk_kl", "distiller.topk_kl.k=5")
DIGITS = (
    "task=classification", "data=mnist", "data.path=digits", "transfer=features", "transfer.data.path=others",
    "teacher=mlp", "teacher.net.hidden=[16]", "teacher.fit.epochs=3", "student=mlp", "student.net.hidden=[8]",
    "student.fit.epochs=3", "distiller=soft_label", "logger=none", "trainer=cpu",
)  # fmt: skip


def write_domains(folder: Path) -> None:
    """People of two tastes who buy in both shops; the last users of the target are unknown in the source."""
    rng = np.random.default_rng(0)
    for name, first, items in (("source", USERS - SHARED, 24), ("target", 0, 20)):
        rows = ["user,item"]
        for user in range(first, first + USERS) if name == "source" else range(USERS):
            own = rng.permutation(items // 2)[:6] + items // 2 * (user % 2)
            rows += [f"u{user:02},{name}{item}" for item in own]
        (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_domains(tmp_path)
    write_digits(tmp_path / "digits")
    write_digits(tmp_path / "others", n=200)
    return tmp_path


def words(*more: str, line: tuple[str, ...] = ACROSS) -> list[str]:
    keys = {word.partition("=")[0] for word in more}
    return [*(word for word in line if word.partition("=")[0] not in keys), *more]


def found(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "outputs" / name / "metrics.json").read_text(encoding="utf-8"))
    return content["models"]


def test_the_line_across_users_ends_in_the_whole_table_and_is_verified(folder: Path) -> None:
    assert command("run", words("run.name=a", "distiller=[hint,topk_kl]", "compression=quantize")) == 0
    summary = json.loads((folder / "outputs/a/summary.json").read_text(encoding="utf-8"))
    assert [row["role"] for row in summary["rows"]] == [
        "teacher", "teacher_quantized", "teacher_quantized", "alone", "student", "compressed"
    ]  # fmt: skip
    assert summary["transfer"] == "source.csv"
    assert summary["rows"][0]["train_seconds"] is None
    said = f"the teacher knows {SHARED} of {USERS} users and 20 of 20 items of the target"
    assert any(said in note for note in summary["notes"])
    assert said in (folder / "outputs/a/report.html").read_text(encoding="utf-8")
    assert command("verify", ["outputs/a"]) == 0
    # The teacher of the source alone is the same stop, found again.
    line = [*SMALL, "data=csv", "data.path=source.csv", "data/split=random", "run.name=source"]
    before = {path.parent.name for path in folder.glob("outputs/cache/teacher/*/stamp.json")}
    assert command("train", line) == 0
    assert {path.parent.name for path in folder.glob("outputs/cache/teacher/*/stamp.json")} == before


def test_tastes_are_carried_over(folder: Path) -> None:
    """With a label in twenty the student alone knows next to nothing; neighbours in the source know the taste."""
    assert command("distill", words("run.name=a", "data.label_fraction=0.1", "alpha=0.8")) == 0
    models = {name: model["metrics"]["ndcg@10"] for name, model in found(folder, "a").items()}
    assert models["student distilled"] > models["student alone"] + 0.02


@pytest.mark.parametrize("distiller", ["topk_kl", "soft_label"])
def test_live_and_stored_teachers_say_the_same(folder: Path, distiller: str) -> None:
    more = [f"distiller={distiller}", "transfer.adaptive=true"]
    line = [word for word in words(*more) if not word.startswith("distiller.topk_kl") or distiller == "topk_kl"]
    for signals in ("live", "stored"):
        assert command("distill", [*line, f"signals={signals}", f"run.name={signals}"]) == 0
    live, stored = (found(folder, name)["student distilled"]["metrics"] for name in ("live", "stored"))
    assert live["ndcg@10"] == pytest.approx(stored["ndcg@10"], abs=1e-6)


def test_adaptive_weights_are_logged(folder: Path) -> None:
    assert command("distill", words("run.name=a", "transfer.adaptive=true")) == 0
    where = Path(found(folder, "a")["student distilled"]["folder"])
    rows = json.loads((where / "history.json").read_text(encoding="utf-8"))
    assert 0 < rows[0]["train/weighting.effective"] <= 1
    assert 0 < rows[0]["train/weighting.mean"] < 1


def test_who_is_unknown_is_not_distilled(folder: Path) -> None:
    """Without a hard loss the vectors of users whom the source lacks stay where they began, but for weight decay."""
    more = ("alpha=1", "data.label_fraction=0", "student.fit.weight_decay=0", "distiller=hint",
            "distiller.hint.side=user", "student.net.init_std=0.001")  # fmt: skip
    line = [word for word in words(*more, "run.name=a") if not word.startswith("distiller.topk_kl")]
    # no labels at all: nothing says who has what, so that items are unknown, and users teach alone
    assert command("distill", line) == 0
    models = found(folder, "a")
    reach = reach_of(models["teacher"]["folder"])
    assert reach is not None
    assert reach.items is not None
    assert int(reach.queries.sum()) == SHARED
    assert not reach.items.any()
    user = load_model(Path(models["student distilled"]["folder"])).user.weight
    moved = user.detach().norm(dim=1)
    assert float(moved[reach.queries].min()) > 3 * float(moved[~reach.queries].max())


def test_hidden_labels_are_no_part_of_the_bridge(folder: Path) -> None:
    assert command("train", words("run.name=few", "data.label_fraction=0.2")) == 0
    assert command("train", words("run.name=all")) == 0
    few, every = (load_model(Path(found(folder, name)["teacher"]["folder"])) for name in ("few", "all"))
    assert int((few.item != 0).any(1).sum()) <= int((every.item != 0).any(1).sum())
    assert not torch.equal(few.item, every.item)
    assert torch.equal(few.user, every.user)


CONTENT = (
    "task=sequence", "task.max_length=6", "data=csv", "data.path=new.csv", "data.time=time", "transfer.data.time=time",
    "data/split=user_temporal", "encode=vectors", "data.encode.vectors.file=new.npy", "transfer=content",
    "data@transfer.data=csv", "transfer.data.path=old.csv", "data/split@transfer.data.split=user_temporal",
    "encode@transfer.data.encode=vectors", "transfer.data.encode.vectors.file=old.npy", "teacher=content_metric",
    "teacher.net.decay=0.2", "teacher.fit.epochs=15", "teacher.fit.batch_size=16", "teacher.fit.lr=0.05",
    "teacher.fit.weight_decay=0", "teacher.fit.validate_every=15", "student=gru4rec", "model@student.net=gru4rec_tiny",
    "student.fit.epochs=2", "distiller=topk_kl", "distiller.topk_kl.k=5", "evaluation.ks=[5,10]", "logger=none",
    "trainer=cpu",
)  # fmt: skip
SWAP = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])


def write_shops(folder: Path) -> None:
    """Two shops without a common item or customer. Items are of four kinds, and in both shops what follows an item is
    one of the kind that goes with its own, 1 with 2 and 3 with 4: likeness alone finds it last."""
    rng = np.random.default_rng(0)
    for name, items in (("old", 80), ("new", 60)):
        kind = np.arange(items) % 4
        vectors = 3 * np.eye(4)[kind] + rng.normal(0, 0.1, (items, 4))
        np.save(folder / f"{name}.npy", vectors.astype(np.float32))
        (folder / f"{name}.ids").write_text("\n".join(f"{name}{item}" for item in range(items)))
        rows = ["user,item,time"]
        for user in range(90):
            now, left = rng.integers(4), set(range(items))
            for time in range(8):
                item = int(rng.choice([one for one in left if kind[one] == now]))
                left.remove(item)
                rows.append(f"{name}-u{user},{name}{item},{time}")
                now = int(SWAP[now].argmax())
        (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")


def test_what_goes_with_what_crosses_by_content(folder: Path) -> None:
    """Of 60 items 15 are of the kind that follows: a list of these in any order is better than one of all."""
    write_shops(folder)
    assert command("evaluate", words("run.name=c", line=CONTENT)) == 0
    discounts = sum(1 / np.log2(place + 2) for place in range(10))
    among_kind, by_chance = discounts / 15, discounts / (60 - 7)
    assert found(folder, "c")["teacher"]["metrics"]["ndcg@10"] > 0.9 * among_kind > 2 * by_chance
    assert load_model(Path(found(folder, "c")["teacher"]["folder"])).schema.n_items == 60


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (["data.encode.vectors.whiten=true"], "whitened or cut"),
        (["transfer.data.encode.vectors.dim=2"], "whitened or cut"),
        (["transfer.data.encode.vectors.file=narrow.npy"], "don't have the same vectors"),
        (["teacher=gru4rec", "model@teacher.net=gru4rec_tiny"], "by their ids, too"),
    ],
)
def test_content_that_can_not_cross_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], match: str
) -> None:
    write_shops(folder)
    np.save("narrow.npy", np.load("old.npy")[:, :3])
    (folder / "narrow.ids").write_text((folder / "old.ids").read_text())
    line = tuple(word for word in CONTENT if "teacher=gru4rec" not in more or "decay" not in word)
    assert command("evaluate", words(*more, line=line)) == 2
    assert match in " ".join(capsys.readouterr().err.split())


def test_settings_without_a_bridge_name_the_bridges(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("check", ["transfer.adaptive=true"]) == 2
    assert "first transfer=catalogue; there are catalogue, content, features, users" in capsys.readouterr().err


def test_digits_cross_by_their_pixels(folder: Path) -> None:
    line = words("run.name=a", "transfer.adaptive=true", "data.label_fraction=0.1", line=DIGITS)
    assert command("run", line) == 0
    assert command("verify", ["outputs/a"]) == 0
    summary = json.loads((folder / "outputs/a/summary.json").read_text(encoding="utf-8"))
    assert summary["rows"][0]["label"] == "MLP"
    assert summary["transfer"] == "others"
    teacher = folder / "outputs/a/models/teacher"
    assert model_info(teacher)["data"] == summary["data"]["fingerprint"]


def test_two_classes_by_an_override(folder: Path) -> None:
    more = ("data.classes=[0,2]", "transfer.data.classes=[0,2]", "run.name=two")
    assert command("train", words(*more, line=DIGITS)) == 0
    assert model_info(Path(found(folder, "two")["teacher"]["folder"]))["schema"]["n_outputs"] == 2


REFUSED = [
    (("teaching=mutual",), "does not learn here"),
    (("transfer.adaptive=true", "weighting=gap"), "weighted in one way"),
    (("teacher=ease",), "can't cross SharedUsers"),
    (("transfer=features", "data@transfer.data=csv"), "SharedFeatures is a bridge for classification"),
    (("transfer=catalogue",), "the teacher is of another catalogue"),
    (("transfer.power=2",), "transfer.bridge.power"),
    (("transfer.adaptive=true", "distiller=hint"), "can't be weighted by query"),
]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("more", "match"), REFUSED)
def test_what_can_not_cross_is_refused(capsys: pytest.CaptureFixture[str], more: Any, match: str) -> None:
    drop = ("teacher.net",) if "teacher=ease" in more else ("distiller.topk_kl",) if "distiller=hint" in more else ()
    line = [word for word in words(*more) if not drop or not word.startswith(drop)]
    assert command("distill", line) == 2
    assert match in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("folder")
def test_other_pixels_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("train", words("data.resize=3", line=DIGITS)) == 2
    assert "the same columns and classes in both domains" in " ".join(capsys.readouterr().err.split())


def test_the_model_of_another_catalogue_needs_a_mapping(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = [*SMALL, "data=csv", "data.path=source.csv", "data/split=random", "run.name=first", "distiller=none"]
    assert command("run", line) == 0
    bundle = ["teacher=bundle", f"teacher.path={folder}/outputs/first/models/teacher"]
    renamed = [word for word in words("transfer=catalogue") if not word.startswith("teacher")]
    assert command("train", [word for word in renamed if "transfer" not in word] + bundle) == 2
    assert "another data set" in capsys.readouterr().err
    assert command("train", [*renamed, *bundle]) == 2
    assert "transfer.mapping=FILE.csv" in capsys.readouterr().err
    rows = "".join(f"source{item},target{item}\n" for item in range(15))
    (folder / "ids.csv").write_text("teacher_id,item_id\n" + rows)
    assert command("run", [*renamed, *bundle, "transfer.mapping=ids.csv", "run.name=second"]) == 0
    notes = json.loads((folder / "outputs/second/summary.json").read_text(encoding="utf-8"))["notes"]
    assert any(f"knows {SHARED} of {USERS} users and 15 of 20 items" in note for note in notes)
    assert command("verify", ["outputs/second"]) == 0
    # Another mapping is another teacher.
    teacher = transfer.REACH
    before = len(list(folder.glob(f"outputs/cache/teacher/*/{teacher}")))
    (folder / "ids.csv").write_text("teacher_id,item_id\n" + rows[: rows.index("\n") + 1])
    assert command("train", [*renamed, *bundle, "transfer.mapping=ids.csv", "run.name=third"]) == 0
    assert len(list(folder.glob(f"outputs/cache/teacher/*/{teacher}"))) == before + 1


@pytest.mark.parametrize("name", ["sport_to_phone", "phone_to_sport"])
def test_an_experiment_across_domains_works(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One step of every stage, of made-up shops."""
    rng = np.random.default_rng(0)
    for domain in ("sport_phone", "phone_sport"):
        (folder / domain).mkdir()
        bought = [(user, item) for user in range(30) for item in rng.permutation(25)[:6]]
        for file, part in (("train.txt", bought), ("test.txt", [(user, (user + 7) % 25) for user in range(30)])):
            rows = [pair for pair in part if file == "train.txt" or pair not in bought]
            (folder / domain / file).write_text("".join(f"{user}\t{item}\t1\n" for user, item in rows))
    source, _, target = name.partition("_to_")
    paths = [f"data.path={target}_{source}", f"transfer.data.path={source}_{target}"]
    assert command("check", [f"experiment=cdr/{name}", *paths, "logger=none", "trainer=cpu"]) == 0
    assert "one step of every stage worked" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_the_experiment_of_digits_works(capsys: pytest.CaptureFixture[str]) -> None:
    paths = ["data=mnist", "data.path=digits", "transfer.data.path=others", "transfer.data.crop=0"]
    assert command("check", ["experiment=digits/mnist_to_usps", *paths, "logger=none", "trainer=cpu"]) == 0
    assert "one step of every stage worked" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["cdr/sport_to_phone", "cdr/phone_to_sport", "digits/mnist_to_usps"])
def test_an_experiment_says_how_to_start_it(name: str) -> None:
    text = (Path(__file__).parents[2] / f"conf/experiment/{name}.yaml").read_text(encoding="utf-8")
    assert f"# Try: recdistill run experiment={name} data.path=../shared/data/" in text
