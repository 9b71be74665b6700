"""Teachers from elsewhere: files of another library, bundles of other runs, ensembles; from the command line."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from stage_kit import models, weights

from recdistill.cli import main
from recdistill.data import store
from recdistill.data.interactions import Dataset
from recdistill.export.bundle import load_model, model_info
from recdistill.tasks.timeline import Timeline

Cli = Callable[..., int]
LIST = ("distiller=topk_kl", "distiller.topk_kl.k=20")


def the_data() -> Dataset:
    (folder,) = (file.parent for file in Path("outputs/cache").glob("data/*/dataset.json"))
    data = store.load(folder, ("train", "valid"))
    assert isinstance(data, Dataset)
    return data


def metrics(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"outputs/{run}/metrics.json").read_text())["models"]
    return {name: model["metrics"] for name, model in found.items()}


def lists_by(scores: np.ndarray[Any, Any], data: Dataset, k: int = 20) -> pl.DataFrame:
    """The best k of each user, training items included, from all scores."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    users = np.repeat(data.users[: len(scores)].astype(str), k)
    return pl.DataFrame({"user": users, "item": data.items[best.ravel()].astype(str),
                         "score": np.take_along_axis(scores, best, 1).ravel()})  # fmt: skip


def test_lists_of_our_own_model_teach_what_it_teaches(cli: Cli) -> None:
    """A row of the table of its own, whose lists are those of the file; and the student is that of the model itself."""
    assert cli("distill", *LIST, "run.name=own") == 0
    data = the_data()
    model = load_model(models(Path("outputs/cache"), "teacher")[0], data.train)
    with torch.no_grad():
        scores = model.scores(torch.arange(data.train.n_users))
    scores[data.train.user, data.train.item] = -1e9
    lists_by(scores.numpy(), data).sample(fraction=1, shuffle=True, seed=1).write_parquet("lists.parquet")
    words = ("teacher=files", "teacher.path=lists.parquet", *LIST)
    for signals in ("stored", "live"):
        assert cli("distill", *words, f"signals={signals}", f"run.name={signals}") == 0
    own, stored, live = (metrics(run) for run in ("own", "stored", "live"))
    assert stored["teacher"]["ndcg@10"] == pytest.approx(own["teacher"]["ndcg@10"], abs=1e-6)
    for given in (stored, live):
        assert given["student distilled"]["ndcg@10"] == pytest.approx(own["student distilled"]["ndcg@10"], abs=1e-3)
    assert own["student distilled"] != own["student alone"]


def test_the_key_is_what_the_file_says_and_not_where_it_is(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("data") == 0
    data = the_data()
    frame = lists_by(np.random.default_rng(0).normal(size=(data.train.n_users, data.train.n_items)), data)
    frame.write_csv("lists.csv")
    words = ("teacher=files", "teacher.path=lists.csv")
    assert cli("train", *words) == 0
    (first,) = models(Path("outputs/cache"), "teacher")
    assert cli("train", *words) == 0
    assert models(Path("outputs/cache"), "teacher") == [first]
    frame.with_columns(score=-pl.col("score")).write_csv("lists.csv")
    assert cli("train", *words) == 0
    assert len(models(Path("outputs/cache"), "teacher")) == 2
    capsys.readouterr()
    assert cli("train", "teacher=files") == 2
    assert "teacher.path is needed" in capsys.readouterr().err
    assert cli("train", "teacher=files", "teacher.path=list.csv") == 2
    assert "did you mean teacher.path=lists.csv" in capsys.readouterr().err
    assert cli("train", "teacher=files", "teacher.path=lists.csv", "task=ctr") == 2
    assert "GivenLists is a model for ranking, not for ctr" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("implicit") is None, reason="the library implicit is not installed")
