"""What a distiller sees of teacher and student, and what it must offer.

Teacher and student are seen through the same :class:`View`, so that a loss reads like its formula; whether
the teacher computes its answers now or they were computed once and stored is not visible here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from recdistill.distillers.schedules import Schedule, Weight

TABLES = ("ctr", "rating", "classification")
LISTS = ("ranking", "sequence")


@dataclass(frozen=True)
class Needs:
    """Signals that a distiller takes from the teacher.

    Attributes:
        top_k: length of the teacher's lists (training items left out), 0 for none.
        scores: scores of arbitrary items are wanted.
        embeddings: user and item vectors are wanted.
        top_users: length of the teacher's lists of users for each item (those who have it left out), 0 for none.
        layers: names of submodules whose outputs are wanted.
        members: lists and scores are wanted of each model that the teacher is an ensemble of, too.
        confidences: those that came with the teacher's lists are wanted.
        tails: temperatures at which the mass behind the lists is wanted, see :meth:`ListView.log_tail`.
    """

    top_k: int = 0
    scores: bool = False
    embeddings: bool = False
    top_users: int = 0
    layers: tuple[str, ...] = ()
    members: bool = False
    confidences: bool = False
    tails: tuple[float, ...] = ()

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            max(self.top_k, other.top_k), self.scores or other.scores, self.embeddings or other.embeddings,
            max(self.top_users, other.top_users), tuple(sorted({*self.layers, *other.layers})),
            self.members or other.members, self.confidences or other.confidences,
            tuple(sorted({*self.tails, *other.tails})),
        )  # fmt: skip

    def of_rows(self) -> Needs:
        """The same where queries are rows of a table: the scores of all classes are what a list is elsewhere."""
        return replace(self, top_k=0, tails=(), scores=self.scores or self.top_k > 0)


class View(Protocol):
    """One model's answers for the queries of one step: rows of a table, or users or histories as in :class:`ListView`.

    Attributes:
        users: int64 ``[Q]``, the numbers of the queries.
        regression: whether the scores are means of a number; otherwise they are logits.
    """

    users: Tensor

    @property
    def regression(self) -> bool: ...

    def of(self, users: Tensor) -> Self:
        """The view for other queries, with what does not depend on them shared."""
        ...

    def watch(self, layers: Sequence[str]) -> Self:
        """This view, which keeps the outputs of submodules for :meth:`layer`; to be called before any answer."""
        ...

    def scores(self) -> Tensor:
        """``[Q, C]``: of all classes, or all items."""
        ...

    def members(self) -> list[Any]:
        """The views of the models that this one is an ensemble of; of any other model this view alone."""
        ...

    def target(self) -> Tensor:
        """The label of each row ``[Q]``; of a history the item that comes next. Where there is none that may be known
        it is -1 of a class or an item, and NaN of a click or a number."""
        ...

    def layers(self) -> list[str]:
        """Names of the submodules that :meth:`layer` can be asked for, by asking the model once more."""
        ...

    def layer(self, name: str, rows: Tensor | None = None) -> Tensor:
        """The output ``[Q, d]`` of a watched submodule, ``[n, d]`` of the queries at the places ``rows``; of a sequence
        model at the last place of each history.

        Raises:
            InputError: it gives nothing of each query.
        """
        ...

    def augmented(self, share: float, noise: float, rng: torch.Generator) -> Self:
        """The answers for the same queries, from inputs that are changed at random: a share of a row's fields is
        unknown, and its numbers and vectors have Gaussian noise of this deviation; a share of a history's items,
        but not its last, is left out."""
        ...


class ListView(Protocol):
    """One model's answers for users, or for histories of users, whose scores rank the catalogue."""

    users: Tensor
    n_items: int

    def scores(self, items: Tensor | None = None) -> Tensor:
        """Scores ``[Q, n_items]`` of all items, or ``[Q, K]`` of items ``[K]`` or ``[Q, K]``."""
        ...

    def log_normaliser(self, temperature: float = 1.0) -> Tensor:
        """log Σ_i e^{z_i / temperature} over the catalogue, ``[Q]``."""
        ...

    def ranked_scores(self) -> Tensor:
        """Scores ``[Q, n_items]`` without gradients, -inf where the model ranks nothing: items that a list from a file
        lacks, and all of which a teacher of another domain knows nothing. Items of training have theirs. Of stored
        signals not with the roles swapped."""
        ...

    def top_items(self, k: int) -> tuple[Tensor, Tensor]:
        """The k best items that are not in training, best first: ids ``[Q, k]`` and scores ``[Q, k]``.

        A user who has fewer left, or a teacher who names fewer, has a shorter list: behind its end the scores are -inf,
        and the ids are of any items, so that they can be gathered; :func:`on_list` is what tells them apart.
        """
        ...

    def top_confidences(self, k: int) -> Tensor:
        """How sure whoever wrote the lists is of each place of :meth:`top_items`, ``[Q, k]`` from 0 to 1; 0 behind the
        end of a list. Of lists from a file alone, see :class:`~recdistill.models.given.GivenLists`."""
        ...

    def log_tail(self, k: int, temperature: float) -> Tensor:
        """log Σ_i e^{z_i / temperature} over the items behind the first k, ``[Q]``: those that :meth:`top_items` would
        name if k were larger, so that training items are in neither. -inf where there are none; behind the end of a
        list from a file there are never any."""
        ...

    def log_rest(self, items: Tensor, listed: Tensor, temperature: float) -> Tensor:
        """log Σ_i e^{z_i / temperature} over what is no training item and not among ``items`` ``[Q, K]`` at the places
        that ``listed`` (bool ``[Q, K]``) names: ``[Q]``, about -1e9 where there are none. With gradients; known of the
        student, not of stored signals."""
        ...

    def seen_pairs(self) -> tuple[Tensor, Tensor]:
        """What :meth:`top_items` leaves out, as pairs of a row of ``users`` and an item, int64 ``[n]`` each; known of
        the student, not of stored signals."""
        ...

    def user_vectors(self) -> Tensor:
        """``[Q, d]``."""
        ...

    def item_vectors(self, items: Tensor) -> Tensor:
        """``[K, d]`` for items ``[K]``."""
        ...

    def flipped(self, items: Tensor) -> ListView:
        """The answers with the roles swapped, of a task whose queries are users: the queries are items int64 ``[Q]``,
        and the catalogue is that of the users."""
        ...


