from __future__ import annotations

from array import array
from collections import Counter
from random import Random

import pytest
import torch

from llmrl.batch import balance_across_ranks, collate, inseparable, minibatches, share_prompts, split
from llmrl.errors import ColumnError
from llmrl.samples import Sample
from tests.builders import changed, sample


def row(length: int = 3, *, group: str = "g", episode: int = 0, first: int = 10, old: bool = False) -> Sample:
    """A prompt of one token and `length - 1` actions; token i is `first + i`, its log-probability is -(first + i)."""
    tokens = [first + i for i in range(length)]
    made = sample(
        group=group,
        episode=episode,
        reward=1.0,
        turn_rewards=[0.0],
        token_ids=tokens,
        turn_ids=[-1] + [0] * (length - 1),
        action_mask=[False] + [True] * (length - 1),
        sampled_logprobs=[0.0] + [-float(token) for token in tokens[1:]],
    ).assign(advantages=2.0, weights=0.5)
    return made.assign(old_logprobs=[-0.5 * token for token in tokens]) if old else made


def test_padded_rows_begin_in_column_0_and_end_in_padding_that_weighs_nothing() -> None:
    batch = collate([row(3, first=10), row(2, first=20)], pack=False)
    assert batch.token_ids.tolist() == [[10, 11, 12], [20, 21, 0]]
    assert batch.sample_ids.tolist() == [[0, 0, 0], [1, 1, -1]]
    assert batch.position_ids.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert batch.action_mask.tolist() == [[False, True, True], [False, True, False]]
    assert batch.sampled_logprobs.tolist() == [[0, -11, -12], [0, -21, 0]]
    assert batch.advantages.tolist() == [[0, 2, 2], [0, 2, 0]]
    assert batch.weights.tolist() == [[0, 0.5, 0.5], [0, 0.5, 0]]
    assert batch.samples == 2
    assert batch.turn_ids.tolist() == [[-1, 0, 0], [-1, 0, -1]]


def test_groups_are_numbered_in_the_order_in_which_they_come() -> None:
    rows = [row(group="b"), row(group="a"), row(group="b")]
    for pack in (False, True):
        assert collate(rows, pack).group_ids.tolist() == [0, 1, 0]


