"""What does not fit a task is said before anything is trained: exit 2, and what to type instead."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from task_kit import CLICKS, LOG, command, words_of, write_digits

from recdistill.data.features import Features
from recdistill.data.interactions import Examples, TableDataset
from recdistill.errors import InputError
from recdistill.tasks.classification import Classification
from recdistill.tasks.ctr import Ctr
from recdistill.tasks.rating import Rating

RANKING = ("teacher=mf", "student=mf", "logger=none", "trainer=cpu", "evaluation.ks=[5,10]")


def write_csv(file: Path, rows: list[tuple[object, ...]]) -> None:
    with file.open("w", newline="") as out:
        csv.writer(out).writerows(rows)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_refused(words: list[str], said: list[str], capsys: pytest.CaptureFixture[str], verb: str = "run") -> None:
    assert command(verb, words) == 2
    error = capsys.readouterr().err
    for text in said:
        assert text in error
    assert not [*Path("outputs/cache").glob("teacher/*"), *Path("outputs/cache").glob("student/*")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (words_of("ctr", "distiller=[rrd]"), ["distiller=rrd is", "bce_soft, ", "distiller=soft_label"]),
        (
            words_of("classification", "distiller=[hint]"),
            [
                "distiller=hint is a soft loss for ranking, sequence, not for classification",
                "where: distiller.hint",
                "those for classification are: ce_kl, confidence_ensemble, consistency, dist, dkd,",
            ],
        ),
        (
            ["task=ranking", *LOG, *RANKING, "distiller=rkd", "distiller.rkd.layers={trunk: trunk}"],
            [
                "is, as it is set, a soft loss for classification, ctr, rating, sequence, not for ranking\n"
                "  where: distiller.rkd\n",
                "without layers it compares the vectors of users and items, and is one for ranking, sequence\n",
                "fix: distiller.rkd.layers=null",
            ],
        ),
        (
            words_of("ctr", "distiller=cka"),
            [
                "distiller=cka is, as it is set, a soft loss for ranking, sequence, not for ctr",
                "with layers it compares hidden layers, and is one for classification, ctr, rating, sequence\n",
                "fix: 'distiller.cka.layers={trunk: trunk}'",
            ],
        ),
        (["task=ranking", *LOG, *RANKING, "teacher=sasrec"], ["SASRec is a model for sequence", "task=sequence"]),
        (["task=ranking", *LOG, *RANKING, "teacher=dcnv2"], ["DCNv2 is a model for ctr and rating", "task=ctr"]),
        (
            words_of("sequence", "teacher=ensemble"),
            [
                "RankingEnsemble is",
                "teacher=sasrec or gru4rec or ensemble_sequence or families_sequence; or task=ranking,",
            ],
        ),
        (words_of("ctr", "teacher=ensemble"), ["fix: teacher=dcnv2 or deepfm or lr or ensemble_ctr; or task=ranking,"]),
        (words_of("ctr", "teacher=ensemble_rating"), ["is a model for rating, not", "or lr; or task=rating,"]),
        (words_of("rating", *LOG, "teacher=ensemble"), ["biased_mf or neumf_rating or fm or ensemble_rating; or"]),
        (words_of("sequence", "teacher=assistant"), ["MF is", "teacher=sasrec or gru4rec or assistant_sequence; or"]),
        (words_of("rating", *LOG, "student=neumf"), ["fix: student=biased_mf or neumf_rating or fm; or task=ranking,"]),
        (words_of("ctr", "teacher=mlp"), ["MLP is a model for classification", "teacher=dcnv2"]),
        (words_of("ctr", "objective@student.objective=bpr"), ["BPR is a hard loss for ranking, not for ctr"]),
        (words_of("sequence", "objective@teacher.objective=logloss"), ["hard loss for ctr", "not for sequence"]),
        (words_of("rating", "objective@teacher.objective=cross_entropy"), ["for classification, not for rating"]),
        (
            ["task=ranking", *LOG, *RANKING, "distiller=none", "weighting=gap"],
            ["there is no distiller whose queries could be weighted", "weighting=none"],
        ),
        (words_of("rating", "weighting=entropy"), ["which a rating has not", "weighting=gap"]),
        (words_of("ctr", "evaluation.metric=ndcg@10"), ["ndcg@10 is no metric of ctr", "evaluation.metric=auc"]),
        (words_of("sequence", "evaluation.metric=auc"), ["auc is no metric of sequence", "evaluation.metric=ndcg@10"]),
        (["task=ranking", *CLICKS, *RANKING], ["task=ctr"]),
        (["task=sequence", *CLICKS, "logger=none", "trainer=cpu"], ["task=ctr"]),
        (words_of("ctr", *LOG), ["a click is 0 or 1", "task.threshold=4"]),
        (words_of("ctr", *LOG, "task.threshold=6"), ["every label of the training part is 0", "task.threshold"]),
        (words_of("classification", *LOG), ["classification needs a table of labelled rows"]),
        (words_of("ctr", "data.source.group=null", "evaluation.metric=gauc"), ["gauc", "data.group=", "auc"]),
        (words_of("ctr", "evaluation.sampled=20"), ["evaluation.sampled=null evaluation.best_by=full"]),
        (words_of("ctr", "evaluation.best_by=sampled"), ["nothing is sampled", "fix: evaluation.best_by=full;"]),
        # What a constructor refuses is said of its place in the config, not of its module.
        (["task=ranking", *LOG, *RANKING, "distiller=rrd", "distiller.rrd.pool=10"], ["where: distiller.rrd"]),
        (["task=ranking", *LOG, *RANKING, "+schedule@alpha=steps", "alpha.at=[0.3,0.2]"], ["where: alpha"]),
        (["task=ranking", *LOG, *RANKING, "distiller.soft_label=null"], ["where: distiller.soft_label"]),
        (["task=ranking", *LOG, *RANKING, "distiller=hint", "distiller.hint.lr=0"], ["lr=VALUE: a number > 0"]),
        (words_of("ctr", "+trainer.max_epochs=2"), ["its own number of epochs", "student.fit.epochs"]),
        (words_of("ctr", "distiller=[entropy]"), ["teaches nothing by itself", "distiller=[soft_label,entropy]"]),
        (words_of("sequence", "distiller=hint_attention"), ["GRU4Rec has no attention over a history"]),
        (
            words_of("sequence", "distiller=hint_attention", "student=sasrec", "teacher=gru4rec"),
            ["GRU4Rec has no attention over a history", "choose another model or distiller"],
        ),
        (
            words_of(
                "ctr",
                "distiller=[soft_label,hint_layers]",
                "~distiller.hint_layers.layers.trunk",
                "+distiller.hint_layers.layers={fields:dep}",
            ),
            ["has no layer 'dep'", "did you mean deep"],
        ),
        (words_of("ctr", "distiller=hint_layers"), ["FM has no hidden layer"]),
        (
            words_of("ctr", "student=dnn", "distiller=rkd", "distiller.rkd.layers={deep: cross}"),
            [
                "the layer 'cross' of DCNv2 gives nothing of a row or history when the model answers",
                "those that do are cross.0, deep, deep.0, deep.1, fields, fields.tables.0.table, out\n",
                "did you mean cross.0",
            ],
        ),
        (
            words_of("ctr", "student=dnn", "teacher=autoint", "distiller=rkd", "distiller.rkd.layers={dep: trunk}"),
            ["DNN has no layer 'dep'", "fields, fields.tables.0.table, out\n", "did you mean deep"],
        ),
        (
            words_of("sequence", "distiller=rkd", "distiller.rkd.layers={trunk: position}"),
            ["the layer 'position' of SASRec gives nothing", "blocks.0.widen, dropout, item, norm\n"],
        ),
        (words_of("ctr", "data.source.rate=0.00001"), ["every label of the training part is 0"]),
    ],
)
def test_parts_that_do_not_fit(words: list[str], said: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    write_digits(Path("digits"))
    assert_refused(words, said, capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            words_of("sequence", "teacher=bert4rec", "objective@teacher.objective=sequence_softmax"),
            ["BERT4Rec sees both", "where: teacher.objective", "fix: objective@teacher.objective=sequence_cloze"],
        ),
        (
            words_of("sequence", "objective@teacher.objective=sequence_cloze"),
            ["SASRec knows no masked", "fix: objective@teacher.objective=sequence_softmax"],
        ),
        (words_of("sequence", "teacher.net.heads=3"), ["where: teacher.net.heads", "fix: teacher.net.heads=2"]),
        (words_of("sequence", "teacher.fit.item_init=no.npy"), ["where: teacher.fit.item_init"]),
        (words_of("ctr", "baselines=[fm,ease]"), ["EASE is a model for ranking", "fix: baselines=standard"]),
    ],
)
def test_the_key_to_type_is_named_with_its_role(
    words: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("run", words) == 2
    error = capsys.readouterr().err
    assert [text for text in said if text not in error] == []
    assert not [*Path("outputs/cache").glob("*/*/stamp.json")] or "EASE" not in error


@pytest.mark.parametrize("task", ["ctr", "rating"])
def test_interactions_without_values(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(Path("log.csv"), [("user", "item"), *((f"u{n % 9}", f"i{n % 7}") for n in range(63))])
    data = ("data=csv", "data.path=log.csv", "data.source.user=user", "data.source.item=item", "data/split=random")
    words = [word for word in words_of(task, *data) if not word.startswith(("data.source.n_", "data.source.s"))]
    words = [word for word in words if "niches" not in word and "synthetic" not in word]
    assert_refused(words, ["no values to predict", "task=ranking"], capsys)


@pytest.mark.parametrize("verb", ["run", "train", "distill", "evaluate", "check"])
def test_every_verb_that_trains_says_it(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(words_of("ctr", "evaluation.sampled=20"), ["evaluation.sampled=null"], capsys, verb)


def test_rows_are_not_recommended(capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(words_of("ctr"), ["task=ranking or task=sequence"], capsys, "recommend")


def table(train: list[float], valid: list[float] = (), group: bool = False) -> TableDataset:  # type: ignore[assignment]
    parts = {
        name: Examples(torch.tensor(label), Features(), group=torch.arange(len(label)) if group else None)
        for name, label in (("train", train), ("valid", list(valid)), ("test", [1.0, 0.0]))
    }
    return TableDataset(**parts, report={}, manifest={}, fingerprint="")


@pytest.mark.parametrize("label", [0.5, -1.0, 20_000.0, float("nan")])
def test_classes_are_whole_numbers(label: float) -> None:
    with pytest.raises(InputError, match="a class is a whole number from 0 on; 1 of 3 labels"):
        Classification().adapt(table([0.0, 1.0, label]))


def test_a_class_that_training_lacks() -> None:
    with pytest.raises(InputError, match="class 2 occurs in the valid part and not in training"):
        Classification().adapt(table([0.0, 1.0], [2.0]))


@pytest.mark.parametrize("label", [2.0, -1.0, 0.5, float("nan")])
def test_a_click_is_0_or_1(label: float) -> None:
    with pytest.raises(InputError, match="a click is 0 or 1; 1 of 3 labels are not"):
        Ctr().adapt(table([0.0, 1.0, label]))


def test_one_class_is_no_error_where_nothing_is_trained_on_it() -> None:
    assert len(Ctr().adapt(table([0.0, 1.0], [1.0, 1.0])).valid) == 2


@pytest.mark.parametrize(("task", "metric"), [(Ctr(), "gauc"), (Rating(), "user_rmse"), (Rating(), "user_mae")])
def test_metrics_by_user_need_users(task: Ctr | Rating, metric: str) -> None:
    with pytest.raises(InputError, match=f"{metric} is an average over users"):
        task.require_evaluation(table([0.0, 1.0]), metric, None)
    task.require_evaluation(table([0.0, 1.0], group=True), metric, None)
