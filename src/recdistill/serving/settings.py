"""What a service may be told, as ``serve.KEY=VALUE``."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recdistill.config.suggest import did_you_mean, listing
from recdistill.errors import InputError

PREFIX = "serve."
MIN_TOKEN = 16  # characters


class Settings(BaseModel):
    """Every key that follows ``serve.``; one that is not here is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: Annotated[str, MinLen(1)] = Field(
        "127.0.0.1", description="address to listen on; others than this machine's own need a token"
    )
    port: Annotated[int, Ge(0), Le(65535)] = Field(8080, description="0 for any that is free")
    token: Annotated[str, MinLen(1)] = Field(
        "RECDISTILL_TOKEN", description="name of the environment variable that holds the token"
    )
    fallback: Literal["none", "popular"] = Field(
        "none", description="what a user gets whom the model does not know: an error, or the most popular items"
    )
    max_batch: Annotated[int, Ge(1), Le(4096)] = Field(64, description="requests that are run together at most")
    max_wait_ms: Annotated[float, Ge(0), Le(1000)] = Field(
        0.0, description="how long a request waits for others; 0 takes those that are there"
    )
    max_queue: Annotated[int, Ge(1)] = Field(1024, description="requests that wait; more get 503")
    threads: Annotated[int, Ge(1), Le(256)] = Field(1, description="of ONNX Runtime, for each model")
    max_body_kb: Annotated[int, Ge(1), Le(2**20)] = Field(1024, description="largest body of a request; more gets 413")
    max_header_kb: Annotated[int, Ge(1), Le(1024)] = Field(16, description="largest head of a request; more gets 400")
    max_connections: Annotated[int, Ge(1)] = Field(
        1000, description="at one time; beyond it those that wait longest are closed"
    )
    request_seconds: Annotated[float, Gt(0)] = Field(
        10.0, description="from a request's first byte to the last of its answer"
    )
    idle_seconds: Annotated[int, Ge(1)] = Field(15, description="how long a connection may lie idle between requests")
    drain_seconds: Annotated[int, Ge(0)] = Field(10, description="how long requests that came before SIGTERM may take")
    reload_seconds: Annotated[float, Ge(0)] = Field(
        2.0, description="between two looks whether a bundle was replaced; 0 for never"
    )
    log: Literal["info", "debug"] = Field("info", description="debug: a line of JSON for each request")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def settings_of(words: Sequence[str]) -> Settings:
    """From words such as ``serve.port=8080``.

    Raises:
        InputError: a key that is not there, or a value that it can't have.
    """
    found: dict[str, Any] = {}
    keys = list(Settings.model_fields)
    for word in words:
        key, _, value = word.partition("=")
        name = key.removeprefix(PREFIX)
        if not key.startswith(PREFIX) or name not in keys:
            raise InputError(
                f"recdistill serve has no key {key}", where=key,
                why="the bundle says everything else; the keys are: " + listing(PREFIX + known for known in keys),
                fix=did_you_mean(key, [PREFIX + known for known in keys]),
            )  # fmt: skip
        found[name] = value
    try:
        return Settings(**found)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise InputError(
            f"{PREFIX}{name}={found.get(name)!r}: {first['msg']}", where=PREFIX + name,
            why=Settings.model_fields[name].description, fix=f"{PREFIX}{name}={Settings.model_fields[name].default}",
        ) from error  # fmt: skip


def token_of(settings: Settings) -> str | None:
    """The token that requests must show; None where none is needed.

    Raises:
        InputError: the service could be reached from elsewhere and has none, or it is too short.
    """
    token = os.environ.get(settings.token, "").strip()
    how = f"export {settings.token}=$(openssl rand -hex 32)"
    if not token and not settings.loopback:
        raise InputError(
            f"a service on {settings.host} needs a token", where="serve.host",
            why=f"others can reach it, and the environment variable {settings.token} is not set",
            fix=f"{how}, or serve.host=127.0.0.1",
        )  # fmt: skip
    if token and (len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        raise InputError(
            f"the token in {settings.token} must have {MIN_TOKEN} letters or digits or more", where=settings.token,
            fix=how,
        )  # fmt: skip
    return token or None
