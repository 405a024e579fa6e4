"""The source that remembers, over an online one: what a step gets, on any rank, and after a resume."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llmrl import aio
from llmrl.chat import Chat, load_tokenizer
from llmrl.errors import CheckpointError, DataError
from llmrl.recipe import RolloutOptions
from llmrl.rollout.replay import ReplaySource
from llmrl.run_folder.writer import Logs
from llmrl.samples import Sample
from llmrl.sources.asynchronous import Asynchronous
from llmrl.sources.offline import Offline
from llmrl.sources.replay import Replay
from llmrl.types import Completion, Problem, Score, Trajectory
from tests.builders import SUMS, Gather, episode, on_ranks, source_context, turn

OPTIONS = RolloutOptions(prompts_per_step=2, num_generations=2)
SETTINGS = Replay(turns=6, proposals=5, capacity=8)


@dataclass
class Plays:
    """In place of a `RolloutWorker`: two episodes of two turns; a completion of a prompt is its length."""

    breaks: ClassVar[str] = "environment"
    asked: list[str] = field(default_factory=list)

    async def run_group(self, problem: Problem, name: str, prefix_ids: Sequence[int] = ()) -> list[Trajectory]:
        first = turn("", [2], prompt=[1], reward=-1.0)
        second = turn("", [4, 5], prompt=[1, 2, 3])
        return [episode(first, second, problem=problem, score=Score(float(i)), group=name, episode=i) for i in range(2)]

    async def complete(self, prompts: Sequence[Sequence[int]], names: Sequence[str]) -> list[Completion]:
        self.asked += names
        ends = [("length" if len(prompt) == 3 else "stop") for prompt in prompts]
        return [
            Completion(token_ids=[9, len(prompt)], logprobs=[-0.5, -0.25], finish=end, version=7)  # type: ignore[arg-type]
            for prompt, end in zip(prompts, ends, strict=True)
        ]

    def timings(self) -> dict[str, float]:
        return {}


def start(
    folder: Path,
    settings: Replay = SETTINGS,
    rank: tuple[int, int] = (0, 1),
    gather: Gather = lambda groups: groups,
    plays: Plays | None = None,
    chat: Chat | None = None,
) -> ReplaySource:
    context = source_context(plays or Plays(), SUMS, OPTIONS, rank=rank, gather=gather)
    return settings.start(replace(context, folder=folder, chat=chat or context.chat))


def of(rows: Sequence[Sample], origin: str) -> list[Sample]:
    return [row for row in rows if row.origin == origin]


def test_a_step_has_its_episodes_older_ones_and_proposals(tmp_path: Path) -> None:
    source = start(tmp_path)
    rows = source.next(0)
    fresh, replayed, proposals = (of(rows, origin) for origin in ("fresh", "replay", "proposal"))
    assert (len(fresh), len(replayed), len(proposals)) == (4, 3, 5), "6 turns are 3 episodes of 2"
    known = {(row.group, row.episode): row for row in fresh}
    for number, row in enumerate(replayed):
        place, name = row.group.split("/", 2)[1:]
        assert place == str(number)
        assert replace(row, group=name, origin="fresh") == known[name, row.episode]
    for row in proposals:
        prompt = [1] if len(row.token_ids) == 3 else [1, 2, 3]
        assert row.token_ids.tolist() == [*prompt, 9, len(prompt)]
        assert row.turn_ids.tolist() == [-1] * len(prompt) + [0, 0]
        assert row.sampled_logprobs.tolist() == [0.0] * len(prompt) + [-0.5, -0.25]
        assert isnan(row.reward) and row.version == 7  # noqa: PT018
    assert len({row.group for row in rows if row.origin != "fresh"}) == 8
    cut = sum(len(row.token_ids) == 5 for row in proposals) / 5
    wanted = {"replay/turns": 8.0, "replay/episodes": 4.0, "replay/drawn": 3.0, "replay/age": 0.0}
    assert {name: source.metrics[name] for name in wanted} == wanted
    assert source.metrics["replay/proposals_cut"] == cut
    assert len(source.played) == 2


def test_earlier_steps_are_drawn_and_the_oldest_leave(tmp_path: Path) -> None:
    """8 turns are one step's: in the next step all of the first have left; with 16 both steps are drawn."""
    small, large = start(tmp_path / "a"), start(tmp_path / "b", replace(SETTINGS, capacity=16, turns=60))
    for source in (small, large):
        source.next(0)
    assert len(of(small.next(1), "replay")) == 3
    assert small.metrics["replay/age"] == 0.0
    assert len(of(large.next(1), "replay")) == 30
    assert 0.0 < large.metrics["replay/age"] < 1.0


