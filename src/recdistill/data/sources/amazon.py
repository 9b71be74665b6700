"""Amazon product reviews as they are published: a review a line, with its text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recdistill.data.sources.base import Kind, RawLog, Source, hash_arguments, hash_files
from recdistill.data.sources.files import lines
from recdistill.data.sources.folders import the_file
from recdistill.data.sources.frames import Form
from recdistill.data.sources.reading import Reader
from recdistill.data.sources.rows import Columns, OnBadRows
from recdistill.data.sources.spec import Column
from recdistill.errors import InputError

_HEAD = 1000  # lines in which the keys are looked for


@dataclass(frozen=True)
class _Keys:
    """What a publication calls its fields; of several keys of an item, the first that is there."""

    user: str
    items: tuple[str, ...]
    value: str
    time: str
    texts: dict[str, str]


_FORMS = (
    _Keys("reviewerID", ("asin",), "overall", "unixReviewTime", {"review": "reviewText", "summary": "summary"}),
    _Keys("user_id", ("parent_asin", "asin"), "rating", "timestamp", {"review": "text", "summary": "title"}),
)


class AmazonReviews(Source):
    """JSON lines of reviews, ``.gz`` and ``.zst`` as they are: a rating, a time, and the text of the review and its
    summary as features of the event. Names of people are never read.

    Source: the files of He and McAuley, 2016 (arXiv:1602.01585), Ni et al., 2019 (EMNLP), and Hou et al., 2024
    (arXiv:2403.03952). Which of their forms it is, the keys say: ``reviewerID`` or ``user_id``.

    Args:
        path: the file, or a folder that holds one such file.
        item: key of the item; None takes ``parent_asin``, which variants of a product share, or else ``asin``.
        texts: whether review and summary are read.
        on_bad_rows: ``error`` stops at the first bad row and says where, ``drop`` leaves bad rows out, counted.
    """

    def __init__(self, path: str, item: str | None = None, texts: bool = True, on_bad_rows: OnBadRows = "error"):
        self.path = Path(path).expanduser()
        self.item, self.texts, self.on_bad_rows = item, texts, on_bad_rows

    def fingerprint(self) -> str:
        files = hash_files(self._file())
        return hash_arguments(
            kind="amazon", files=files, item=self.item, texts=self.texts, on_bad_rows=self.on_bad_rows
        )

    def read(self) -> RawLog:
        file = self._file()
        head = lines(file, _HEAD)

        def occurs(key: str) -> bool:
            return bool(head.str.contains(f'"{key}"\\s*:').any())

        form = next((form for form in _FORMS if occurs(form.user)), None)
        lacking = [key for key in (form.value, form.time) if not occurs(key)] if form else ["reviewerID or user_id"]
        if form is None or lacking:
            raise InputError(
                f"'{file}' has no {lacking[0]}",
                where=f"{file}:1",
                why=f"its first line is {str(head[0] if len(head) else '')[:80]!r}",
                fix="give a file of Amazon reviews, or data=jsonl for JSON lines with other keys",
            )
        item = self.item or next((key for key in form.items if occurs(key)), form.items[0])
        context = {
            name: Column(kind="text", column=key) for name, key in form.texts.items() if self.texts and occurs(key)
        }
        columns = Columns(form.user, item, form.value, form.time)
        part = Reader(columns, Form("jsonl"), self.on_bad_rows, context).read(file)
        facts: dict[str, int | str] = {
            f"{name} texts": part.events.height - part.events[name].null_count() for name in context
        }
        kinds: dict[str, Kind] = dict.fromkeys(context, "text")
        return RawLog(
            part.events,
            dropped=part.dropped,
            note="; ".join(part.notes),
            time_unit=part.time_unit,
            kinds={"context": kinds},
            facts=facts,
            warnings=part.warnings,
        )

    def where(self) -> str:
        return str(self.path)

    def _file(self) -> Path:
        return the_file(self.path, (".jsonl", ".json", ".ndjson"))
