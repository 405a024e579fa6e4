"""Episodes that begin between two turns of earlier ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from llmrl import aio
from llmrl.chat import Chat
from llmrl.engines.scripted import ScriptedEngine
from llmrl.envs.maze import MazeGame
from llmrl.errors import DataError, RecipeError
from llmrl.games.game import GameEpisode
from llmrl.recipe import RolloutOptions, parse
from llmrl.rollout.cuts import TurnCuts
from llmrl.rollout.middle import middle_states
from llmrl.rollout.restarts import RestartSampler
from llmrl.rollout.samples import to_samples
from llmrl.rollout.source import RolloutSource
from llmrl.rollout.worker import RolloutWorker
from llmrl.run_folder.writer import Logs
from llmrl.sources.restarts import Restarts
from llmrl.tiny import make_tokenizer
from llmrl.types import Problem, Sampling, Score
from tests.builders import Grader, scripted_worker, source_context

CHAT = Chat(make_tokenizer())
MAZE = MazeGame(instructions=False, max_moves=20)
PROBLEMS = [
    Problem(id=f"maze/{start}", messages=[{"role": "user", "content": start}], info={"start": start})
    for start in MAZE.starts()[:4]
]
OPTIONS = RolloutOptions(prompts_per_step=4, num_generations=2, max_completion_length=16, max_turns=5)
MOVES = ("move left", "move right", "move up", "move down", "stay")


def wandering(_prompt: str, sampling: Sampling) -> str:
    assert sampling.seed is not None
    return MOVES[sampling.seed % len(MOVES)]


def worker(env: Any = MAZE, options: RolloutOptions = OPTIONS) -> RolloutWorker:
    right = Grader(lambda episode: len(episode.turns) % 2 == 0)
    return scripted_worker(CHAT, wandering, right, options, env)


def started(player: RolloutWorker, **settings: Any) -> RolloutSource:
    given: dict[str, Any] = {"at": "turn", "share": 0.5, "decay_steps": 100} | settings
    return Restarts(**given).start(source_context(player, PROBLEMS, player.options))


def sampler(source: RolloutSource) -> RestartSampler:
    assert isinstance(source.sampler, RestartSampler)
    return source.sampler


@pytest.mark.parametrize("env", [MAZE, replace(MAZE, memory=False)], ids=["history", "rewritten"])
def test_an_episode_goes_on_from_the_tokens_that_were_fed(env: MazeGame) -> None:
    """From the state behind turn u the engine is fed the prompt of turn u; only what it samples is learned from."""
    player = replace(worker(env), snapshots=True)
    whole = aio.wait(player.run_episode(PROBLEMS[0], "0/p", 0))
    states = list(middle_states(whole))
    assert [state.turns for state in states] == [1, 2, 3, 4]
    for state in states:
        again = replace(player, begin=state, max_turns=5 - state.turns)
        rest = aio.wait(again.run_episode(PROBLEMS[0], "r0/p", 1))
        asked, _ = cast(ScriptedEngine, player.engine).calls[-len(rest.turns)]
        assert list(asked) == list(whole.turns[state.turns].prompt_ids) == list(rest.turns[0].prompt_ids)
        assert len(rest.turns) == 5 - state.turns
        assert rest.status == "max_turns"
        first, *_ = to_samples(replace(rest, score=Score(0.0)))
        before = len(whole.turns[state.turns].prompt_ids)
        assert not first.action_mask[:before].any()
        assert first.action_mask[before]
        assert list(rest.shown or ()) == list(state.messages)


def test_the_next_prompt_of_a_restored_episode_extends_the_first() -> None:
    player = replace(worker(), snapshots=True)
    whole = aio.wait(player.run_episode(PROBLEMS[0], "0/p", 0))
    *_, state = [state for state in middle_states(whole) if state.turns == 2]
    rest = aio.wait(replace(player, begin=state).run_episode(PROBLEMS[0], "0/p", 1))
    (sample,) = to_samples(replace(rest, score=Score(0.0)))
    spelled = CHAT.text(sample.token_ids.tolist())
    for turn in (*whole.turns[:2], *rest.turns):
        assert turn.text in spelled
        for message in turn.reply if turn is not rest.turns[-1] else ():
            assert message["content"] in spelled
    assert rest.metrics == {} or rest.metrics["moves"] == 2 + len(rest.turns)


def test_tokens_that_no_text_encodes_to_are_fed_again() -> None:
    """The state's prompt holds an unknown token, as a sampled text may: its text would be encoded otherwise."""
    player = replace(worker(), snapshots=True)
    state = list(middle_states(aio.wait(player.run_episode(PROBLEMS[0], "0/p", 0))))[1]
    odd = (*state.prompt_ids[:3], CHAT.tokenizer.unk_token_id, *state.prompt_ids[3:])
    rest = aio.wait(replace(player, begin=replace(state, prompt_ids=odd)).run_episode(PROBLEMS[0], "r0/p", 0))
    assert tuple(rest.turns[0].prompt_ids) == odd
    assert len(rest.turns) > 1
    assert tuple(rest.turns[1].prompt_ids[: len(odd)]) == odd
    assert rest.turns[1].observed_after(rest.turns[0]) is not None


def test_a_game_that_goes_on_otherwise_is_a_broken_episode() -> None:
    player = replace(worker(), snapshots=True)
    *_, state = middle_states(aio.wait(player.run_episode(PROBLEMS[0], "0/p", 0)))
    other = replace(player, begin=replace(state, reply=[{"role": "user", "content": "You stand elsewhere."}]))
    broken = aio.wait(other.run_episode(PROBLEMS[0], "r0/p", 1))
    assert broken.status == "error"
    assert "showed another text" in broken.reason