def on_list(top_scores: Tensor) -> Tensor:
    """bool: which places of a teacher's list hold an item, from the scores of :meth:`ListView.top_items`."""
    return top_scores > -torch.inf


def some_of(queries: int, rows: int, device: torch.device) -> Tensor:
    """Places of a part of a step, int64 ``[n]``, at even distances: ``rows`` of them, or all where there are no more.

    The order of an epoch is random, and of a step that begins with the rows that have a label all kinds are among them.
    Nothing is drawn, so that processes whose parts differ by a row go on drawing alike."""
    n = min(queries, rows)
    return torch.arange(n, device=device) * queries // n


def spread(loss: Tensor, chosen: Tensor, queries: int) -> Tensor:
    """The loss ``[n]`` of :func:`some_of` the queries as one of each ``[Q]``, 0 for the others, with the same mean."""
    if len(chosen) == queries:
        return loss
    return loss.new_zeros(queries).index_put((chosen,), loss * (queries / len(chosen)))


@dataclass(frozen=True)
class Setting:
    """What a distiller may know before training starts.

    Attributes:
        student_dim, teacher_dim: length of both models' vectors, 0 for a model that has none.
        student_layers, teacher_layers: length of the outputs of the layers that are asked for.
        train: the training part, :class:`~recdistill.data.interactions.Interactions` or
            :class:`~recdistill.data.interactions.Examples`, on the CPU.
        queries: how many queries there are.
        members: how many models the teacher is an ensemble of, 1 for any other.
        whole: whether the hard loss scores all items or classes at every step, so that a soft loss may too.
        known_items: bool ``[n_items]``, of which the teacher knows something; None for all.
        outputs: classes of a classification task, 1 otherwise.
    """

    student_dim: int = 0
    teacher_dim: int = 0
    student_layers: dict[str, int] = field(default_factory=dict)
    teacher_layers: dict[str, int] = field(default_factory=dict)
    train: Any = None
    queries: int = 0
    members: int = 1
    whole: bool = True
    known_items: Tensor | None = None
    outputs: int = 1


