"""Sections of a recipe that do not fit: each is refused by a message with the keys, and what it says to type helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrl.errors import RecipeError
from llmrl.recipe import agent_checks, checks, read, sampling

MINE = """
model: {policy: ./model}
data: {name: arithmetic, count: 8}
reward: {name: numeric}
algorithm: {name: grpo}
engine: {name: hf}
rollout: {num_generations: 4, prompts_per_step: 2}
train: {max_steps: 10}
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    return path


PPO = "algorithm={name: ppo, critic_warmup: 10}"
MOVES = ["model.sync_ref_model=true", "model.ref_model_sync_steps=5"]
AUDIT = ["audit.reward={name: numeric}", "audit.stop=true"]


@pytest.mark.parametrize(
    ("check", "overrides", "message", "instead"),
    [
        (
            "group_size",
            ["rollout.num_generations=1"],
            r"rollout.num_generations 1: algorithm grpo .* expected rollout.num_generations=2 or more",
            ["rollout.num_generations=2"],
        ),
        (
            "rewards_as_given",
            ["algorithm={name: webrl}", "train.normalize_rewards=true"],
            "train.normalize_rewards with algorithm webrl",
            ["train.normalize_rewards=false"],
        ),
        (
            "agents_own_episodes",
            ["agent={name: command, command: [a]}", "env={name: tools, tools: [calculator]}"],
            "env tools with agent command: a program plays its episodes by itself",
            ["agent=null"],
        ),
        (
            "agents_own_episodes",
            ["agent={name: command, command: [a]}", "rollout.search={name: best_of_n, n: 2}", "rollout.judge=numeric"],
            "rollout.search with agent",
            ["rollout.search=null", "rollout.judge=null"],
        ),
        ("group_size", ["rollout.num_generations=1", "algorithm={name: rloo}"], "algorithm rloo", ["algorithm=ppo"]),
        ("group_size", ["rollout.num_generations=1", "algorithm={name: oreal}"], "algorithm oreal", ["algorithm=ppo"]),
        (
            "group_size",
            ["rollout.num_generations=1", "algorithm={name: reinforce_pp, baseline: group}"],
            "algorithm reinforce_pp",
            ["algorithm.baseline=none"],
        ),
        (
            "group_size",
            ["rollout.num_generations=4", "algorithm={name: t1, train_k: 8}"],
            "rollout.num_generations=8 or more",
            ["rollout.num_generations=8"],
        ),
        (
            "group_size",
            ["rollout.num_generations=1", "algorithm=ppo", "source={name: online, dynamic_sampling: true}"],
            "source.dynamic_sampling with rollout.num_generations 1",
            ["source.dynamic_sampling=false"],
        ),
        *(
            (
                "group_size",
                ["rollout.num_generations=1", f"algorithm={{{algorithm}}}"],
                "num_generations 1: .* or more",
                change,
            )
            for algorithm, change in (
                ("name: grpo, credit_level: turn", ["rollout.num_generations=2"]),
                ("name: rloo, credit_level: turn", ["rollout.num_generations=2"]),
                ("name: preference", ["rollout.num_generations=2"]),
                ("name: step_apo", ["rollout.num_generations=2"]),
                ("name: pro", ["rollout.num_generations=2"]),
                ("name: a_lol, baseline: group", ["rollout.num_generations=2"]),
                ("name: t1", ["rollout.num_generations=2"]),
            )
        ),
        (
            "group_size",
            ["rollout.num_generations=1", "rollout.prompts_per_step=1", "algorithm={name: reinforce_pp}"],
            "prompts_per_step 1: reinforce_pp compares the episodes of a step, 2 at least; .*per_step=2",
            ["rollout.prompts_per_step=2"],
        ),
        (
            "group_size",
            ["rollout.num_generations=1", "rollout.prompts_per_step=1", "algorithm={name: reinforce_pp}"],
            "prompts_per_step 1: reinforce_pp",
            ["algorithm.gamma=0.9"],
        ),
        (
            "group_size",
            ["rollout.prompts_per_step=1", "algorithm={name: kto}"],
            "prompts_per_step 1: kto compares the problems of a step, 2 at least",
            ["algorithm.loss_type=apo_zero_unpaired"],
        ),
        (
            "schedule",
            ["train.lr_scheduler_type=cosine", "train.warmup_steps=10"],
            r"train.warmup_steps 10 of train.max_steps 10: the cosine schedule .* such as train.warmup_steps=1,",
            ["train.warmup_steps=9"],
        ),
        (
            "schedule",
            ["train.lr_scheduler_type=linear", "train.warmup_steps=12"],
            "the linear schedule ends before it begins",
            ["train.lr_scheduler_type=constant"],
        ),
        (
            "collecting",
            ["train.warmup_rollouts=73"],  # nine whole steps of 8 are 72
            r"train.warmup_rollouts 73: the train.max_steps 10 steps of 8 .*=72 or fewer, or train.max_steps=11",
            ["train.warmup_rollouts=72"],
        ),
        ("collecting", ["train.warmup_rollouts=80"], "max_steps=11 or more", ["train.max_steps=11"]),
        (
            "learning_policy",
            [PPO],
            r"algorithm.critic_warmup 10: in 10 learning steps .* only critic learns, .* algorithm.critic_warmup=4",
            ["algorithm.critic_warmup=9"],
        ),
        ("learning_policy", [PPO], "never the policy", ["algorithm.warmup_explained_variance=0.3"]),
        (
            "learning_policy",
            ["algorithm={name: oreal, critic_only_steps: 8}", "train.warmup_rollouts=16"],
            "algorithm.critic_only_steps 8: in 8 learning steps",
            ["train.warmup_rollouts=8"],
        ),
        ("moving_reference", MOVES, "model.sync_ref_model: algorithm grpo .* no reference", ["algorithm.beta=0.1"]),
        (
            "moving_reference",
            ["model.sync_ref_model=true", "algorithm.beta=0.1"],
            "model.ref_model_sync_steps 512 of train.max_steps 10: the reference never moves",
            ["model.ref_model_sync_steps=10"],
        ),
        (
            "evaluation",
            ["eval.every=5"],
            r"eval.every 5: without eval.benchmarks .* or eval.every=0$",
            ["eval.benchmarks=[arithmetic]"],
        ),
        (
            "evaluation",
            ["eval.on_start=true"],
            "or eval.on_start=false$",
            ["eval.on_start=false"],
        ),
        (
            "stopping_audit",
            ["audit.stop=true"],
            "audit.stop: without audit.reward",
            ["audit.stop=false"],
        ),
        ("stopping_audit", [*AUDIT, "audit.every=2", "audit.window=6"], "are 5 audited steps", ["audit.window=5"]),
        (
            "continuation",
            ["source={name: restarts, max_continuation_length: 1024}"],
            "source.max_continuation_length 1024: rollout.max_completion_length 1024 ends",
            ["source.max_continuation_length=1023"],
        ),
        (
            "kept_tokens",
            ["engine.return_kept_ids=true"],
            "engine.return_kept_ids with rollout.top_p 1.0",
            ["rollout.top_p=0.9", "algorithm.importance_sampling_correction=none"],
        ),
        *(
            (
                "whole_distribution",
                [f"rollout.{cut}={value}", f"algorithm={{name: {algorithm}}}"],
                f"rollout.{cut} {value} with algorithm {algorithm}: its ratios need .*rollout.top_p=1 rollout.top_k=0",
                instead,
            )
            for cut, value, algorithm, instead in [
                ("top_p", 0.9, "grpo", ["rollout.top_p=1"]),
                ("top_k", 20, "rloo", ["rollout.top_k=0"]),
                ("min_p", 0.05, "ppo", ["rollout.min_p=0"]),
                ("top_p", 0.5, "reinforce_pp", ["algorithm.importance_sampling_correction=none"]),
            ]
        ),
        (
            "kept_ids",
            ["algorithm=nlpo", "rollout.top_p=0.9"],
            "algorithm nlpo with engine hf and rollout.top_p 0.9: it learns over the tokens that top-p left",
            ["engine.return_kept_ids=true"],
        ),
        (
            "kept_ids",
            ["algorithm=nlpo", "engine={name: hf, return_kept_ids: true}"],
            "engine hf and rollout.top_p 1: ",
            ["rollout.top_p=0.9"],
        ),
        (
            "top_p_alone",
            ["algorithm=nlpo", "engine={name: hf, return_kept_ids: true}", "rollout.top_p=0.9", "rollout.top_k=5"],
            "engine.return_kept_ids with rollout.top_k 5 and rollout.min_p 0: it knows of top_p alone",
            ["rollout.top_k=0"],
        ),
        (
            "adapters",
            ["model.lora_r=8"],
            "model.lora_r 8 without model.use_peft: every weight would be trained",
            ["model.use_peft=true"],
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_what_it_says_helps(
    mine: Path, check: str, overrides: list[str], message: str, instead: list[str]
) -> None:
    with pytest.raises(RecipeError, match=rf"^{mine}: .*{message}"):
        read(mine, overrides)
    complain = next(each for each in checks.CHECKS if each.__name__ == check)  # type: ignore[attr-defined]
    assert complain(read(mine, [*overrides, *instead])) is None


def test_every_check_is_in_the_table() -> None:
    public = [
        name
        for module in (checks, sampling, agent_checks)
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__ and not name.startswith("_") and name != "check"
    ]
    assert sorted(complain.__name__ for complain in checks.CHECKS) == sorted(public)  # type: ignore[attr-defined]


def test_the_first_of_several_complaints_is_told(mine: Path) -> None:
    with pytest.raises(RecipeError, match=r"rollout.num_generations 1"):
        read(mine, ["eval.every=5", "rollout.num_generations=1"])
