"""What a request may say: strict types, known keys, bounded lengths."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MAX_K = 1000
MAX_IDS = 10_000
MAX_ROWS = 1024
Id = Annotated[str, StringConstraints(max_length=512)]
Ids = Annotated[list[Id], Field(max_length=MAX_IDS)]
Length = Annotated[int, Field(ge=1, le=MAX_K, description="how many items; at most max_k of the model")]
Model = Annotated[str | None, Field(max_length=256, description="name of a model; the first by default")]


class Body(BaseModel):
    """A JSON object; a key that is not here is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: Model = None


class RecommendBody(Body):
    """The best items for a user that the model knows, or for whoever has this history."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user": "196", "k": 5}]})

    user: Id | None = Field(None, description="id of a user of the training data")
    history: Ids | None = Field(None, description="ids of items, the oldest first")
    k: Length = 10
    allow: Ids | None = Field(None, description="only these items")
    deny: Ids = Field([], description="none of these items")
    exclude_seen: bool = Field(True, description="whether what the user had is left out")

    @model_validator(mode="after")
    def _one_of_both(self) -> RecommendBody:
        if (self.user is None) == (self.history is None):
            raise ValueError("give either user or history")
        return self


class SimilarBody(Body):
    """The items most like one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"item": "50", "k": 5}]})

    item: Id
    k: Length = 10
    allow: Ids | None = Field(None, description="only these items")
    deny: Ids = Field([], description="none of these items")


class ScoreBody(Body):
    """Predictions for rows of a table by raw values; what a row leaves out is missing."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rows": [{"user": "196", "item": "50"}]}]})

    rows: Annotated[list[dict[Annotated[str, StringConstraints(max_length=256)], Any]],
                    Field(min_length=1, max_length=MAX_ROWS)]  # fmt: skip


class Item(BaseModel):
    """An item of a list."""

    item: str
    title: str | None = None
    score: float | None = None


class ListAnswer(BaseModel):
    """A list, the best first; ``unknown`` are ids of the request that the catalogue lacks."""

    model: str
    user: str | None = None
    items: list[Item]
    unknown: list[str] | None = None
    fallback: str | None = None
    by: str | None = None


class ScoreAnswer(BaseModel):
    """A probability, a number, or the logits of the classes, for each row."""

    model: str
    predictions: list[float] | list[list[float]]


class Problem(BaseModel):
    """What went wrong, where, why, and what to do instead."""

    what: str
    where: str | None = None
    why: str | None = None
    fix: str | None = None


class ErrorAnswer(BaseModel):
    """Every answer that is no 2xx."""

    error: Problem