@dataclass(frozen=True)
class Moment:
    """The start of an epoch.

    Attributes:
        epoch: its number, from 0.
        epochs: how many there are at most.
        queries: how many queries there are.
        student, teacher: their answers for queries int64 ``[Q]``, without gradients; the student's as in evaluation.
        rng: for random choices; equal on all processes.
        teacher_changes: whether its answers are others in the next epoch, since it learns, too.
    """

    epoch: int
    epochs: int
    queries: int
    student: Callable[[Tensor], Any]
    teacher: Callable[[Tensor], Any]
    rng: torch.Generator
    teacher_changes: bool = False


@dataclass(frozen=True)
class Otherwise:
    """What a distiller is with another setting.

    Attributes:
        tasks: names of the tasks that it serves then.
        what: what it does, for messages.
        setting: what to type behind its key.
    """

    tasks: tuple[str, ...]
    what: str
    setting: str


class Distiller(nn.Module):
    """A soft loss between teacher and student. Projections it learns are its parameters; they are trained
    with the student and thrown away afterwards.

    A number that it looks at in each step, such as its weight or a temperature, may be a :class:`Schedule` where the
    type of the argument says so: the attribute of that name then holds the value of the moment.

    Args:
        weight: factor of this term among the distillers of a run.

    Attributes:
        tasks: names of the tasks that it serves.
        otherwise: where an argument decides that, what it is with another one; None for most.
        parts: where the loss is a sum of terms, those of the last call, each with its weight in the sum, for the log.
        per_query: whether the loss is a value for each query, so that queries can be weighted.
        layers: names of the student's submodules whose outputs it wants.
        lr: learning rate of what it learns itself, which goes through the student's warm-up and schedule; None for the
            student's. Tables bear rates at which the networks of a distiller learn to give the teacher's vectors
            whatever the student's are.
        teaches: whether it says what to learn of the teacher; others shape the student's answers beside one that does.
    """

    teaches: bool = True
    tasks: tuple[str, ...] = LISTS
    otherwise: Otherwise | None = None
    per_query: ClassVar[bool] = False
    layers: tuple[str, ...] = ()
    lr: float | None = None
    weight: float

    parts: dict[str, tuple[Tensor, float]]

    def __init__(self, weight: Weight = 1.0):
        super().__init__()
        self.parts = {}
        self.weight = weight  # type: ignore[assignment]  # a number from the first step on

    def needs(self) -> Needs:
        raise NotImplementedError

    def swap(self) -> None:
        """Turns it into what the teacher learns from the student, where both learn; called before all else. Most losses
        are the same in both directions."""

    def prepare(self, setting: Setting) -> None:
        """Build what depends on the models and the data; called once, before the optimizer is made."""

    def start_epoch(self, moment: Moment) -> None:
        """Look up what is not worth computing at every step. What is kept for the epoch must be buffers, so that a
        training that goes on in the middle of it has them."""

    def advance(self, progress: float) -> dict[str, float]:
        """Sets what is scheduled to its value at a share of the training, and gives these values by name."""
        plan = self.__dict__.setdefault("_plan", {})
        plan |= {name: value for name, value in vars(self).items() if isinstance(value, Schedule)}
        now = {name: schedule(progress) for name, schedule in plan.items()}
        vars(self).update(now)
        return now

    def forward(self, student: Any, teacher: Any, rng: torch.Generator) -> Tensor:
        """The unweighted loss: of each query ``[Q]`` if ``per_query``, or its mean over the queries, a scalar.

        Args:
            student, teacher: a :class:`View` each, or a :class:`ListView` where lists or vectors are needed.
            rng: for random choices; equal on all processes of a step.
        """
        raise NotImplementedError
