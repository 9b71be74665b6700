"""The plain values of the config: their types and ranges. Extend this file when a new one is added.

Sections whose children carry a ``_target_`` are ``Any`` here: their constructors say what they take.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from recdistill.config.metrics import BY_ROW, BY_USER
from recdistill.config.suggest import nearest

Count = Annotated[int, Ge(1)]
Text = Annotated[str, MinLen(1)]
# A schedule is a node with a _target_; what it takes is checked by its constructor.
Schedule = dict[str, Any]
_METRICS = ("ndcg", "recall", "hr", "mrr", "map", "precision")
_TABLE_METRICS = (*BY_ROW, *BY_USER)
_INSTEAD = {"macro_f1": "accuracy", "macro_recall": "accuracy", "ece": "logloss", "ece_mass": "logloss"}


def _metric(text: str) -> str:
    if text not in _TABLE_METRICS and not re.fullmatch(rf"({'|'.join(_METRICS)})@[1-9][0-9]*", text):
        message = f"must be NAME@K, NAME one of {', '.join(_METRICS)}; or of a table {', '.join(_TABLE_METRICS)}"
        if text in _INSTEAD:
            message = f"is one number for all rows, so that no test can be made of it; {message}"
        raise PydanticCustomError("metric", "{text}", {"text": message, "fix": f"evaluation.metric={_meant(text)}"})
    return text


def _meant(text: str) -> str:
    """The right metric that is most like a wrong one; NDCG@10 where none is."""
    if text in _INSTEAD:
        return _INSTEAD[text]
    parts = re.fullmatch(r"(.*?)\W*([1-9][0-9]*)?", text.lower())
    name, k = parts.groups() if parts else ("", None)
    near = nearest(name, (*_METRICS, *_TABLE_METRICS), 1) or ["ndcg"]
    return near[0] if near[0] in _TABLE_METRICS else f"{near[0]}@{k or 10}"


Metric = Annotated[str, AfterValidator(_metric)]


class Section(BaseModel):
    """A part of the config; a key that is not listed is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Run(Section):
    """The run folder is ``root/name``."""

    name: Text
    root: Text = "outputs"


class Evaluation(Section):
    """How every model is evaluated."""

    ks: Annotated[list[Count], MinLen(1)] = [5, 10, 20, 50]
    metric: Metric = Field(default="ndcg@10", validate_default=True)
    sampled: Count | None = None
    best_by: Literal["full", "sampled"] = "full"

    @field_validator("metric")
    @classmethod
    def _metric_is_computed(cls, metric: str, info: ValidationInfo) -> str:
        name, _, k = metric.partition("@")
        ks = info.data.get("ks")  # absent where it is wrong itself
        if k and ks and int(k) not in ks:
            text = f"{metric} is not computed with ks={ks}"
            near = min(ks, key=lambda other: abs(other - int(k)))
            fix = f"evaluation.metric={name}@{near}, or add {k} to evaluation.ks"
            raise PydanticCustomError("metric_k", "{text}", {"text": text, "fix": fix, "whole": True})
        return metric

    @field_validator("best_by")
    @classmethod
    def _sample_is_there(cls, best_by: str, info: ValidationInfo) -> str:
        if best_by == "sampled" and info.data.get("sampled", 1) is None:
            text = "nothing is sampled for epochs to be chosen by"
            fix = "evaluation.best_by=full; or, where lists are ranked, evaluation.sampled=99 beside it"
            raise PydanticCustomError("best_by", "{text}", {"text": text, "fix": fix, "whole": True})
        return best_by


class Budget(Section):
    """What the compressed model may cost; the strengths of the passes are chosen for it."""

    bytes: Count | Text | None = None
    p99_ms: Annotated[float, Gt(0)] | None = None
    trials: Count = 8


class Recommend(Section):
    """What ``recdistill recommend`` writes."""

    k: Count = 10
    users: str | list[str | int] | None = None
    histories: str | None = None
    output: str | None = None
    model: Literal["last", "teacher", "student", "alone"] = "last"
    new_items: str | None = None


class Checkpoint(Section):
    """How often a training can be gone on from."""

    every_seconds: Annotated[float, Ge(0)] = 30.0


class Report(Section):
    """What ``recdistill report`` shows."""

    run: str | None = None


class Compare(Section):
    """What ``recdistill compare`` shows."""

    metric: Text | None = None
    models: Text | Annotated[list[Text], MinLen(1)] | None = None
    against: Text | Count | None = None
    output: Text | None = None


class Verify(Section):
    """How ``recdistill verify`` finds what a run was made of."""

    data: Text | None = None


class Refresh(Section):
    """How ``recdistill refresh`` updates a model, and when it takes the place of the old one."""

    epochs: Count | None = 5
    newest: Annotated[float, Gt(0), Le(1)] = 0.3
    tolerance: Annotated[float, Ge(0), Le(1)] = 0.01
    least_users: Count = 10
    rollback: bool = False


class DownloadFile(Section):
    """One file of a known data set."""

    url: Text
    sha256: Text
    bytes: Count
    name: Text | None = None
    members: list[Text] = []


class Download(Section):
    """What ``recdistill download`` fetches."""

    root: Text = "data"
    folder: Text | None = None
    files: list[DownloadFile] = []
    terms: Text | None = None
    use: Text | None = None
    url: Text | None = None
    sha256: Text | None = None
    bytes: Count | None = None
    members: list[Text] = []


class Data(BaseModel):
    """What is the same for all data; whatever else is there belongs to one source."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    label_fraction: Annotated[float, Ge(0), Le(1)] = 1.0
    privileged: list[Text] = []


class Transfer(BaseModel):
    """A teacher from another domain; whatever else is there belongs to one bridge."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    adaptive: bool = False
    data: Data | None = None
    bridge: Any = None


class Config(Section):
    """The whole config."""

    alpha: Annotated[float, Ge(0), Le(1)] | Schedule = 0.5
    temperature: Annotated[float, Gt(0)] | Schedule = 2.0
    seed: Annotated[int, Ge(0)] = 1
    alone: dict[str, Any] = {}  # merged over student, whose keys it must have
    run: Run
    cache: Text = "outputs/cache"
    evaluation: Evaluation = Evaluation()
    budget: Budget = Budget()
    recommend: Recommend = Recommend()
    checkpoint: Checkpoint = Checkpoint()
    report: Report = Report()
    compare: Compare = Compare()
    refresh: Refresh = Refresh()
    verify: Verify = Verify()
    download: Download = Download()
    signals: Literal["stored", "live"] = "stored"
    data: Data | None = None
    task: Any = None
    teacher: Any = None
    student: Any = None
    distiller: Any = None
    teaching: Any = None
    weighting: Any = None
    transfer: Transfer = Transfer()
    compression: Any = None
    rerank: Any = None
    export: Any = None
    export_also: list[Literal["teacher", "student", "alone"]] = []
    index: Any = None
    trainer: Any = None
    logger: Any = None
    baselines: Any = None
    experiment: Any = None