def test_half_of_a_step_begins_between_turns() -> None:
    source = started(worker())
    source.next(0)
    assert len(sampler(source).snapshots) == 8, "of each episode, right or wrong"
    source.next(1)
    again = [group for group in source.played if group[0].group.startswith("r")]
    assert len(again) == 2
    assert source.metrics["restarts/frac"] == 0.5
    for group in again:
        turns = int(group[0].group.rpartition("@turn")[2])
        assert len({tuple(episode.turns[0].prompt_ids) for episode in group}) == 1, "siblings share their state"
        assert all(len(episode.turns) <= 5 - turns for episode in group)
    assert source.metrics["restarts/turns"] == sum(int(g[0].group.rpartition("@turn")[2]) for g in again) / 2


def test_an_episode_that_only_the_restart_cut_short_has_no_samples() -> None:
    """The recipe's own limit of five turns is one of the task; `max_new_turns` is not."""
    source = started(worker(), share=1.0, max_new_turns=1)
    source.next(0)
    every = sampler(source).snapshots
    sampler(source).snapshots = [snapshot for snapshot in every if snapshot.place != "turn4"]
    values = [snapshot.value for snapshot in sampler(source).snapshots]
    assert source.next(1) == []
    assert {len(episode.turns) for group in source.played for episode in group} == {1}
    assert [snapshot.value for snapshot in sampler(source).snapshots] == values, "they are worth no less for that"
    sampler(source).snapshots = [snapshot for snapshot in every if snapshot.place == "turn4"]
    assert len(source.next(2)) == 8, "one turn was left there in any case"


def test_a_restored_source_goes_on_as_if_nothing_had_happened() -> None:
    through = started(worker())
    whole = [through.next(step) for step in range(5)]
    before = started(worker())
    for step in range(2):
        before.next(step)
    after = started(worker())
    after.restore(json.loads(json.dumps(before.state())))
    assert [after.next(step) for step in range(2, 5)] == whole[2:]
    assert after.state() == through.state()


def logged(folder: Path, source: RolloutSource) -> Path:
    Logs(folder, writes=True, share=1.0, tokens_mb=1.0).rollouts(0, source.played, [])
    return folder / "rollouts.jsonl"


def test_another_runs_log_has_the_states(tmp_path: Path) -> None:
    source = started(worker())
    source.next(0)
    other = started(worker(), rollouts=str(logged(tmp_path, source)))
    assert sampler(other).snapshots == sampler(source).snapshots
    other.next(0)
    assert other.metrics["restarts/frac"] == 0.5


def test_a_longer_runs_states_leave_at_least_a_turn(tmp_path: Path) -> None:
    """Episodes had five turns; here there are two, so only the state behind the first turn leaves one."""
    source = started(worker())
    source.next(0)
    path = logged(tmp_path, source)
    short = started(worker(options=replace(OPTIONS, max_turns=2)), rollouts=str(path), share=1.0)
    assert {snapshot.place for snapshot in sampler(short).snapshots} == {"turn1"}
    short.next(0)
    assert {len(episode.turns) for group in short.played for episode in group} == {1}


def test_a_prompt_of_another_tokenizer_is_not_fed(tmp_path: Path) -> None:
    """Its ids are those of other texts here: each is one more than in this run's tokenizer."""
    source = started(worker())
    source.next(0)
    path = logged(tmp_path, source)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for turn in (turn for line in lines for turn in line["turns"]):
        turn |= {name: [i + 1 for i in turn[name]] for name in turn if name.endswith("_ids")}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match="no judged episode has a snapshot between two turns"):
        started(worker(), rollouts=str(path))


class Unsaved(GameEpisode[Any]):
    async def snapshot(self) -> str:
        raise OSError("no space left")


@dataclass(frozen=True)
class Full(MazeGame):
    def make(self, problem: Problem) -> GameEpisode[Any]:
        return Unsaved(self, problem)


def test_a_failing_snapshot_keeps_what_the_turn_earned() -> None:
    player = replace(worker(Full(instructions=False)), snapshots=True)
    episode = aio.wait(player.run_episode(PROBLEMS[0], "0/p", 0))
    assert (episode.status, len(episode.turns)) == ("error", 1)
    assert "no space left" in episode.reason
    assert (episode.turns[0].reward, bool(episode.turns[0].reply)) == (-1.0, True)


def test_snapshots_between_turns_alone() -> None:
    """Nothing can be gone on from behind the end."""
    player = replace(worker(), snapshots=True)
    played = aio.wait(player.run_episode(PROBLEMS[0], "0/p", 0))
    snapshots = [turn.snapshot for turn in played.turns]
    assert json.loads(snapshots[1] or "") == [turn.text for turn in played.turns[:2]]
    plain = aio.wait(worker().run_episode(PROBLEMS[0], "0/p", 0))
    assert [turn.snapshot for turn in plain.turns] == [None] * 5
    assert list(TurnCuts(5, None, 0).states([replace(plain, score=Score(1.0, "correct"))])) == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"env": {"name": "single_turn"}}, "env single_turn has no snapshots"),
        ({"rollout": {"max_turns": 1}}, "no state lies between turns"),
        ({"source": {"name": "restarts", "max_new_turns": 2}}, "max_new_turns with at line"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], complaint: str) -> None:
    recipe: dict[str, Any] = {
        "model": {"policy": "tiny"},
        "data": {"name": "games", "env": {"name": "maze"}},
        "env": {"name": "maze"},
        "reward": {"name": "environment"},
        "algorithm": {"name": "grpo"},
        "source": {"name": "restarts", "at": "turn"},
        "rollout": {"max_turns": 8},
    }
    parse(recipe)
    with pytest.raises(RecipeError, match=complaint):
        parse(recipe | changes)