def test_a_library_s_model_teaches(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alternating least squares of implicit: its lists, with its fill of those that are too short, and its vectors."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    assert cli("data") == 0
    data = the_data()
    from implicit.cpu.als import AlternatingLeastSquares

    pairs = (data.train.user.numpy(), data.train.item.numpy())
    matrix = sp.csr_matrix((np.ones(len(data.train), np.float32), pairs), (data.train.n_users, data.train.n_items))
    model = AlternatingLeastSquares(factors=16, iterations=15, random_state=0, num_threads=1)
    model.fit(matrix, show_progress=False)
    ids, scores = model.recommend(np.arange(data.train.n_users), matrix, N=50, filter_already_liked_items=True)
    frame = pl.DataFrame({"user": np.repeat(data.users[: len(ids)].astype(str), 50),
                          "item": data.items[ids.ravel()].astype(str), "score": scores.ravel()})  # fmt: skip
    frame.write_parquet("lists.parquet")
    for side, vectors in (("users", model.user_factors), ("items", model.item_factors)):
        np.save(f"{side}.npy", vectors)
        Path(f"{side}.ids").write_text("\n".join(getattr(data, side)[: len(vectors)]) + "\n", encoding="utf-8")
    assert (
        cli("distill", "teacher=files", "teacher.path=lists.parquet", *LIST, "student.fit.epochs=8", "run.name=l") == 0
    )
    vectors = ("teacher=vectors", "teacher.users=users.npy", "teacher.items=items.npy", "teacher.dim=16")
    assert cli("distill", *vectors, "distiller=[topk_kl,hint]", LIST[1], "student.fit.epochs=8", "run.name=v") == 0
    lists, factors = metrics("l"), metrics("v")
    assert lists["teacher"]["ndcg@10"] == pytest.approx(factors["teacher"]["ndcg@10"], abs=1e-6)
    for found in (lists, factors):
        assert found["student distilled"]["ndcg@10"] > 1.1 * found["student alone"]["ndcg@10"]


def test_a_chain_of_assistants(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """A student that was distilled, and compressed, teaches a smaller one; verify finds both runs right."""
    one = ("compression=[quantize]", "student.net.dim=8", "run.name=first")
    assert cli("run", *one) == 0
    path = "outputs/first/models/student_distilled"
    assert cli("run", "teacher=bundle", f"teacher.path={path}", "student.net.dim=2", "run.name=second") == 0
    (row, *_) = json.loads(Path("outputs/second/summary.json").read_text())["rows"]
    assert (row["weights_hash"], row["label"]) == (model_info(Path(path))["hash"], "MF d=8")
    assert cli("verify", "outputs/second") == 0
    path = "outputs/first/models/quantize"
    assert cli("distill", "teacher=bundle", f"teacher.path={path}", "student.net.dim=2", "run.name=third") == 0
    capsys.readouterr()
    other = ("teacher=bundle", f"teacher.path={path}", "data.source.seed=5")
    assert cli("distill", *other) == 2
    assert "the bundle is of another data set" in capsys.readouterr().err
    assert cli("distill", "teacher=bundle", "teacher.path=outputs") == 2
    assert "there is no model here" in capsys.readouterr().err
    assert cli("distill", "teacher=bundle", f"teacher.path={path}", "task=ctr") == 2
    assert "MF is a model for ranking, not for ctr" in capsys.readouterr().err


MEMBERS = ("teacher=ensemble", "~teacher@teacher.net.members.lightgcn", "teacher.net.members.mf.net.dim=12",
           "teacher.net.members.mf.fit.epochs=3")  # fmt: skip


def test_an_ensemble_is_a_teacher(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """Its members are stops of their own, found again by whoever else wants them; it stands without them."""
    assert cli("run", *MEMBERS, *LIST, "run.name=e") == 0
    assert len(models(Path("outputs/cache"), "teacher")) == 3
    row = json.loads(Path("outputs/e/summary.json").read_text())["rows"][0]
    assert (row["name"], row["label"]) == ("teacher", "RankingEnsemble")
    shutil.copytree("outputs/e", "outputs/copy")
    assert cli("distill", *MEMBERS, "+teacher@teacher.net.members.popularity=popularity", *LIST) == 0
    assert len(models(Path("outputs/cache"), "teacher")) == 5  # popularity, and the larger ensemble
    capsys.readouterr()
    shutil.rmtree("outputs/cache")
    assert cli("verify", "outputs/copy") == 0
    assert cli("train", *MEMBERS, "+teacher@teacher.net.members.odd=dcnv2") == 2
    assert "DCNv2 is a model for ctr and rating, not for ranking" in capsys.readouterr().err


def test_students_of_other_runs_are_one_file_together(cli: Cli) -> None:
    """Their bundles are an ensemble's members; it is exported as one graph, and verify finds the run right."""
    pytest.importorskip("onnxruntime", reason="pip install 'recdistill[onnx]'")
    pytest.importorskip("onnxscript", reason="pip install 'recdistill[onnx]'")
    paths = []
    for dim in (3, 5):
        assert cli("distill", f"student.net.dim={dim}", "student.fit.epochs=1", *LIST) == 0
    for folder in models(Path("outputs/cache"), "student"):
        if model_info(folder)["net"]["dim"] in (3, 5) and len(paths) < 2:
            paths.append(folder)
    words = [word for name, path in zip(("one", "two"), paths, strict=True) for word in (
        f"+teacher@teacher.net.members.{name}=bundle", f"teacher.net.members.{name}.path={path}")]  # fmt: skip
    alone = [f"~teacher@teacher.net.members.{name}" for name in ("lightgcn", "mf", "ease")]
    exported = ("export=[bundle,onnx]", "export_also=[teacher]", "student.fit.epochs=1", "run.name=both")
    assert cli("run", "teacher=ensemble", *alone, *words, *LIST, *exported) == 0
    net = json.loads(Path("outputs/both/export_teacher/model.json").read_text())["net"]
    assert [net["members"][name]["net"] for name in ("one", "two")] == [model_info(path)["net"] for path in paths]
    assert Path("outputs/both/export_teacher/model.onnx").is_file()
    assert cli("verify", "outputs/both") == 0


def test_lists_shorter_than_asked_for(cli: Cli) -> None:
    """With users that have none; by themselves, and as a member: read back, and verified."""
    assert cli("data") == 0
    data = the_data()
    scores = np.random.default_rng(0).normal(size=(data.train.n_users - 3, data.train.n_items))
    lists_by(scores, data, 7).write_parquet("lists.parquet")
    member = ("+teacher@teacher.net.members.file=files", "teacher.net.members.file.path=lists.parquet")
    for name, words in (
        ("file", ("teacher=files", "teacher.path=lists.parquet", "distiller=soft_label")),
        ("member", ("teacher=ensemble", "~teacher@teacher.net.members.lightgcn", *member, "distiller=gated_ensemble")),
    ):
        assert cli("run", *words, f"run.name={name}") == 0
        assert main(["verify", f"outputs/{name}"]) == 0


def test_a_member_s_change_changes_the_ensemble(cli: Cli) -> None:
    for epochs in (1, 2):
        assert cli("train", *MEMBERS, f"teacher.net.members.mf.fit.epochs={epochs}") == 0
    found = models(Path("outputs/cache"), "teacher")
    ensembles = [folder for folder in found if "members" in model_info(folder)["net"]]
    assert len(ensembles) == 2
    assert len({weights(folder) for folder in ensembles}) == 2


def test_families_teach_together(cli: Cli) -> None:
    """A factorisation, a graph and a sequence model; the last knows users by their histories."""
    few = [f"teacher.net.members.{name}.fit.epochs=1" for name in ("lightgcn", "mf", "sequence.net.members.model")]
    words = ("teacher=ensemble", "+teacher@teacher.net.members.sequence=by_history",
             "~teacher@teacher.net.members.ease", *few, *LIST)  # fmt: skip
    assert cli("distill", *words) == 0
    cache, train = Path("outputs/cache"), the_data().train
    nets = {
        str(model_info(folder)["net"]["_target_"]).rpartition(".")[2]: folder for folder in models(cache, "teacher")
    }
    assert set(nets) == {"LightGCN", "MF", "SASRec", "ByHistory", "RankingEnsemble"}
    sequence, ranking = load_model(nets["SASRec"], train), load_model(nets["ByHistory"], train)
    history = Timeline.of(train).last(torch.arange(train.n_users), 50)
    with torch.no_grad():
        expected = sequence.query(history) @ sequence.item_matrix().T
        torch.testing.assert_close(ranking.scores(torch.arange(train.n_users)), expected)
    assert cli("distill", "task=sequence", "teacher=sasrec", "teacher.fit.epochs=1", "student=gru4rec",
               "student.fit.epochs=1", "student.net.dim=4") == 0  # fmt: skip
    assert len(models(cache, "teacher")) == 5  # the same sequence model
    assert cli("distill", "teacher=by_history", "teacher@teacher.net.members.model=mf") == 2


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("ctr", ("student=lr", "distiller=[ctr_ensemble,confidence_ensemble]", "data=synthetic_clicks",
                 "data.source.n_rows=600")),
        ("sequence", ("student=gru4rec", "student.net.dim=4", "distiller=[soft_label,gated_ensemble]",
                      "data.source.n_users=60")),
    ],
)  # fmt: skip
def test_ensembles_of_other_tasks(task: str, words: tuple[str, ...], cli: Cli) -> None:
    names = {"ctr": ("dcnv2", "deepfm", "finalmlp"), "sequence": ("sasrec", "gru4rec", "nextitnet")}[task]
    few = [f"teacher.net.members.{name}.fit.epochs=1" for name in names[:2]]
    own = (f"task={task}", f"teacher=ensemble_{task}", f"~teacher@teacher.net.members.{names[2]}", *few)
    fit = ("student.fit.epochs=1", "student.fit.batch_size=64", "compression=none", "logger=none", "trainer=cpu")
    for signals in ("stored", "live"):
        assert cli("distill", *own, *words, *fit, f"signals={signals}", f"run.name={signals}") == 0
    key = "student distilled"
    assert metrics("live")[key] == pytest.approx(metrics("stored")[key], abs=1e-5)


def test_scores_too_large_to_store_are_asked_for_live(cli: Cli, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr("recdistill.distillers.signals.MAX_SCORE_BYTES", 100)
    words = ("distill", "teacher=neumf", "teacher.fit.epochs=1", "student.fit.epochs=1", "distiller=soft_label")
    assert cli(*words) == 2
    said = capsys.readouterr()
    assert "signals=live" in said.out + said.err
    assert cli(*words, "signals=live", "run.name=live") == 0


def test_signals_of_another_teacher_or_request_are_stale(cli: Cli, capsys: Any) -> None:
    """R20: in a folder that says otherwise."""
    for seed in (1, 2):
        assert cli("distill", *LIST, f"seed={seed}", f"run.name=s{seed}") == 0
    first, second = sorted(Path("outputs/cache/signals").glob("*/signals.json"))
    for file in ("signals.json", "signals.safetensors"):
        shutil.copy(second.parent / file, first.parent / file)
    shutil.rmtree("outputs/cache/student")
    found = [cli("distill", *LIST, f"seed={seed}", f"run.name=t{seed}") for seed in (1, 2)]
    assert sorted(found) == [0, 2]
    said = capsys.readouterr()
    assert "their teacher is another" in said.out + said.err
    assert f"remove the folder {first.parent}" in (said.out + said.err).replace("\n", " ")
    info = json.loads(second.read_text())
    second.write_text(json.dumps({**info, "needs": {**info["needs"], "top_k": 5}}))
    assert 2 in [cli("distill", *LIST, f"seed={seed}", f"run.name=u{seed}") for seed in (1, 2)]
    said = capsys.readouterr()
    assert "their needs is another" in said.out + said.err


def test_a_temperature_that_nobody_reads_is_said(cli: Cli, capsys: Any) -> None:
    assert cli("distill", *LIST, "temperature=9", "run.name=nobody") == 0
    said = capsys.readouterr().out
    assert "temperature is read by none of the distillers, but distiller.topk_kl.temperature is" in said
    assert cli("distill", "distiller=soft_label", "temperature=9", "run.name=somebody") == 0
    assert "read by none" not in capsys.readouterr().out
