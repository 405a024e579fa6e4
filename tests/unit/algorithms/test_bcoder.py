"""B-Coder by hand: targets by the reference's tokens, both losses, ground truth, and a world of stored programs."""

from __future__ import annotations

from math import nan
from typing import Any

import pytest
import torch
from torch import Tensor

from llmrl.algorithms.bcoder import BCoder
from llmrl.batch import Batch, collate
from llmrl.checks.verify.greedy_values import STATES, SYMBOLS, DuelingTables, GreedyWorld
from llmrl.ops.dueling import lead, rank_scores
from llmrl.ops.judgement import roc_auc
from llmrl.protocols import Forward, Modelled
from llmrl.samples import Sample
from tests.builders import actions_of, changed, row

KNOWN: dict[str, Any] = {
    "old_logprobs": [0, -1.0, -2.0],
    "old_peak_logprobs": [0, -0.5, -0.4],
    "old_other_logprobs": [0, -0.7, -1.4],
    "values": [0, 0.3, 0.6],
    "ref_peak_ids": [0, 0, 5],
}


def column(row: Sample, name: str) -> list[float]:
    return actions_of(row.get(name), row.action_mask)


def test_stages_differ_by_models_and_updates() -> None:
    values, policy = BCoder(stage="values", head_width=1), BCoder(head_width=1)
    assert isinstance(values, Modelled)
    first, second = (algorithm.models()["critic"] for algorithm in (values, policy))
    head = {"name": "capped", "high": 1.0, "width": 1}
    assert (first.trunk, first.heads) == ("policy", {"v": head})
    assert (second.trunk, second.heads) == ("reference", {"v": head | {"residual": True}})
    assert [update.model for update in values.updates(0)] == ["critic"]
    assert [(update.model, update.peaks) for update in policy.updates(0)] == [("critic", False), ("policy", True)]


def test_a_target_is_q_of_the_token_that_the_reference_likes() -> None:
    """Behind the first token: 0.9 * (0.6 + 2 * (-1.4 + 0.4)) = -1.26; at the last the reward."""
    (credited,) = BCoder(gamma=0.9, alpha=2.0).credit([row(reward=0.5, **KNOWN)])
    assert column(credited, "returns") == pytest.approx([-1.26, 0.5])
    assert column(credited, "advantages") == pytest.approx([-1.0, -3.2])
    assert column(credited, "old_values") == pytest.approx([0.3, 0.6])
    assert column(credited, "nll_weights") == [0.0, 0.0]


def test_an_answer_weighs_the_same_however_long_it_is() -> None:
    longer: dict[str, Any] = {name: [*numbers, numbers[-1]] for name, numbers in KNOWN.items()}
    rows = [row(reward=1.0, **KNOWN), row(group="h", actions=3, reward=-0.3, **longer), row(group="i", reward=nan)]
    short, long = BCoder().credit(rows)
    assert column(short, "weights") == [1 / 4] * 2
    assert column(long, "weights") == pytest.approx([1 / 6] * 3)


def test_an_episode_goes_on_behind_what_the_environment_said() -> None:
    """The next action's state counts, in the same row or in the next one."""
    numbers: dict[str, Any] = {name: [0, *own[1:2], 9, *own[2:]] for name, own in KNOWN.items()}
    within = changed(row(action_mask=[False, True, False, True], reward=0.5, **numbers), turn_ids=[-1, 0, -1, 1])
    (credited,) = BCoder(gamma=0.9).credit([changed(within, turn_rewards=[0.0, 0.0])])
    assert column(credited, "returns") == pytest.approx([0.9 * (0.6 - 1.0), 0.5])
    rows = []
    for i in (0, 1):
        own: dict[str, Any] = {name: [0, column[1 + i]] for name, column in KNOWN.items()}
        rows.append(changed(row(actions=1, reward=0.5, **own), turn_ids=[-1, i], turn_rewards=[0.0, 0.0]))
    first, second = BCoder(gamma=0.9).credit(rows)
    assert column(first, "returns") + column(second, "returns") == pytest.approx([0.9 * (0.6 - 1.0), 0.5])


def batch_of(algorithm: BCoder, *rows: Sample) -> Batch:
    return collate(algorithm.credit(rows), pack=False, dtype=torch.float64)


