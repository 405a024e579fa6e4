"""Agents that learn with parameters of their own, beside the policy, in one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file

from llmrl.errors import CheckpointError, SyncError
from llmrl.protocols import Update
from llmrl.recipe import Recipe
from llmrl.run_folder import reader
from llmrl.samples import Sample
from llmrl.train.loop import train
from llmrl.train.run import Run
from llmrl.train.run_export import choose, export_checkpoint
from llmrl.types import Message, Observation, Problem
from tests.integration import test_restarts
from tests.integration.test_agents import recipe as game
from tests.integration.test_restarts import run


@dataclass(frozen=True)
class Duet:
    """Two agents speak in turn, four turns in all; each turn earns the share of its letters that are a to m."""

    agents: ClassVar[Sequence[str]] = ("first", "second")
    player: str = "first"

    def make(self, problem: Problem) -> DuetEpisode:
        return DuetEpisode()


@dataclass
class DuetEpisode:
    turns: int = 0

    async def reset(self) -> Observation:
        return self.shown("")

    async def step(self, message: Message) -> Observation:
        self.turns += 1
        letters = [letter for letter in message["content"] if letter.isalpha()]
        earned = sum(letter.lower() < "n" for letter in letters) / max(1, len(letters))
        return replace(self.shown(message["content"]), reward=earned, done=self.turns == 4)

    def shown(self, text: str) -> Observation:
        asked = {"role": "user", "content": f"You hear: {text[:8]}"}
        return Observation(messages=[asked], agent=Duet.agents[self.turns % 2], whole=True)

    async def close(self) -> None:
        pass


def recipe(model: Path, out: Path, second: dict[str, Any] | None = None, /, **sections: Any) -> Recipe:
    """A duet of the policy, first, and a second agent that learns by itself unless told otherwise."""
    rollout = {"opponents": {"second": {"learns": True} if second is None else second}, "overlong_turns": "answer"}
    options = {"max_steps": 2, "save_steps": 1, "learning_rate": 1e-3, "output_dir": str(out), "report_to": "none"}
    rollout |= sections.pop("rollout", {})
    options |= sections.pop("train", {})
    env = {"name": f"{__name__}:Duet", **sections.pop("env", {})}
    sections = {"data": {"name": "arithmetic", "high": 9}, "rollout": rollout, "train": options, **sections}
    return game(model, out, env, **sections)


def steps(folder: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in step.items() if "sync/seconds" not in k} for step in test_restarts.steps(folder)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return loaded


def same(one: Path, other: Path) -> bool:
    """True where two folders hold the same model, to the bit."""
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_each_agent_learns_its_own_model(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = run(recipe(tiny_model_dir, tmp_path), "duel")
    played = [turn for record in reader.episodes(folder) for turn in record.trajectory.turns]
    assert {(turn.agent, turn.model) for turn in played} == {("first", "policy"), ("second", "policy:second")}
    first, second = folder / "final", folder / "final" / "second"
    assert not any(same(*pair) for pair in ((first, tiny_model_dir), (second, tiny_model_dir), (first, second)))
    for step in steps(folder):
        for name in ("loss", "grad_norm", "staleness/mean", "sync/probe_logp_gap"):
            assert {name, f"agents/second/{name}"} <= step.keys()
        assert {"agents/first/reward", "agents/second/reward"} <= step.keys()
        assert step["updates/skipped"] == 0

    out = tmp_path / "exported"
    export_checkpoint(folder, choose(folder, "2"), out)
    assert same(out, first)
    assert same(out / "second", second)
    assert {path.name for path in (out / "second").iterdir()} == {path.name for path in second.iterdir()}

    begun = run(recipe(second, tmp_path, {"model": str(first)}), "next")
    assert not same(begun / "final", second)
    assert not (begun / "final" / "second").exists(), "that opponent was frozen"
    damaged = bytearray((second / "model.safetensors").read_bytes())
    damaged[-1] ^= 1
    (second / "model.safetensors").write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"final/second: damaged: model\.safetensors"):
        run(recipe(second, tmp_path), "damaged")


def test_an_agent_learns_what_the_policy_would_in_its_place(tiny_model_dir: Path, tmp_path: Path) -> None:
    """The second player against a first that stands still: by its own parameters, or as the policy. The same bits."""
    apart = run(
        recipe(tiny_model_dir, tmp_path, {"learns": True, "learning_rate": 1e-3}, train={"learning_rate": 0.0}), "apart"
    )
    frozen: dict[str, Any] = {"opponents": {"first": {}}}
    alone = run(recipe(tiny_model_dir, tmp_path, env={"player": "second"}, rollout=frozen), "alone")
    assert same(apart / "final", tiny_model_dir)
    assert same(apart / "final" / "second", alone / "final")
    assert not same(alone / "final", tiny_model_dir)


def test_rows_reach_only_the_learner_of_their_agent(tiny_model_dir: Path, tmp_path: Path) -> None:
    fitted: dict[str, list[str]] = {"": [], "second": []}
    with Run(recipe(tiny_model_dir, tmp_path), name="duel") as duel:
        for policy in duel.policies:
            learners, own = policy.learners, fitted[policy.agent]

            def fit(
                rows: Sequence[Sample], update: Update, fit: Any = learners.fit, own: list[str] = own, **rest: Any
            ) -> Iterator[Any]:
                own += [row.agent for row in rows]
                yield from fit(rows, update, **rest)

            learners.fit = fit  # type: ignore[method-assign, assignment]
        train(duel)
    assert {name: set(agents) for name, agents in fitted.items()} == {"": {"first"}, "second": {"second"}}


def test_a_model_whose_agent_was_silent_stays_as_it_is(tiny_model_dir: Path, tmp_path: Path) -> None:
    """A single turn is the first player's; weight decay would move a model that takes an optimiser step."""
    options = {"weight_decay": 0.1, "max_steps": 2}
    folder = run(recipe(tiny_model_dir, tmp_path, rollout={"max_turns": 1}, train=options), "silent")
    assert same(folder / "final" / "second", tiny_model_dir)
    assert not same(folder / "final", tiny_model_dir)
    assert not any("agents/second/loss" in step or "agents/second/reward" in step for step in steps(folder))


