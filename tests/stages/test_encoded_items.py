"""Items with vectors of their texts, from the command line: a teacher and a student of them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Cli = Callable[..., int]


def test_from_the_command_line_to_a_student(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """A teacher that knows items by their texts alone, and a student whose items start from them."""
    words = [
        "data.source.n_users=80", "data.source.n_items=60", "data.source.niches=6", "encode=minilm",
        "data.encode.text.template='{title}, {genre}'",
    ]  # fmt: skip
    assert cli("data", *words) == 0
    assert "vectors of 384 numbers" in capsys.readouterr().out
    more = ["teacher=two_tower", "teacher.net.ids=false", "student.fit.item_init=text"]
    assert cli("distill", *words, *more) == 0
    assert cli("distill", *words, "student.fit.item_init=words") == 2
    said = capsys.readouterr().err
    assert "no vectors 'words'" in said
    assert "text" in said
    assert cli("data", *words, "data.encode.text.template='{name}'") == 2
    assert "they have: title, genre" in capsys.readouterr().err
