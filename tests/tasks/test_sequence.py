"""What a sequence model answers in training, and how it is evaluated, against loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sequence_kit import CPU, BothSides, Weighted, events, model_of, sequences

from recdistill.data.interactions import Dataset, Interactions, Schema
from recdistill.errors import InputError
from recdistill.models.popularity import Popularity
from recdistill.tasks.objectives import SequenceSoftmax
from recdistill.tasks.ranking import Ranking
from recdistill.tasks.sequence import Sequence, histories, sequence_scorer
from recdistill.tasks.sequence_view import SequenceView
from recdistill.tasks.timeline import Timeline
from recdistill.tasks.windows import Sequences

SIZES = [2, 9, 1, 5, 23, 3, 6, 7, 2]


@pytest.fixture
def train() -> Sequences:
    return sequences(SIZES, n_items=40)


@pytest.mark.parametrize("kind", [Weighted, BothSides])
def test_a_view_answers_for_histories(kind: type[Weighted], train: Sequences) -> None:
    model = model_of(train, kind)
    query = torch.tensor([0, 4, 30, 31, 57, 4])
    view = Sequence(max_length=5).view(model, train, query)
    item = model.item_matrix().detach()
    line = train.timeline
    for place, row in enumerate(query.tolist()):
        start = int(line.indptr[line.users(torch.tensor([row]))])
        history = line.item[max(start, row - 4) : row + 1]
        scores = item @ model.query(history.unsqueeze(0))[0].detach()
        assert view.scores()[place].tolist() == pytest.approx(scores.tolist(), rel=1e-5)
        assert view.scores(torch.tensor([3, 7]))[place].tolist() == pytest.approx(scores[[3, 7]].tolist(), rel=1e-5)
        assert view.log_normaliser(2.0)[place].item() == pytest.approx((scores / 2).logsumexp(0).item(), rel=1e-6)
        assert view.pair_scores(torch.tensor([place]), torch.tensor([9])).item() == pytest.approx(
            float(scores[9]), rel=1e-5
        )
        seen = set(line.item[start : row + 1].tolist())  # and not what comes later, which is to be told
        best = [i for i in scores.argsort(descending=True).tolist() if i not in seen][:4]
        assert view.top_items(4)[0][place].tolist() == best
    assert torch.equal(view.item_vectors(torch.tensor([5])), item[[5]].float())
    assert (view.user_vectors() @ item.float().T).tolist() == [
        pytest.approx(row, rel=1e-4) for row in view.scores().tolist()
    ]
    assert torch.equal(view.users, query)


@pytest.mark.parametrize("rows", [range(58), range(11, 29), [40, 3, 4, 57, 3]])
def test_a_look_reads_each_window_once(rows: list[int], train: Sequences) -> None:
    """An event far from a user's first sees of the items before it those of its window; the rest is as of any view."""
    model, line = model_of(train), train.timeline
    first = Sequence(max_length=5).look(model, train, torch.tensor([0]))
    model.calls = 0
    view = first.of(torch.tensor(list(rows)))
    scores, item = view.scores(), model.item_matrix().detach()
    assert model.calls == 1
    for place, row in enumerate(rows):
        user = int(line.users(torch.tensor([row])))
        start, stop = line.indptr[user : user + 2].tolist()
        begin = max(start, min(start + (row - start) // 5 * 5, stop - 5))
        expected = item @ model.query(line.item[begin : row + 1].unsqueeze(0))[0].detach()
        assert scores[place].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
        if row - start < 5:
            own = Sequence(max_length=5).view(model, train, torch.tensor([row]))
            assert scores[place].tolist() == pytest.approx(own.scores()[0].tolist(), rel=1e-5)
        seen = set(line.item[start : row + 1].tolist())
        best = [i for i in expected.argsort(descending=True).tolist() if i not in seen][:4]
        assert view.top_items(4)[0][place].tolist() == best


def test_a_look_at_a_model_that_sees_both_sides_reads_every_history(train: Sequences) -> None:
    model, rows = model_of(train, BothSides), torch.arange(58)
    task = Sequence(max_length=5)
    assert torch.equal(task.look(model, train, rows).scores(), task.view(model, train, rows).scores())


def test_hard_and_soft_loss_share_one_pass(train: Sequences) -> None:
    task, model = Sequence(max_length=5), model_of(train)
    epoch = task.epoch(train, SequenceSoftmax(), seed=1, epoch=0, batch_size=4, queries=6)
    for batch in map(epoch.batch, range(epoch.steps)):
        model.calls = 0
        view = task.batch_view(model, batch, train)
        loss = SequenceSoftmax()(model, batch, view, torch.Generator())
        (loss + view.log_normaliser().mean() + view.user_vectors().mean()).backward()
        assert model.calls == 1
        # A place whose history begins in its own window has the same answer for a teacher.
        other = task.view(model, train, batch.query)
        start = batch.place // batch.history.shape[1] * batch.history.shape[1]
        whole = train.timeline.users(batch.query - (batch.place - start) - 1) != train.timeline.users(batch.query)
        whole |= batch.query == batch.place - start
        torch.testing.assert_close(view.scores()[whole], other.scores()[whole])


def test_a_model_of_both_sides_reads_the_history_of_a_query_alone(train: Sequences) -> None:
    task, model = Sequence(max_length=5), model_of(train, BothSides)
    batch = task.epoch(train, SequenceSoftmax(), seed=1, epoch=0, batch_size=4, queries=6).batch(0)
    torch.testing.assert_close(
        task.batch_view(model, batch, train).scores(), task.view(model, train, batch.query).scores()
    )
    with pytest.raises(InputError, match="sees both sides"):
        task.batch_view(model, batch, train).hidden()


def test_views_of_other_queries_share_the_items(train: Sequences) -> None:
    model = model_of(train)
    first = Sequence(max_length=5).view(model, train, torch.empty(0, dtype=torch.int64))
    second = first.of(torch.tensor([3, 9]))
    assert second.items() is first.items()
    assert second.scores().shape == (2, 40)
    assert torch.equal(second.scores(), SequenceView(model, torch.tensor([3, 9]), train).scores())
    assert first.scores().shape == (0, 40)


def dataset() -> Dataset:
    """Nine users; of each the last events for valid and test; two cold ones with a known history, and a cold item."""
    whole = events([size + 4 for size in SIZES] + [6, 5], n_items=40)
    line = Timeline.of(whole)
    place = torch.cat([torch.arange(int(n)) - int(n) for n in line.indptr.diff()])
    user, time = line.users(torch.arange(len(line))), torch.arange(len(line))

    def part(at: torch.Tensor, cold: int = 2) -> Interactions:
        return Interactions(user[at], line.item[at], 9, 40, time=time[at], n_cold_users=cold)

    test = part(place >= -2)
    test.item[::5] = 40  # an item that training lacks
    return Dataset(
        train=part((place < -4) & (user < 9), 0),
        valid=part((place >= -4) & (place < -2)),
        test=test,
        users=np.arange(11).astype(str),
        items=np.arange(41).astype(str),
        report={},
        manifest={},
        fingerprint="",
        known=part((place < -4) & (user >= 9)),
    )


@pytest.mark.parametrize("part", ["valid", "test"])
@pytest.mark.parametrize("kind", [Weighted, BothSides])
def test_evaluation_ranks_what_comes_after_all_that_is_known(part: str, kind: type[Weighted]) -> None:
    data = dataset()
    task = Sequence(max_length=5)
    torch.manual_seed(0)
    model = kind(task.schema(data)).eval()
    result = task.evaluate(model, data, part, [3])
    known = [data.train, data.known] + ([] if part == "valid" else [data.valid])
    user, item, time = (torch.cat([getattr(p, name) for p in known if p]) for name in ("user", "item", "time"))
    relevant = getattr(data, part)
    for at, one in enumerate(result.users.tolist()):
        mine = user == one
        history = item[mine][time[mine].argsort()]
        scores = (model.item_matrix() @ model.query(history[-5:].unsqueeze(0))[0]).detach()
        scores[history] = -torch.inf
        top = scores.topk(3).indices.tolist()
        assert result.top[at].tolist() == top
        wanted = set(relevant.item[relevant.user == one].tolist())
        assert float(result.per_user["recall@3"][at]) == pytest.approx(len(wanted & set(top)) / len(wanted))
    assert result.users.tolist() == relevant.user.unique().tolist()
    assert 9 in result.users.tolist()


def test_processes_share_the_users() -> None:
    data, task = dataset(), Sequence(max_length=5)
    model = Weighted(task.schema(data))
    whole = task.evaluate(model, data, "test", [3])
    shares = [task.evaluate(model, data, "test", [3], rank=rank, world=3) for rank in range(3)]
    assert sorted(torch.cat([s.users for s in shares]).tolist()) == whole.users.tolist()
    assert sum(float(s.per_user["ndcg@3"].sum()) for s in shares) == pytest.approx(
        float(whole.per_user["ndcg@3"].sum())
    )
    few = task.evaluate(model, data, "test", [3], negatives=2)
    assert few.means()["recall@3"] >= whole.means()["recall@3"]


def test_a_ranking_model_is_a_baseline() -> None:
    data = replace(dataset(), known=None)
    data = replace(data, valid=of_known(data.valid), test=of_known(data.test))
    model = Popularity(Schema(n_users=9, n_items=40))
    model.fit(data.train)
    found, expected = (task.evaluate(model, data, "test", [3, 5]) for task in (Sequence(), Ranking()))
    assert torch.equal(found.top, expected.top)
    assert found.means() == expected.means()


def of_known(part: Interactions) -> Interactions:
    """The events of users of training."""
    at = part.user < 9
    assert part.time is not None
    return Interactions(part.user[at], part.item[at], 9, 40, time=part.time[at])


def test_who_is_served_is_read_to_the_end() -> None:
    data, task = dataset(), Sequence(max_length=5)
    model = Weighted(task.schema(data))
    users = torch.tensor([8, 0, 10])
    score = task.scorer(model, data)
    once = sequence_scorer(model, histories(data, "test"), users)
    torch.testing.assert_close(score(users), once(users))
    torch.testing.assert_close(score(users[1:]), once(users)[1:])
    assert not torch.allclose(score(users), sequence_scorer(model, histories(data, "valid"))(users))
    answer, pool = task.request(model, data, 4)
    items, _ = answer(pool[:3])  # type: ignore[misc]
    assert items.shape == (3, 4)
    for user, row in enumerate(items.tolist()):
        assert not set(row) & set(data.train.item[data.train.user == user].tolist())


def test_settings() -> None:
    with pytest.raises(InputError, match="some events are in none") as error:
        Sequence(max_length=5, stride=6)
    assert error.value.fix == "task.stride=5, or task.stride=null"
    data = dataset()
    assert Sequence(max_length=7).schema(data).max_length == 7
    train = Sequence(max_length=5, stride=2).prepare(data.train, CPU)
    assert len(train.first) > len(Sequence(max_length=5).prepare(data.train, CPU).first)
    assert Sequence().queries(train) == len(data.train)
