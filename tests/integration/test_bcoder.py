"""B-Coder on a real small model: columns, both stages, resume, and answers that are ranked by what was learned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from llmrl.aio import wait
from llmrl.critics.dueling import Answer, load
from llmrl.errors import CheckpointError, RecipeError
from llmrl.plugins import build
from llmrl.recipe import Recipe, parse
from llmrl.samples import Sample
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.train.learners import Learners
from llmrl.train.loop import train
from llmrl.train.parallel import accelerator
from llmrl.train.run import Run
from tests.builders import episode, some, turn

OUTCOMES = {True: "all_pass", False: "test_failure"}
ROWS = [
    {"prompt": f"{a}+{b}=", "program": text, "outcome": OUTCOMES[right], "is_ground_truth": right}
    for a in range(5)
    for b in range(5)
    for text, right in ((str(a + b), True), ("77", False))
]


def recipe(model: Path, out: Path, stage: str, critic: Mapping[str, Any], **options: Any) -> Recipe:
    rows = out / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    steps = {"max_steps": 6, "save_steps": 3, "learning_rate": 3e-3, "output_dir": str(out), "report_to": "none"}
    return parse(
        {
            "model": {"policy": str(model)},
            "source": {"name": "offline", "path": str(rows)},
            "rollout": {"prompts_per_step": 16, "max_prompt_length": 32, "max_completion_length": 8},
            "algorithm": {"name": "bcoder", "stage": stage, "head_width": 1} | dict(options.pop("algorithm", {})),
            "critic": {"learning_rate": 3e-3} | dict(critic),
            "train": steps | options,
        }
    )


def weights(folder: Path, part: str = "critic") -> dict[str, Tensor]:
    names = ("model", "heads") if part == "critic" else ("model",)
    return {
        f"{name}/{key}": weight
        for name in names
        for key, weight in load_file((folder / part if part == "critic" else folder) / f"{name}.safetensors").items()
    }


def moved(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> set[str]:
    return {name for name in one if not torch.equal(one[name], other[name])}


@pytest.fixture(scope="module")
def first(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`final/` of a run that trained V alone."""
    out = tmp_path_factory.mktemp("values")
    with Run(recipe(tiny_model_dir, out, "values", {}), name="values") as run:
        train(run)
    return out / "values" / "final"


def test_columns_are_those_of_both_models(tiny_model_dir: Path, tmp_path: Path) -> None:
    """The reference is the policy at its beginning, so the token that it likes is the policy's own likeliest."""
    made = recipe(tiny_model_dir, tmp_path, "values", {})
    learners = Learners(made, accelerator(made.train), made.algorithm.needs())
    ids = [[7, 9, 30, 60, 90], [8, 20, 40]]
    rows = [
        Sample(
            group=str(i), episode=0, reward=1.0, columns={"token_ids": own, "turn_ids": [-1, -1, *[0] * (len(own) - 2)]}
        )
        for i, own in enumerate(ids)
    ]
    annotated = learners.annotate(rows, made.algorithm.needs())
    network: Any = learners.policy.net.model
    for row in some(annotated):
        with torch.no_grad():
            spread = torch.log_softmax(network(input_ids=torch.tensor([row.token_ids.tolist()])).logits[0], -1)
        for t in row.action_mask.nonzero()[0].tolist():
            assert row.ref_peak_ids[t] == int(spread[t - 1].argmax())
            assert row.old_peak_logprobs[t] == pytest.approx(float(spread[t - 1].max()), abs=1e-5)
            assert row.old_other_logprobs[t] == row.old_peak_logprobs[t]
            assert row.old_logprobs[t] == pytest.approx(float(spread[t - 1, row.token_ids[t]]), abs=1e-5)
        assert (row.values[row.action_mask] <= 1).all()
        assert row.ref_peak_ids[0] == 0


