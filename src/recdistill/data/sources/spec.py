"""What a config says of features: whose they are, in which file and column, and of which kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator

from recdistill.data.sources.base import RESERVED, Kind
from recdistill.data.sources.files import Encoding, Quote, Separator, nearest
from recdistill.data.sources.frames import Form
from recdistill.data.sources.numbers import Decimal
from recdistill.data.sources.rows import Name


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for name in given:
            if name not in cls.model_fields:
                near = nearest(name, list(cls.model_fields))
                meant = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(cls.model_fields)}"
                raise ValueError(f"there is no key {name!r} here: {meant}")
        for name, field in cls.model_fields.items():
            if field.is_required() and name not in given:
                raise ValueError(f"the key {name!r} is missing")
        return given


class Column(_Strict):
    """One feature.

    Args:
        kind: what it is.
        column: its column in the file, where that has another name; of a ``.safetensors`` file, its tensor.
        separator: between the values of a multi-valued cell.
        file: of a vector, a ``.npy`` or ``.safetensors`` file of floats ``[N, d]`` in place of a column.
        ids: text file with the id of each row of that file, one a line; None where row n is of the id ``n``.
    """

    kind: Kind
    column: Name | None = None
    separator: str = "|"
    file: str | None = None
    ids: str | None = None

    @model_validator(mode="after")
    def _file_is_of_vectors(self) -> Self:
        if self.file is not None and self.kind != "vector":
            raise ValueError(f"a feature with a file of its own is a vector, not {self.kind}")
        if self.ids is not None and self.file is None:
            raise ValueError("ids go with a file of vectors")
        return self

    def name_in_file(self, name: str) -> str:
        """The column of the feature that is called ``name``."""
        return name if self.column is None else str(self.column)


def _long_form(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


def _named(columns: dict[str, Column]) -> dict[str, Column]:
    taken = [name for name in columns if name in RESERVED]
    if taken:
        form = f"OTHER_NAME: {{kind: {columns[taken[0]].kind}, column: {columns[taken[0]].name_in_file(taken[0])}}}"
        raise ValueError(f"no feature can be called {taken[0]!r}, a name of the log's own; write {form}")
    return columns


Columns = Annotated[dict[str, Annotated[Column, BeforeValidator(_long_form)]], AfterValidator(_named)]
"""The features by name; a kind alone is short for a column of that name and kind."""


class SideFeatures(_Strict):
    """Features of the users or of the items.

    Args:
        columns: the features.
        file: CSV, TSV, JSON lines or Parquet; None where each feature has a file of its own.
        id: column of the id; None for the name that it has in the log.
        separator, quote, header, encoding, decimal: as those of the log, for a text file.
    """

    columns: Columns
    file: str | None = None
    id: Name | None = None
    separator: Separator | None = None
    quote: Quote | None = '"'
    header: bool = True
    encoding: Encoding = "utf-8"
    decimal: Decimal = "point"

    @model_validator(mode="after")
    def _has_a_file(self) -> Self:
        if self.in_file and self.file is None:
            raise ValueError(f"'file' is missing, which holds {', '.join(self.in_file)}")
        return self

    @property
    def form(self) -> Form:
        """How the file is written down."""
        return Form(None, self.separator, self.quote, self.header, None, self.encoding, self.decimal)

    @property
    def in_file(self) -> dict[str, Column]:
        """The features that are columns of the file."""
        return {name: column for name, column in self.columns.items() if column.file is None}

    @property
    def vectors(self) -> dict[str, Column]:
        """The features with a file of their own."""
        return {name: column for name, column in self.columns.items() if column.file is not None}


class ContextFeatures(_Strict):
    """Features of the event: columns of the log itself."""

    columns: Columns


class FeatureSpec(_Strict):
    """All features that are read beside the log."""

    user: SideFeatures | None = None
    item: SideFeatures | None = None
    context: ContextFeatures | None = None

    @classmethod
    def of(cls, given: Any) -> FeatureSpec:
        """From plain containers or those of a config; None for no features."""
        return cls.model_validate(_plain(given or {}))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(child) for name, child in value.items()}
    return value