def test_packed_rows_stand_behind_one_another_and_count_positions_anew() -> None:
    batch = collate([row(3, first=10), row(2, first=20)], pack=True)
    assert batch.token_ids.tolist() == [[10, 11, 12, 20, 21]]
    assert batch.sample_ids.tolist() == [[0, 0, 0, 1, 1]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert batch.action_mask.tolist() == [[False, True, True, False, True]]
    assert batch.sampled_logprobs.tolist() == [[0, -11, -12, 0, -21]]
    assert batch.weights.tolist() == [[0, 0.5, 0.5, 0, 0.5]]


@pytest.mark.parametrize("pack", [False, True])
def test_every_column_says_the_same_of_every_token(pack: bool) -> None:
    rows = [row(4, first=10, old=True), row(2, first=30, old=True), row(3, first=50, old=True)]
    batch = collate(rows, pack)
    chosen = batch.action_mask
    assert torch.equal(batch.sampled_logprobs[chosen], -batch.token_ids[chosen].float())
    assert torch.equal(batch.old_logprobs[chosen], -0.5 * batch.token_ids[chosen].float())
    for i, one in enumerate(rows):
        mine = batch.sample_ids == i
        assert batch.token_ids[mine].tolist() == one.token_ids.tolist()
        assert batch.action_mask[mine].tolist() == one.action_mask.tolist()
        assert batch.position_ids[mine].tolist() == list(range(len(one.token_ids)))
    assert not chosen[batch.sample_ids < 0].any()


def test_a_column_that_nobody_filled_is_an_error() -> None:
    bare = sample(
        group="g",
        episode=0,
        reward=0.0,
        turn_rewards=[],
        token_ids=[1, 2],
        turn_ids=[-1, 0],
        action_mask=[False, True],
        sampled_logprobs=[0.0, -1.0],
    )
    batch = collate([bare], pack=False)
    assert batch.columns.keys() == {"token_ids", "turn_ids", "sampled_logprobs"}
    for name in ("old_logprobs", "ref_logprobs", "values", "weights", "advantages", "returns", "value_weights"):
        with pytest.raises(ColumnError, match=f"reads the column {name}, which nobody filled"):
            getattr(batch, name)


@pytest.mark.parametrize("pack", [False, True])
def test_kept_ids_stand_token_by_token_row_by_row(pack: bool) -> None:
    first = changed(row(3), support_ids=[(), array("i", [11, 4]), [12]], old_kept_logprobs=[0.0, -1.0, -2.0])
    second = changed(row(2, first=20), support_ids=[(), (20, 21, 22)], old_kept_logprobs=[0.0, -3.0])
    batch = collate([first, second], pack)
    assert batch.support_ids is not None
    assert batch.support_ids.tolist() == [11, 4, 12, 20, 21, 22]
    assert batch.support_counts[batch.action_mask].tolist() == [2, 1, 3]
    assert int(batch.support_counts.sum()) == 6
    assert batch.old_kept_logprobs[batch.action_mask].tolist() == [-1.0, -2.0, -3.0]
    assert collate([first, row(2)], pack).support_ids is None


def test_the_critics_weights_are_the_policys_unless_set() -> None:
    assert collate([row()], pack=False).value_weights.tolist() == [[0, 0.5, 0.5]]
    assert collate([row().assign(value_weights=3.0)], pack=False).value_weights.tolist() == [[0, 3, 3]]


def test_units_are_rows_or_whole_groups() -> None:
    rows = [row(group="a"), row(group="b"), row(group="a")]
    assert inseparable(rows, keep_groups=False) == [[0], [1], [2]]
    assert inseparable(rows, keep_groups=True) == [[0, 2], [1]]


def test_split_sizes_differ_by_one_at_most() -> None:
    assert split(range(7), 3) == [range(3), range(3, 5), range(5, 7)]
    assert [len(part) for part in split(list(range(9)), 4)] == [3, 2, 2, 2]


def test_minibatches_hold_each_row_once_an_epoch_in_an_order_of_the_seed() -> None:
    rows = [row(episode=i) for i in range(10)]

    def episodes(seed: int) -> list[list[int]]:
        made = minibatches(rows, epochs=2, parts=3, keep_groups=False, seed=seed)
        return [[one.episode for one in part] for part in made]

    parts = episodes(0)
    assert [len(part) for part in parts] == [4, 3, 3, 4, 3, 3]
    first, second = ([i for part in half for i in part] for half in (parts[:3], parts[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second, "every epoch has an order of its own"
    assert episodes(0) == parts
    assert episodes(1) != parts


def test_minibatches_never_part_a_group_and_are_never_empty() -> None:
    rows = [row(group=str(i % 3), episode=i) for i in range(9)]
    parts = list(minibatches(rows, epochs=1, parts=2, keep_groups=True, seed=0))
    owners = [{one.group for one in part} for part in parts]
    assert owners[0].isdisjoint(owners[1])
    assert sorted(len(part) for part in parts) == [3, 6]
    assert [len(part) for part in minibatches(rows, epochs=1, parts=5, keep_groups=True, seed=0)] == [3, 3, 3]


def test_deal_worked_by_hand() -> None:
    # Longest first to the rank with less: 5 to rank 0; 4, then 3 would be 7 > 5 for rank 1, so 3 goes to rank 0 only
    # if it has less: loads (5, 4) give 3 to rank 1, (5, 7) give 1 to rank 0.
    dealt = balance_across_ranks([3, 1, 4, 5], [[0], [1], [2], [3]], ranks=2, budget=8, pack=False)
    # Rank 0: 5 and 1 padded are 10 slots, above 8. Rank 1: 4 and 3 padded are 8.
    assert dealt == [[[3], [1]], [[2, 0], []]]
    packed = balance_across_ranks([3, 1, 4, 5], [[0], [1], [2], [3]], ranks=2, budget=8, pack=True)
    assert packed == [[[3, 1]], [[2, 0]]]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("pack", [False, True])
def test_deal_keeps_its_promises(seed: int, pack: bool) -> None:
    random = Random(seed)
    lengths = [random.randint(1, 60) for _ in range(random.randint(1, 30))]
    rows = [row(2, group=str(random.randint(0, 8)), episode=i) for i in range(len(lengths))]
    together = inseparable(rows, keep_groups=seed % 2 == 0)
    ranks, budget = random.randint(1, 4), random.choice([40, 100, 1000])
    dealt = balance_across_ranks(lengths, together, ranks, budget, pack)

    assert len(dealt) == ranks
    assert len({len(hand) for hand in dealt}) == 1, "as many micro-batches on every rank"
    assert Counter(i for hand in dealt for part in hand for i in part) == Counter(range(len(lengths)))
    for part in (part for hand in dealt for part in hand if part):
        cost = sum(lengths[i] for i in part) if pack else max(lengths[i] for i in part) * len(part)
        assert cost <= budget or sorted(part) in [sorted(unit) for unit in together]
    for unit in together:
        assert any(set(unit) <= set(part) for hand in dealt for part in hand), "a unit stays in one micro-batch"
    loads = [sum(lengths[i] for part in hand for i in part) for hand in dealt]
    assert max(loads) - min(loads) <= max(sum(lengths[i] for i in unit) for unit in together)


def test_samples_of_one_prompt_share_a_micro_batch_as_long_as_it_fits() -> None:
    rows = [row(5, first=1), row(3, first=2), row(4, first=1), row(9, first=1), row(3, first=2)]
    units, costs = share_prompts(rows, [[i] for i in range(5)], budget=9, ranks=1)
    assert units == [[0, 2], [1, 4], [3]], "5 and 3 fit in 9, and 8 more do not"
    assert costs == [5, 3, 3, 9, 2], "the prompt, a token here, counts once in a unit"
    for i, unit in enumerate(units):
        assert sum(costs[j] for j in unit) <= 9, i


def test_samples_that_stay_together_share_their_prompts_too() -> None:
    rows = [row(5, first=1), row(5, first=1), row(5, first=2), row(5, first=1)]
    units, costs = share_prompts(rows, [[0, 1, 2], [3]], budget=18, ranks=1)
    assert units == [[0, 1, 2, 3]]
    assert costs == [5, 4, 5, 4]
    assert share_prompts(rows, [[0, 1, 2], [3]], budget=17, ranks=1) == ([[0, 1, 2], [3]], [5, 4, 5, 5])


def test_shared_prompts_leave_the_ranks_balanced() -> None:
    rows = [row(10, first=1) for _ in range(32)]
    units, costs = share_prompts(rows, [[i] for i in range(32)], budget=10_000, ranks=4)
    shares = balance_across_ranks(costs, units, 4, 10_000, pack=True)
    loads = [sum(10 for batch in rank for _ in batch) for rank in shares]
    assert max(loads) - min(loads) <= 20
    assert sorted(i for rank in shares for batch in rank for i in batch) == list(range(32))