def test_the_first_stage_moves_v_alone(tiny_model_dir: Path, first: Path) -> None:
    assert not moved(weights(tiny_model_dir, ""), weights(first, ""))
    lines = [json.loads(line) for line in (first.parent / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["bcoder/td/generated"] < lines[0]["bcoder/td/generated"]
    assert 0 < lines[0]["bcoder/ground_truth"] < 1
    assert json.loads((first / "critic" / "heads.json").read_text())["v"]["name"] == "capped"


def test_the_second_stage_moves_the_policy_and_a_residual(tiny_model_dir: Path, first: Path, tmp_path: Path) -> None:
    made = recipe(tiny_model_dir, tmp_path, "policy", {"model": str(first / "critic")}, weight_decay=0.1)
    with Run(made, name="policy") as run:
        critic: Any = run.learners["critic"]
        body, residual = critic.net.heads["v"].body, critic.net.heads["v"].residual
        states = torch.randn(3, 64)
        assert not residual(states).any(), "exactly 0 at the beginning"
        assert body(states).any()
        train(run)
        assert residual(states).any()
    before, after = weights(first), weights(tmp_path / "policy" / "final")
    assert not moved(before, after), "V of the first stage stands still, under weight decay too"
    assert moved(weights(first, ""), weights(tmp_path / "policy" / "final", ""))
    again = replace(made, train=replace(made.train, run_name="parts"))
    with Run(again, name="parts") as run:
        train(run)
    (tmp_path / "parts" / "checkpoints" / "step-000006").rename(tmp_path / "gone")
    with Run(again, name="parts", resume=True) as run:
        assert run.first_step == 3
        train(run)
    for part in ("critic", ""):
        assert not moved(weights(tmp_path / "policy" / "final", part), weights(tmp_path / "parts" / "final", part))
    following = replace(made, critic=replace(made.critic, model=str(tmp_path / "policy" / "final" / "critic")))
    with Run(following, name="following") as run:
        critic = run.learners["critic"]
        assert critic.net.heads["v"].residual[2].weight.any(), "goes on with the residual that was learned"


def test_a_residual_needs_what_it_is_added_to(tiny_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no head v, beside which .* residual; .*algorithm\.stage=values"):
        Run(recipe(tiny_model_dir, tmp_path, "policy", {}), name="alone")


def test_answers_are_ranked_by_what_was_learned(first: Path) -> None:
    """The sum of Q less the discounted V behind it, token by token; padding and neighbours cannot matter."""
    model = load(str(first), "cpu", "float32", 64)
    answers = [Answer([70, 71, 72], [80, 81]), Answer([70, 71], [90]), Answer([70, 71, 72], list(range(60, 90)))]
    ranks = model.ranks(answers, gamma=0.9, alpha=0.5)
    head: Any = model.layer
    for answer, rank in zip(answers, ranks, strict=True):
        ids = torch.tensor([[*answer.prompt, *answer.tokens]])
        with torch.no_grad():
            spread = torch.log_softmax(model.policy(input_ids=ids).logits[0], -1)
            values = model.head.values(head.body(model.trunk(input_ids=ids).last_hidden_state[0])).tolist()
        value = logprob = 0.0
        for t in range(len(answer.prompt), ids.shape[1]):
            own = float(spread[t - 1, ids[0, t]])
            ahead = 0.9 * values[t] if t < ids.shape[1] - 1 else 0.0
            value += 0.5 * (own - float(spread[t - 1].max())) + values[t - 1] - ahead
            logprob += own
        assert rank == pytest.approx((value, logprob, logprob / len(answer.tokens)), abs=1e-3)


def test_the_rank_is_a_reward_without_a_verdict(first: Path, critic_dir: Path) -> None:
    group = [episode(turn("ab", [80, 81], prompt=[70, 71])), episode(turn("", [], prompt=[70, 71]))]
    scores = {}
    for by in ("value", "logprob", "mean_logprob"):
        reward = build("reward", {"name": "value_rank", "path": str(first), "by": by, "device": "cpu"})
        with GradingPool(1, 5.0) as pool:
            scores[by], empty = wait(as_group_reward(reward, pool).score(group))
        assert scores[by].value == scores[by].parts[by]
        assert (scores[by].verdict, empty.value) == (None, None)
    assert scores["value"].parts == scores["logprob"].parts
    parts = scores["value"].parts
    assert parts["logprob"] == pytest.approx(2 * (parts["mean_logprob"] or 0.0))
    with pytest.raises(CheckpointError, match=r"no head v; expected final/ of a run with algorithm\.name=bcoder"):
        load(str(critic_dir.parent), None, "float32", 64)
