"""Recipes of games and conversations that nothing else runs: two steps each, and what they leave is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from llmrl import recipe as recipes
from llmrl import tiny
from llmrl.data.games import Games
from llmrl.datagen.demonstrations import Demonstrations, write
from llmrl.envs.nim import Nim
from llmrl.recipe import Recipe
from llmrl.run_folder import reader
from llmrl.types import Trajectory
from tests.integration.test_restarts import run, steps

TINY = Path(__file__).parents[2] / "recipes" / "tiny"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of printable characters, as the demo's is: it names a price now and then."""
    return tiny.make(tmp_path_factory.mktemp("model"), vocab="arithmetic", hidden=64, layers=2)


def read(name: str, model: Path, out: Path, *overrides: str) -> Recipe:
    limits = ["train.max_steps=2", f"train.output_dir={out}", "rollout.reward_workers=1"]
    return recipes.read(TINY / f"{name}.yaml", [f"model.policy={model}", *limits, *overrides])


def played(folder: Path) -> list[Trajectory]:
    return [record.trajectory for record in reader.episodes(folder)]


def imitating(game: Nim, model: Path, folder: Path, player: str = "random") -> Path:
    """A model that has imitated a scripted player of a game, by recipes/tiny/game_bc.yaml."""
    rows = folder / "rows.jsonl"
    write(Demonstrations(data=Games(env=game, split="all"), player=player, episodes=300), rows)  # type: ignore[arg-type]
    made = read("game_bc", model, folder, f"source.path={rows}", "train.max_steps=250")
    return run(made, "primed") / "final"


def learned(measured: Sequence[dict[str, float]]) -> bool:
    """True if an update was made in each step, by finite numbers."""
    return all(step["updates/skipped"] == 0 and abs(step["loss"]) < 1e6 and step["grad_norm"] > 0 for step in measured)


def test_every_conversation_is_rated_by_all_buyers(model: Path, tmp_path: Path) -> None:
    """A model that babbles fills each line to its limit: that ends the line, and not the conversation."""
    folder = run(read("dialogue", model, tmp_path, "rollout.num_generations=8"), "dialogue")
    episodes = played(folder)
    assert len(episodes) == 2 * 4 * 8
    assert {episode.status for episode in episodes} <= {"done", "cut"}
    for episode in episodes:
        assert episode.metrics.keys() == {"rating", "disagreement", "penalty"}
        assert episode.earned == pytest.approx(episode.metrics["rating"] - 0.5 * episode.metrics["disagreement"])
        assert 2 <= len(episode.turns) <= 3 or "I take it" in str(episode.turns[-1].reply)
    assert len({episode.earned for episode in episodes}) > 1, "some prices are named by chance"
    assert learned(steps(folder))


def test_both_sides_of_self_play_learn_from_their_own_turns(model: Path, tmp_path: Path) -> None:
    primed = imitating(Nim(instructions=False), model, tmp_path)
    folder = run(read("self_play", primed, tmp_path, "rollout.prompts_per_step=6"), "self_play")
    episodes = played(folder)
    for episode in episodes:
        assert [turn.agent for turn in episode.turns] == [("first", "second")[n % 2] for n in range(len(episode.turns))]
        assert {turn.model for turn in episode.turns} == {"policy"}
        winner, loser = episode.outcome.get("first", 0.0), episode.outcome.get("second", 0.0)
        if episode.status == "done" and not episode.metrics["illegal"]:
            assert {winner, loser} == {1.0, -1.0}
            assert (winner == 1.0) == (episode.metrics["first_won"] == 1.0)
    assert sum(not episode.metrics["illegal"] for episode in episodes) > len(episodes) / 8, "it knows the form"
    measured = steps(folder)
    assert learned(measured)
    assert all({"agents/first/reward", "agents/second/reward"} <= step.keys() for step in measured)


def test_both_players_learn_models_of_their_own(model: Path, tmp_path: Path) -> None:
    primed = imitating(Nim(instructions=False), model, tmp_path)
    folder = run(read("own_parameters", primed, tmp_path, "rollout.prompts_per_step=6"), "own_parameters")
    spoke = {(turn.agent, turn.model) for episode in played(folder) for turn in episode.turns}
    assert spoke == {("first", "policy"), ("second", "policy:second")}
    measured = steps(folder)
    assert learned(measured)
    assert all(step["agents/second/grad_norm"] > 0 for step in measured)
    assert (folder / "final" / "second" / "model.safetensors").exists()


def test_half_of_the_later_groups_begin_between_turns(model: Path, tmp_path: Path) -> None:
    sizes = ["rollout.prompts_per_step=4", "rollout.max_turns=4", "rollout.overlong_turns=answer"]
    folder = run(read("turn_restarts", model, tmp_path, *sizes), "turn_restarts")
    measured = steps(folder)
    assert [step["restarts/frac"] for step in measured] == [0.0, 0.5]
    assert 1 <= measured[1]["restarts/turns"] <= 3
    for episode in played(folder):
        before = int(episode.group.rpartition("@turn")[2]) if episode.group.startswith("r") else 0
        assert len(episode.turns) <= 4 - before
        assert episode.earned == sum(turn.reward for turn in episode.turns), "what lies behind the snapshot"