def test_fresh_episodes_can_be_left_out(tmp_path: Path) -> None:
    """The best episode of each group earned 0: its score 1, less 1 in its first turn."""
    rows = start(tmp_path, replace(SETTINGS, fresh=False, proposals=0, quantile=0.6)).next(0)
    assert {row.origin for row in rows} == {"replay"}
    assert {row.reward for row in rows} == {0.0}


def test_every_step_draws_anew(tmp_path: Path) -> None:
    """From the same buffer; a step that is taken again draws the same."""
    source = start(tmp_path, replace(SETTINGS, capacity=16, turns=60, proposals=0))
    source.next(0)

    def drawn(step: int) -> list[tuple[str, int]]:
        source.mark()
        rows = [(row.group.split("/", 2)[2], row.episode) for row in of(source.next(step), "replay")]
        source.rewind()
        return rows

    assert drawn(1) == drawn(1) != drawn(2)


@dataclass
class Unlike(Plays):
    """Problems whose prompts and returns are unlike: of problem n episodes earn 10 n and 10 n + 1."""

    async def run_group(self, problem: Problem, name: str, prefix_ids: Sequence[int] = ()) -> list[Trajectory]:
        number = int(problem.id[1:])
        said = turn("", [2], prompt=[number])
        return [episode(said, problem=problem, score=Score(10.0 * number + i), group=name, episode=i) for i in range(2)]


