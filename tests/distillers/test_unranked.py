"""What a teacher says nothing of: items that a list from a file lacks, and what is unknown in another domain."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from distiller_parts import make_mf
from list_parts import randn, sigmoid
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.base import Moment, Setting
from recdistill.distillers.popularity_groups import UnKD, truncated_geometric
from recdistill.distillers.signals import compute_signals
from recdistill.distillers.stored import StoredTeacher
from recdistill.distillers.teacher import FrozenTeacher, LiveTeacher
from recdistill.distillers.views import ModelView
from recdistill.models.base import RankingModel
from recdistill.models.bridges import Carried, Reach
from recdistill.models.given import GivenLists
from recdistill.tasks.batches import generator

INF = math.inf
Says = list[dict[int, float]]  # of each user the items that the teacher ranks, with their scores


def from_a_file(schema: Schema, train: Interactions) -> tuple[RankingModel, Says]:
    """Lists of up to 9 items, two of which have one score; user 3 has none, and user 4 one of a single item."""
    model, says = GivenLists(schema, "lists.parquet", k=9), []
    for user in range(schema.n_users):
        seen = set(train.item[train.user == user].tolist())
        order = [i for i in randn(schema.n_items, seed=user).argsort().tolist() if i not in seen]
        order = order[: {3: 0, 4: 1}.get(user, 9)]
        score = [5.0 - place if place != 2 else 4.0 for place in range(len(order))]
        model.items[user, : len(order)] = torch.tensor(order, dtype=model.items.dtype)
        model.score[user, : len(order)] = torch.tensor(score)
        model.length[user] = len(order)
        says.append(dict(zip(order, score, strict=True)))
    return model, says


def from_elsewhere(schema: Schema, train: Interactions) -> tuple[RankingModel, Says]:
    """Vectors of another domain, which knows three items of four and all users but two."""
    del train
    users, items = torch.arange(schema.n_users) % 7 != 3, torch.arange(schema.n_items) % 4 != 1
    user, item = randn(schema.n_users, 5).float(), randn(schema.n_items, 5, seed=1).float()
    reach = Reach(users, items, torch.ones(schema.n_users))
    z = (user @ item.T).tolist()
    says = [{i: z[u][i] for i in range(schema.n_items) if users[u] and items[i]} for u in range(schema.n_users)]
    return Carried.of(schema, user * users.unsqueeze(1), item * items.unsqueeze(1), reach), says


MAKERS = {"file": from_a_file, "elsewhere": from_elsewhere}
cases = pytest.mark.parametrize(("source", "stored"), [(name, stored) for name in MAKERS for stored in (False, True)])


def asked(source: str, stored: bool, schema: Schema, train: Interactions, folder: Path) -> tuple[FrozenTeacher, Says]:
    model, says = MAKERS[source](schema, train)
    if not stored:
        return LiveTeacher(model, train), says
    compute_signals(model, train, UnKD().needs(), folder, chunk=5)
    return StoredTeacher(folder), says


@cases
def test_ranked_scores(source: str, stored: bool, schema: Schema, train: Interactions, tmp_path: Path) -> None:
    teacher, says = asked(source, stored, schema, train, tmp_path)
    users = torch.tensor([4, 3, 0, 10])
    found, all_scores = (getattr(teacher.view(users), name)() for name in ("ranked_scores", "scores"))
    for row, user in enumerate(users.tolist()):
        assert found[row].tolist() == pytest.approx([says[user].get(i, -INF) for i in range(schema.n_items)], abs=1e-5)
    assert bool(all_scores.isfinite().all())


@cases
def test_unkd_pairs_what_the_teacher_ranks(
    source: str, stored: bool, schema: Schema, train: Interactions, tmp_path: Path
) -> None:
    """By a loop over pairs; of a user of whom the teacher says nothing, nothing is learned."""
    teacher, says = asked(source, stored, schema, train, tmp_path)
    pool, distiller, student = 6, UnKD(groups=2, pool=6, pairs=40, position_temperature=3.0), make_mf(schema, 1)
    distiller.prepare(Setting(4, 5, train=train, queries=schema.n_users))
    ask = lambda users: ModelView(student, users, train.csr)  # noqa: E731
    with torch.no_grad():
        distiller.start_epoch(Moment(0, 9, schema.n_users, ask, teacher.view, generator("cpu", 2)))
    users, z = torch.arange(schema.n_users), student.scores(torch.arange(schema.n_users)).tolist()
    found: Tensor = distiller(ask(users), teacher.view(users), generator("cpu", 1))
    uniform = torch.rand(2, len(users), 40, generator=generator("cpu", 1))
    counted = alike = 0
    for user in users.tolist():
        seen, terms = set(train.item[train.user == user].tolist()), []
        for n, number in enumerate(distiller.quota.tolist()):
            own = {i: s for i, s in says[user].items() if i not in seen and int(distiller.group[i]) == number}
            places = distiller.lists.items[user].tolist()[pool * number : pool * (number + 1)]
            listed = [i for i in places if i >= 0]
            assert [own[i] for i in listed] == pytest.approx(sorted(own.values(), reverse=True)[:pool])
            if not listed:
                continue
            lengths = torch.tensor([len(listed)] * 2)
            a, b = (listed[r] for r in truncated_geometric(uniform[:, user, n], lengths, 3.0).tolist())
            alike += a != b and own[a] == own[b]
            if own[a] != own[b]:
                better, worse = (a, b) if own[a] > own[b] else (b, a)
                terms.append(-math.log(sigmoid(z[user][better] - z[user][worse])))
        assert found[user].item() == pytest.approx(sum(terms) / max(len(terms), 1), rel=1e-5)
        counted += len(terms)
    assert counted > 100
    assert (alike > 0) == (source == "file")
    found[3].backward()
    assert not any(bool(p.grad.any()) for p in student.parameters() if p.grad is not None)