def test_weights_of_each_agent_are_proved(tiny_model_dir: Path, tmp_path: Path) -> None:
    with Run(recipe(tiny_model_dir, tmp_path), name="duel") as duel:
        engine: Any = duel.policies[1].sync._engine
        engine.load = lambda weights, version: list(weights)  # the policy's own engine still takes what it is given
        with pytest.raises(SyncError, match="weight sync to version 1: the engine does not hold"):
            train(duel)


METHODS: dict[str, dict[str, Any]] = {
    "reference": {"algorithm": {"name": "grpo", "beta": 0.1, "num_iterations": 2}},
    "moving reference": {
        "algorithm": {"name": "grpo", "beta": 0.1},
        "model": {"sync_ref_model": True, "ref_model_sync_steps": 1},
    },
    "critic": {"algorithm": {"name": "ppo", "kl_coef": 0.1, "kl_target": 0.01}, "critic": {"zero_init": False}},
    "lora": {"algorithm": {"name": "grpo", "beta": 0.1}, "model": {"use_peft": True, "lora_r": 4}},
}
SLOW = ("moving reference", "lora")


@pytest.mark.parametrize("method", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in METHODS])
def test_a_run_of_two_policies_goes_on_after_a_kill(tiny_model_dir: Path, tmp_path: Path, method: str) -> None:
    """Three steps at once are two and, from the checkpoint, one more: every number and every bit is the same."""
    sections = dict(METHODS[method])
    sections["model"] = {"policy": str(tiny_model_dir), **sections.get("model", {})}

    def made(steps: int) -> Recipe:
        return recipe(tiny_model_dir, tmp_path, train={"max_steps": steps, "learning_rate": 3e-3}, **sections)

    whole = run(made(3), "whole")
    run(made(2), "parts")
    parts = run(made(3), "parts", resume=True)
    assert steps(parts) == steps(whole)
    for name in ("", "second"):
        assert same(parts / "final" / name, whole / "final" / name), name
        assert not same(parts / "final" / name, tiny_model_dir), name
    if method == "critic":
        critics = [parts / "final" / "critic", parts / "final" / "second" / "critic"]
        assert [same(critic, whole / critic.relative_to(parts)) for critic in critics] == [True, True]
        assert not same(*critics)
        assert steps(parts)[0]["agents/second/critic/loss"] != steps(parts)[0]["critic/loss"]
    if method == "reference":  # the policy of each agent is asked, and its engine sampled by the same weights
        for name in ("sampling/sampling_logp_difference/mean", "agents/second/sampling/sampling_logp_difference/mean"):
            assert all(step[name] < 1e-3 for step in steps(parts)), name
    if method == "lora":
        assert (parts / "final" / "second" / "adapter").is_dir()