@pytest.mark.parametrize("of", ["all", "prompt"])
def test_a_quantile_is_one_of_all_returns_or_of_each_prompt_s_own(tmp_path: Path, of: Any) -> None:
    settings = replace(SETTINGS, fresh=False, proposals=0, quantile=0.6, quantile_of=of, turns=60)
    rewards = {row.reward for row in start(tmp_path, settings, plays=Unlike()).next(0)}
    if of == "prompt":
        assert {reward % 10 for reward in rewards} == {1.0}
        assert len(rewards) == 2
    else:
        assert len({reward // 10 for reward in rewards}) == 1


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_the_work_and_have_the_same_samples(tmp_path: Path, ranks: int) -> None:
    aio.background()  # here every rank is a thread
    alone = start(tmp_path / "alone")
    wanted = [alone.next(step) for step in range(3)]
    asked: list[list[str]] = []

    def run(rank: tuple[int, int], gather: Gather) -> Any:
        plays = Plays()
        source = start(tmp_path / "ranks", rank=rank, gather=gather, plays=plays)
        rows = [source.next(step) for step in range(3)]
        asked.append(plays.asked)
        return rows

    for rows in on_ranks(ranks, run):
        assert [[row.token_ids.tolist() for row in step] for step in rows] == [
            [row.token_ids.tolist() for row in step] for step in wanted
        ]
        assert [[row.group for row in step] for step in rows] == [[row.group for row in step] for step in wanted]
    assert sorted(name for names in asked for name in names) == sorted(
        f"proposal/{s}/{i}" for s in range(3) for i in range(5)
    )
    files = sorted(path.name for path in (tmp_path / "ranks" / "replay").iterdir())
    assert files == [f"step-00000{step}.safetensors" for step in range(3)]


def test_a_resumed_source_goes_on_as_it_would_have(tmp_path: Path) -> None:
    settings = replace(SETTINGS, capacity=20, turns=10)
    source = start(tmp_path, settings)
    for step in range(2):
        source.next(step)
    state = json.loads(json.dumps(source.state()))
    wanted = [shown(source.next(step)) for step in (2, 3)]
    again = start(tmp_path, settings)
    again.restore(state)
    assert [shown(again.next(step)) for step in (2, 3)] == wanted


def test_a_step_that_is_dropped_is_given_again(tmp_path: Path) -> None:
    source = start(tmp_path)
    source.next(0)
    source.mark()
    first, turns = shown(source.next(1)), source.buffer.turns
    source.rewind()
    assert shown(source.next(1)) == first
    assert source.buffer.turns == turns


def shown(rows: Sequence[Sample]) -> list[dict[str, Any]]:
    """Samples as values that compare, NaN included."""
    return [{**row.as_dict(), "reward": str(row.reward)} for row in rows]


@pytest.mark.parametrize("of", [Asynchronous(), Replay(), Offline(path="rows.jsonl")], ids=lambda of: type(of).__name__)
def test_it_remembers_what_is_played_in_the_step(of: Any) -> None:
    with pytest.raises(ValueError, match="of: source"):
        Replay(of=of)


@pytest.mark.parametrize(
    ("options", "error"),
    [({"capacity": 0}, "capacity 0"), ({"turns": -1}, "turns -1"), ({"quantile": 1.0}, "quantile 1.0")],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Replay(**options)


def logged(folder: Path, *trajectories: Trajectory) -> str:
    """The folder of a run whose log has these episodes."""
    Logs(folder, writes=True, share=1.0).rollouts(0, [list(trajectories)], [])
    return str(folder)


def test_episodes_of_earlier_runs_are_remembered(tmp_path: Path, tiny_model_dir: Path) -> None:
    """Two runs have groups of one name, which stay apart; an episode that nobody scored is not remembered."""
    chat = Chat(load_tokenizer(tiny_model_dir))
    ids = {text: chat.tokenizer.encode(text) for text in ("no", "yes")}
    first, second = (
        episode(turn(text, ids[text], prompt=[7, 8]), score=Score(1.0), group="0") for text in ("no", "yes")
    )
    broken = replace(first, score=Score(None, "error"))
    runs = [logged(tmp_path / "a", first), logged(tmp_path / "b", second, broken)]
    settings = replace(SETTINGS, earlier=runs, capacity=12, turns=60, proposals=0)
    source = start(tmp_path / "run", settings, chat=chat)
    assert [(kept.samples[0].group, kept.samples[0].token_ids.tolist()) for kept in source.buffer.episodes] == [
        ("earlier/0/0", [7, 8, *ids["no"]]),
        ("earlier/1/0", [7, 8, *ids["yes"]]),
    ]
    replayed = of(source.next(0), "replay")
    assert {row.group.split("/", 2)[2] for row in replayed} >= {"earlier/0/0", "earlier/1/0"}
    assert source.buffer.turns == 10, "two of earlier runs, four episodes of two turns"
    again = start(tmp_path / "run", settings, chat=chat)
    saved = json.loads(json.dumps(source.state()))
    again.restore(saved)
    assert again.next(1) == source.next(1)
    assert not any("earlier" in kept.samples[0].group for kept in source.buffer.episodes), "the oldest have left"
    with pytest.raises(CheckpointError, match="earlier: holds other episodes"):
        start(tmp_path / "run", replace(settings, earlier=runs[:1]), chat=chat).restore(saved)


def test_episodes_of_an_earlier_run_that_are_too_long_are_told(
    tmp_path: Path, tiny_model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run of which none is short enough is refused, one of which some are is used."""
    chat = Chat(load_tokenizer(tiny_model_dir))
    long, short = (
        episode(turn(text, chat.tokenizer.encode(text), prompt=[7]), score=Score(1.0), group=group)
        for text, group in (("yes " * OPTIONS.max_completion_length, "0"), ("yes", "1"))
    )
    some = logged(tmp_path / "some", long, short)
    source = start(tmp_path / "run", replace(SETTINGS, earlier=[some]), chat=chat)
    assert [kept.samples[0].group for kept in source.buffer.episodes] == ["earlier/0/1"]
    assert "1 of 2 episodes left out (answer longer than rollout.max_completion_length: 1)" in caplog.text
    none = logged(tmp_path / "none", long)
    with pytest.raises(DataError, match="1 of 1 episodes left out"):
        start(tmp_path / "other", replace(SETTINGS, earlier=[none]), chat=chat)


def test_an_earlier_run_that_is_not_there_is_named(tmp_path: Path, tiny_model_dir: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        start(
            tmp_path,
            replace(SETTINGS, earlier=[str(tmp_path / "nowhere")]),
            chat=Chat(load_tokenizer(tiny_model_dir)),
        )