def test_both_losses_see_the_other_model_as_it_was() -> None:
    """Targets 0.999 * (0.6 - 1.0) and 0.5, as above; V moves in one loss and A in the other."""
    batch = batch_of(BCoder(), row(reward=0.5, **KNOWN))
    ones = torch.ones_like(batch.returns)
    critic = BCoder().critic_loss(Forward(values=0.5 * ones), batch)
    assert critic.terms[0, 1:].tolist() == pytest.approx([(-0.5 + 0.5 + 0.3996) ** 2, (-1.6 + 0.5 - 0.5) ** 2])
    new = Forward(logprobs=-2.0 * ones, peak_logprobs=-1.0 * ones, entropy=ones)
    policy = BCoder().loss(new, batch)
    assert policy.terms[0, 1:].tolist() == pytest.approx([(-1.0 + 0.3 + 0.3996) ** 2, (-1.0 + 0.6 - 0.5) ** 2])
    assert policy.metrics["agreement"][0, 1:].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("option", "facts", "truth"),
    [
        ("marked", {"numbers": {"is_ground_truth": 1.0}, "reward": -0.3}, True),
        ("marked", {"reward": 1.0}, False),
        ("passed", {"reward": 1.0}, True),
        ("passed", {"numbers": {"is_ground_truth": 1.0}, "reward": -0.3}, False),
    ],
)
def test_ground_truth_is_imitated_by_sums_over_its_tokens(option: Any, facts: dict[str, Any], truth: bool) -> None:
    algorithm = BCoder(ground_truth=option, advantage_coef=0.1, nll_coef=0.5)
    batch = batch_of(algorithm, row(**facts, **KNOWN))
    new = {"logprobs": torch.tensor([[0.0, -2.0, -3.0]]), "peak_logprobs": torch.tensor([[0.0, -1.0, -0.5]])}
    with_truth = algorithm.loss(Forward(**new), batch)
    error = (with_truth.metrics["td_error"].square() * batch.weights).sum()
    imitated = 0.1 * (1.0 + 2.5) + 0.5 * (2.0 + 3.0) if truth else 0.0
    assert float((with_truth.terms * batch.weights).sum() - error) == pytest.approx(imitated)


def test_options_out_of_range_are_refused() -> None:
    wrong: dict[str, Any] = {"gamma": 0.0, "alpha": 0.0, "advantage_coef": -0.1, "nll_coef": -1.0, "head_width": -1}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"{name} {value}: expected"):
            BCoder(**{name: value})


def test_a_rank_is_v_of_the_prompt_and_all_advantages() -> None:
    """0.5 + (0 - 1) + 0.1 * 0.4 = -0.46."""
    score = rank_scores(torch.tensor([[0.0, -1.0]]), torch.tensor([[0.5, 0.4]]), 0.9)
    assert score.tolist() == pytest.approx([-0.46])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_stored_programs_teach_which_are_right(seed: int) -> None:
    """The only right one of 27, all stored: V learns, then the policy; then ranks tell it apart."""
    world = GreedyWorld.of(seed)
    right = list(world.rewards)[7 + 3 * seed]
    rewards = {answer: 1.0 if answer == right else -0.3 for answer in world.rewards}
    world = GreedyWorld(rewards, world.likeliest)
    tables, rows = DuelingTables(world, 1.0), world.rows()
    with torch.no_grad():
        for state, token in world.likeliest.items():
            tables.logits[STATES.index(state), token] += 1.0
    rows = [changed(row, numbers={"is_ground_truth": float(row.reward > 0)}) for row in rows]
    errors, chances = [], [chance(tables, world)]
    for stage, steps in (("values", 150), ("policy", 300)):
        algorithm = BCoder(stage=stage)  # type: ignore[arg-type]
        learner = torch.optim.Adam([tables.outputs, *([] if stage == "values" else [tables.logits])], lr=0.05)
        for step in range(steps):
            credited = algorithm.credit(tables.annotated(rows))
            errors.append(algorithm.metrics(credited)["bcoder/td/generated"])
            batch = collate(credited, pack=False, dtype=torch.float64)
            learner.zero_grad()
            for update in algorithm.updates(step):
                new = tables.policy() if update.model == "policy" else tables.critic()
                (update.loss(new, batch).terms * batch.weights).sum().backward()
            learner.step()
    chances.append(chance(tables, world))
    assert errors[150] < 0.8 * errors[0], "V explains what does not hang on the token"
    assert chances[1] > 2 * chances[0]
    assert auc_of(tables, world) >= 0.9


def chance(tables: DuelingTables, world: GreedyWorld) -> float:
    """Mean probability of the right programs."""
    chances: Tensor = tables.policy().logprobs[:, 1:].sum(-1).exp().detach()
    right = torch.tensor([reward > 0 for reward in world.rewards.values()])
    return float(chances[right].mean())


def auc_of(tables: DuelingTables, world: GreedyWorld) -> float:
    """Area under the curve of ranks."""
    new, values = tables.policy(), tables.critic().values[:, 1:].detach()
    ranks = rank_scores(lead(new.logprobs, new.peak_logprobs, 1.0)[:, 1:].detach(), values, 0.999).tolist()
    return roc_auc(ranks, [reward > 0 for reward in world.rewards.values()]) or 0.0


def test_the_world_has_all_answers() -> None:
    assert len(GreedyWorld.of(0).rewards) == SYMBOLS**3
