"""Training steps of every ranking distiller with 200,000 users and 50,000 items, in a process of its own.

The data are random, and so are the signals: all pairs scored and sorted would take minutes, and neither the memory nor
the time of a step depends on who stands on a list. What looks at the student's or the teacher's lists of all users at
the start of an epoch does so for all of them where that is asked for, and else for the first chunks, into buffers for
all.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers import ranked_lists
from recdistill.distillers.features import Hint
from recdistill.distillers.ranked_lists import RankedLists
from recdistill.distillers.signals import portions, signals_file
from recdistill.distillers.stored import StoredTeacher
from recdistill.models.build import instantiate
from recdistill.models.fit import Fit
from recdistill.models.mf import MF
from recdistill.modules.distillation import DistillationModule
from recdistill.modules.supervised import weighted_sum
from recdistill.tasks.objectives import BPR
from recdistill.tasks.ranking import Ranking

USERS, ITEMS, EACH, STEPS = 200_000, 50_000, 20, 20
LIST, USER_LIST, DIM, TEACHER_DIM = 200, 50, 8, 16
LIMIT = 12 * 2**30  # of addresses: a matrix of all pairs is refused before it takes the machine down


def peak() -> int:
    """Bytes of memory that this process has held at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Data:
    """What a training reads of a data set."""

    def __init__(self) -> None:
        item = torch.randint(ITEMS, (USERS, EACH), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
        user = torch.arange(USERS).repeat_interleave(EACH)
        stars = 1.0 + user % 5
        self.train = Interactions(user, item.flatten().long(), USERS, ITEMS, stars)
        self.schema = Schema(USERS, ITEMS)


def lists(n: int, others: int, length: int) -> tuple[Tensor, Tensor]:
    """Different random numbers below ``others`` for each of n, and scores that fall."""
    start = torch.randint(others, (n, 1), dtype=torch.int32)
    step = torch.randint(1, others // length, (n, 1), dtype=torch.int32)
    scores = torch.linspace(4, 1, length).expand(n, length).contiguous()
    return (start + step * torch.arange(length, dtype=torch.int32)) % others, scores


def signals(folder: Path) -> None:
    """Lists of users and of items, and vectors, by the store's own writer."""
    torch.manual_seed(2)
    items, scores = lists(USERS, ITEMS, LIST)
    users, user_scores = lists(ITEMS, USERS, USER_LIST)
    factors = {"user_factors": torch.randn(USERS, TEACHER_DIM), "item_factors": torch.randn(ITEMS, TEACHER_DIM)}
    found = {"top_items": items, "top_scores": scores, "top_users": users, "top_user_scores": user_scores, **factors}
    found["top_tail.2.0"] = torch.full((USERS,), 8.0)
    shapes = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in found.items()}
    with signals_file(folder, shapes, {"data": "", "n_items": ITEMS, "queries": USERS}) as file:
        for name, tensor in found.items():
            file.put(name, 0, tensor)


class Looks:
    """The look-ups of one method.

    Args:
        whole: whether they are for all queries, or for the first chunk, whose lists are then those of all others, too.

    Attributes:
        queries: how many lists were asked for.
        lists: how many there are.
    """

    refresh = RankedLists.refresh

    def __init__(self, whole: bool):
        self.whole, self.queries, self.lists = whole, 0, 0
        looks = self
        ranked_lists.portions = self.portions  # type: ignore[attr-defined]
        RankedLists.refresh = lambda *given: looks.look(*given)  # type: ignore[method-assign,assignment]

    def portions(self, n: int, width: int, **given: Any) -> Iterator[Tensor]:
        self.lists += n
        for part in portions(n, width, **given):
            self.queries += len(part)
            yield part
            if not self.whole:
                break

    def look(self, lists: RankedLists, *given: Any) -> None:
        before = self.queries
        type(self).refresh(lists, *given)
        like = torch.arange(len(lists.items)) % (self.queries - before)
        if not self.whole:
            for buffer in lists.buffers():
                buffer.copy_(buffer[like])


def train(node: dict[str, Any], data: Data, teacher: StoredTeacher, plan: Any) -> list[float]:
    """The soft losses of the steps."""
    torch.manual_seed(3)
    distillers = {"it": instantiate(node)}
    if not distillers["it"].teaches:
        distillers["beside"] = Hint()
    fit = Fit(batch_size=4096, queries=128, every=1)
    module = DistillationModule(
        MF(data.schema, dim=DIM), BPR(negatives=1), fit, data, seed=1, ks=[10],  # type: ignore[arg-type]
        teacher=teacher, distillers=distillers, alpha=0.5,
    )  # fmt: skip
    module.train_part = data.train
    optimizer, found = module.configure_optimizers(), []
    module.start_epoch(0)
    for step in range(STEPS):
        module.advance(0.5 + step / 100)
        optimizer.zero_grad()
        terms = module.loss_terms(plan.batch(step))
        weighted_sum(terms, module.coefficients).backward()
        optimizer.step()
        found.append(terms["it"].item())
    return found


def work(nodes: dict[str, Any], whole: set[str], folder: str, answer: Connection) -> None:
    """Sends the losses, what the process held at most after each method, seconds, and lists looked up out of all.

    Args:
        whole: the methods that look up the lists of all queries.
    """
    torch.set_num_threads(1)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    found: dict[str, Any] = {}
    try:
        started = time.process_time()
        data = Data()
        signals(Path(folder))
        teacher = StoredTeacher(Path(folder))
        plan = Ranking().epoch(data.train, BPR(negatives=1), seed=1, epoch=0, batch_size=4096, queries=128)
        found["data"] = ([], peak(), time.process_time() - started, 0, 0)
        for name, node in nodes.items():
            started = time.process_time()
            looks = Looks(name in whole)
            losses = train(node, data, teacher, plan)
            found[name] = (losses, peak(), time.process_time() - started, looks.queries, looks.lists)
    except BaseException as error:
        found["error"] = f"after {list(found)}: {error!r}"
    answer.send(found)
