"""What is withheld from students: which rows keep their labels, and which columns are gone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.interactions import Examples, Interactions, TableDataset
from recdistill.data.withheld import draw, few_labels, labels_left, with_labels, without_columns
from recdistill.errors import InputError
from table_kit import table


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.floats(0.001, 1), st.integers(0, 5))
def test_every_user_has_the_share_rounded_up_or_down(sizes: list[int], share: float, seed: int) -> None:
    strata = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    strata = strata[torch.randperm(len(strata), generator=torch.Generator().manual_seed(seed))]
    chosen = draw(strata, share, seed, each=False)
    count = max(1, round(share * len(strata))) if len(strata) else 0
    assert int(chosen.sum()) == count
    assert torch.equal(chosen, draw(strata, share, seed, each=False))
    for user, size in enumerate(sizes):
        wanted = size * count / max(len(strata), 1)
        assert np.floor(wanted) <= int(chosen[strata == user].sum()) <= np.ceil(wanted)


def test_every_row_is_as_likely_as_any_other() -> None:
    strata = torch.tensor([0] * 3 + [1] * 7 + [2] * 30)
    hits = torch.stack([draw(strata, 0.1, seed, each=False) for seed in range(4000)]).float().mean(0)
    assert torch.allclose(hits, torch.full((40,), 0.1), atol=4 * (0.09 / 4000) ** 0.5)


def test_every_class_keeps_a_label_and_another_seed_others() -> None:
    label = torch.tensor([0.0] * 990 + [1.0] * 8 + [7.0] * 2)
    train = Examples(label, table(n=1000).features)
    chosen = with_labels(train, 0.01, seed=3).labelled
    assert set(label[chosen].tolist()) == {0.0, 1.0, 7.0}
    assert int(chosen.sum()) <= 12
    assert not torch.equal(chosen, with_labels(train, 0.01, seed=4).labelled)
    assert int(with_labels(train, 0.0, seed=3).labelled.sum()) == 0


def test_numbers_are_no_classes() -> None:
    train = Examples(torch.arange(1000) / 7, table(n=1000).features)
    assert int(with_labels(train, 0.01, seed=0).labelled.sum()) == 10


def test_what_is_taught_is_a_part_of_the_whole() -> None:
    rng = torch.Generator().manual_seed(0)
    user, item = (torch.randint(20, (300,), generator=rng) for _ in range(2))
    train = Interactions(user, item, 20, 20, value=torch.rand(300), time=torch.arange(300))
    few = with_labels(train, 0.1, seed=1)
    assert torch.equal(few.csr.indices, train.csr.indices)  # what is masked in evaluation
    assert (len(few.taught), few.taught.unlabelled, few.taught.n_items) == (30, 270, 20)
    assert torch.equal(few.taught.item, item[few.labelled])
    assert torch.equal(few.taught.time, torch.arange(300)[few.labelled])
    assert labels_left(few) == (30, 300)
    assert train.taught is train


def dataset() -> TableDataset:
    return TableDataset(*(table(seed=seed) for seed in range(3)), {}, {}, "f")


def test_a_share_of_one_changes_nothing() -> None:
    data = dataset()
    assert few_labels(data, 1.0, 0) is data
    assert without_columns(data, []) is data


@pytest.mark.parametrize("name", ["item", "age", "history", "text"])
def test_columns_are_gone_with_their_words(name: str) -> None:
    data = without_columns(dataset(), [name])
    for part in (data.train, data.valid, data.test):
        for kind in vars(part.features).values():
            assert name not in kind
    sizes = data.schema.features
    assert sum(map(len, sizes.values())) == 6


def test_refusals_name_the_column() -> None:
    with pytest.raises(InputError, match="no column 'agee'") as error:
        without_columns(dataset(), ["agee"])
    assert "age" in str(error.value.fix)
    with pytest.raises(InputError, match="nothing to look at"):
        without_columns(dataset(), ["item", "user", "history", "tag.s", "age", "price", "text"])
