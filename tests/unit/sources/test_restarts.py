from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from llmrl import aio
from llmrl.algorithms.grpo import GRPO
from llmrl.chat import Chat
from llmrl.engines.scripted import ScriptedEngine
from llmrl.errors import DataError
from llmrl.recipe import RolloutOptions
from llmrl.rollout.context import Groups
from llmrl.rollout.cuts import LineCuts, Snapshot
from llmrl.rollout.restarts import RestartSampler, restart_metrics
from llmrl.rollout.sampler import Draw
from llmrl.rollout.samples import to_samples
from llmrl.rollout.source import RolloutSource
from llmrl.rollout.worker import RolloutWorker
from llmrl.run_folder.writer import Logs
from llmrl.sources.restarts import Restarts, read
from llmrl.tiny import make_tokenizer
from llmrl.types import Completion, Sampling, Score, Trajectory, Turn
from tests.builders import SUMS, Gather, Grader, on_ranks, scripted_worker, some, source_context

OPTIONS = RolloutOptions(prompts_per_step=4, num_generations=2, max_completion_length=24)
TOKENIZER = make_tokenizer()
CHAT = Chat(TOKENIZER)
EVEN = Grader(lambda one: one.text.count("x") % 2 == 0)
"""Right where the whole text, prefix included, has an even number of letters x."""


def lines(_prompt: str, sampling: Sampling) -> str:
    assert sampling.seed is not None
    return "ab\nc" + "x" * (sampling.seed % 4) + "\ndone"


def speaker(replies: Any = lines, options: RolloutOptions = OPTIONS) -> RolloutWorker:
    return scripted_worker(CHAT, replies, EVEN, options)


def start(
    player: RolloutWorker,
    settings: Restarts | None = None,
    rank: tuple[int, int] = (0, 1),
    gather: Callable[[Groups], Groups] = lambda groups: groups,
) -> RolloutSource:
    return (settings or Restarts()).start(source_context(player, SUMS, player.options, rank=rank, gather=gather))


def sampler(source: RolloutSource) -> RestartSampler:
    assert isinstance(source.sampler, RestartSampler)
    return source.sampler


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def began(source: RolloutSource) -> list[str]:
    """The names of the step's restarts."""
    return [group[0].group for group in source.played if group[0].group.startswith("r")]


# The player


def test_only_what_was_said_anew_is_learned_from() -> None:
    player, prefix = speaker(("fghij",)), ids("ab\nc")
    prompt = len(CHAT.prompt_ids(SUMS[0].messages))
    group = aio.wait(player.run_group(SUMS[0], "r0/p0@4", prefix))
    (row,) = to_samples(group[0])
    assert row.action_mask.tolist() == [False] * prompt + [False] * 4 + [True] * 6, "5 letters and the end"
    assert row.token_ids[prompt : prompt + 4].tolist() == prefix
    assert row.sampled_logprobs.tolist() == [0.0] * (prompt + 4) + [-1.0] * 6
    assert group[0].text == "ab\ncfghij", "who judges reads the whole answer"
    calls = cast(ScriptedEngine, player.engine).calls
    assert all(asked[-4:] == prefix and sampling.max_tokens == 24 - 4 for asked, sampling in calls)


def test_lines_end_where_tokens_do() -> None:
    said = ids("ab\n\nc\nd")
    assert [CHAT.text(said[:end]) for end in CHAT.line_ends(said)] == ["ab\n", "ab\n\n", "ab\n\nc\n"]
    assert CHAT.line_ends(ids("no end")) == []


# What is begun from


def test_the_first_step_has_nothing_to_go_on_from_and_later_ones_do() -> None:
    source = start(speaker(), Restarts(share=0.5, decay_steps=10))
    source.next(0)
    assert began(source) == []
    assert source.metrics["restarts/snapshots"] == 0
    kept = list(sampler(source).snapshots)
    assert len(kept) == 8, "each answer of each group, right or wrong"
    rows_ = source.next(1)
    assert len(began(source)) == 2
    assert len({row.group for row in rows_}) == 4
    for group in source.played:
        if group[0].group in began(source):
            length = int(group[0].group.partition("@")[2])
            (prefix,) = {tuple(one.turns[0].prompt_ids[-length:]) for one in group}
            assert CHAT.text(prefix).endswith("\n")
            assert (group[0].problem.id, prefix) in {(one.problem, one.prefix_ids) for one in kept}
    assert sampler(source).outstanding == {}


def test_only_answers_from_the_prompt_are_remembered() -> None:
    """A continuation alone is no prefix of anything."""
    source = start(speaker(lambda prompt, _: "zz\nz" if prompt.endswith("\n") else "ab\nc"))
    for step in range(3):
        source.next(step)
    assert source.metrics["restarts/frac"] == 0.5
    assert {CHAT.text(one.prefix_ids) for one in sampler(source).snapshots} == {"ab\n"}


def test_a_prefix_leaves_something_to_say() -> None:
    source = start(speaker(("a" * 23 + "\nb",)))  # its line ends where the limit of 24 tokens cuts it off
    source.next(0)
    assert sampler(source).snapshots == []


def test_the_share_falls_to_nothing() -> None:
    settings = Restarts(share=0.5, decay_steps=8)
    assert [settings.share_at(step) for step in (0, 4, 8, 20)] == [0.5, 0.25, 0.0, 0.0]
    source = start(speaker(), settings)
    counts = []
    for step in range(10):
        source.next(step)
        counts.append(len(began(source)))
    # round(0.5 * (1 - step / 8) * 4), and nothing to begin from in the first step
    assert counts == [0, 2, 2, 1, 1, 1, 0, 0, 0, 0]
    assert sampler(source).snapshots == [], "nothing is kept that nobody will use"


def test_the_stream_of_fresh_problems_loses_nobody() -> None:
    source = start(speaker(), Restarts(share=0.5, decay_steps=100))
    names: list[str] = []
    for step in range(4):
        source.next(step)
        names += [group[0].group for group in source.played if group[0].group not in began(source)]
    assert [int(name.partition("/")[0]) for name in names] == list(range(len(names)))


def test_continuations_are_compared_with_each_other_only() -> None:
    source = start(speaker(), Restarts(share=0.5, decay_steps=100))
    source.next(0)
    learned = GRPO(scale_rewards="none").credit(source.next(1))
    for name in some({row.group for row in learned}):
        group = [row for row in learned if row.group == name]
        assert sum(row.advantages[-1] for row in group) == pytest.approx(0.0)
        prefixes = {tuple(row.token_ids[: row.action_mask.argmax()].tolist()) for row in group}
        assert len(prefixes) == 1, "one prompt and one prefix"


def test_a_state_is_worth_what_came_of_it() -> None:
    player = speaker(("x",))
    source = start(player, Restarts(share=1.0, decay_steps=1000, max_snapshots=1))
    sampler(source).snapshots = [Snapshot("p1", tuple(ids("ab\n")), 0.5)]
    source.next(0)
    assert [one.value for one in sampler(source).snapshots] == [0.0], "all that went on from it were wrong"
    assert source.metrics["restarts/value"] == 0.5, "what it was worth when it was drawn"


def test_at_most_so_many_are_kept_the_newest() -> None:
    source = start(speaker(), Restarts(max_snapshots=5))
    source.next(0)
    first = list(sampler(source).snapshots)
    source.next(1)
    assert len(first) == len(sampler(source).snapshots) == 5
    assert sampler(source).snapshots != first


def test_the_newest_are_kept() -> None:
    places = [Snapshot("p1", tuple(range(length)), 0.5) for length in range(1, 6)]
    source = start(speaker(), Restarts(max_snapshots=5))
    made = sampler(source)
    kept = RestartSampler(made._fresh, made._cuts, share=lambda _: 1.0, max_snapshots=2, snapshots=places[:3])
    assert kept.snapshots == places[1:3]
    kept._keep(places[3:4])
    assert kept.snapshots == places[2:4]


def test_a_continuation_that_was_cut_off_early_is_not_called_wrong() -> None:
    def cut(limit: int | None) -> tuple[list[Any], RolloutSource]:
        player = speaker(("x" * 60,))
        source = start(player, Restarts(share=1.0, decay_steps=1000, max_continuation_length=limit))
        sampler(source).snapshots = [Snapshot("p1", tuple(ids("ab\n")), 0.5)]
        samples = source.next(0)
        asked.append({sampling.max_tokens for _, sampling in cast(ScriptedEngine, player.engine).calls})
        return samples, source

    asked: list[set[int]] = []
    rows_, source = cut(5)
    assert rows_ == []
    assert sampler(source).snapshots == [Snapshot("p1", tuple(ids("ab\n")), 0.5)], "it was worth no less for that"
    assert asked == [{5}]
    rows_, source = cut(None)
    assert len(rows_) == 8
    assert all(row.truncated for row in rows_), "as long as any answer may be"
    assert len(cut(21)[0]) == 8, "3 + 21 tokens: as long as any answer may be, too"


# Resume and ranks


def test_a_restored_source_goes_on_as_if_nothing_had_happened() -> None:
    settings = Restarts(share=0.6, decay_steps=12)
    through = start(speaker(), settings)
    whole = [through.next(step) for step in range(6)]
    before = start(speaker(), settings)
    for step in range(3):
        before.next(step)
    after = start(speaker(), settings)
    after.restore(json.loads(json.dumps(before.state())))
    assert [after.next(step) for step in range(3, 6)] == whole[3:]
    assert after.state() == through.state()


def test_ranks_agree() -> None:
    def run(rank: tuple[int, int], gather: Gather) -> list[Any]:
        source = start(speaker(), Restarts(decay_steps=12), rank, gather)
        return [[source.next(step), source.state()] for step in range(4)]

    aio.background()
    try:
        alone, both = on_ranks(1, run), on_ranks(2, run)
    finally:
        aio.foreground()
    assert both[0] == both[1] == alone[0]


# Another run's rollouts


def rollouts(folder: Path, source: RolloutSource, tokens_mb: float = 1.0) -> Path:
    Logs(folder, writes=True, share=1.0, tokens_mb=tokens_mb).rollouts(0, source.played, [])
    return folder / "rollouts.jsonl"


@pytest.mark.parametrize("tokens_mb", [1.0, 0.0], ids=["tokens", "texts"])
def test_another_runs_rollouts_are_a_beginning(tmp_path: Path, tokens_mb: float) -> None:
    teacher = start(speaker())
    teacher.next(0)
    path = rollouts(tmp_path, teacher, tokens_mb)
    source = start(speaker(), Restarts(rollouts=str(path)))
    assert sampler(source).snapshots == sampler(teacher).snapshots, "the byte tokenizer encodes what it decoded"
    source.next(0)
    assert len(began(source)) == 2


@pytest.mark.parametrize(
    ("said", "text", "prefix"),
    [
        ([*ids("ab"), TOKENIZER.unk_token_id, *ids("\nc")], "ab\nc", [*ids("ab"), TOKENIZER.unk_token_id, *ids("\n")]),
        (ids("xc"), "ab\nxc", ids("ab\n")),  # the answer went on from a prefix
        ([1, 2, 3], "ab\nc", ids("ab\n")),  # of another tokenizer
        ([], "ab\nc", ids("ab\n")),  # not logged
    ],
)
def test_logged_tokens_are_taken_where_they_say_the_text(
    tmp_path: Path, said: list[int], text: str, prefix: list[int]
) -> None:
    completion = Completion(token_ids=said, logprobs=[-1.0] * len(said), finish="stop", version=0)
    turn = Turn(prompt_ids=[7], completion=completion, text=text)
    played = Trajectory(problem=SUMS[0], turns=[turn], status="done", score=Score(0.0, "wrong"), group="0/p0")
    Logs(tmp_path, writes=True, share=1.0).rollouts(0, [[played]], [])
    known = {problem.id: problem for problem in SUMS}
    assert read(tmp_path / "rollouts.jsonl", known, CHAT, LineCuts(CHAT, 24, None, 0)) == [
        Snapshot("p0", tuple(prefix), 0.0)
    ]


def old_line(**changes: Any) -> str:
    """A line of `rollouts.jsonl` as version 0.1.0 wrote it."""
    turn = {"text": "a\nb", "reply": [], "reward": 0.0}
    line = {
        "step": 0,
        "problem": "p1",
        "group": "0/p1",
        "episode": 0,
        "status": "done",
        "prompt": [],
        "turns": [turn],
        "tokens": 4,
        "truncated": False,
        "version": 0,
        "reward": 1.0,
        "verdict": None,
        "parts": {},
        "reason": "",
        "advantage": 0.0,
    }
    return json.dumps(line | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "not json",
            r"source\.rollouts: .*mine\.jsonl:1: not JSON: .*expected what .* its rollouts\.jsonl",
        ),
        ('{"a": 1}', r"mine\.jsonl:1: no '\w+' in it; expected"),
        (
            old_line(problem="z"),
            r"problem z is not in this run's data",
        ),
        (
            old_line(turns=[{"text": "ab", "reply": [], "reward": 0.0}]),
            r"no judged answer has a line to begin after; leave it out",
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        start(speaker(), Restarts(rollouts=str(tmp_path / "mine.jsonl")))
    with pytest.raises(DataError, match=r"source\.rollouts: .*none\.jsonl: no such file; expected"):
        start(speaker(), Restarts(rollouts=str(tmp_path / "none.jsonl")))


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\]"):
        Restarts(share=1.5)
    with pytest.raises(ValueError, match="max_continuation_length must be at least 1"):
        Restarts(max_continuation_length=0)
    with pytest.raises(DataError, match="no problems"):
        Restarts().start(source_context(speaker(), [], OPTIONS))


def test_metrics_tell_where_success_came_from() -> None:
    def group(name: str, verdicts: str) -> list[Trajectory]:
        score = {"r": Score(1.0, "correct"), "w": Score(0.0, "wrong"), "c": Score(0.0, "truncated")}
        return [
            Trajectory(
                problem=SUMS[0], turns=[], status="max_tokens" if v == "c" else "done", score=score[v], group=name
            )
            for v in verdicts
        ]

    fresh = [(Draw(name, SUMS[0]), group(name, verdicts)) for name, verdicts in (("0/p0", "rwww"), ("1/p2", "wwww"))]
    again = Draw("r0/p1@3", SUMS[0], (1, 2, 3), 9), group("r0/p1@3", "rrrw")
    began = {"r0/p1@3": Snapshot("p1", (1, 2, 3), 0.25)}
    expected = {
        "restarts/frac": pytest.approx(1 / 3),
        "restarts/accuracy": 0.75,
        "restarts/fresh_accuracy": 0.125,
        "restarts/success_share": 0.75,
        "restarts/prefix_length": 3.0,
        "restarts/value": 0.25,
        "restarts/cut": 0.0,
    }
    assert restart_metrics([fresh[0], again, fresh[1]], began) == expected
    cut = again[0], [*again[1], *group("r0/p1@3", "cccc")]
    assert restart_metrics([fresh[0], cut, fresh[1]], began) == expected | {"restarts/cut": 0.5}, "no failures"
    none = again[0], group("r0/p1@3", "cc")
    assert "restarts/accuracy" not in restart_metrics([*fresh, none], began), "nothing was judged"


def test_what_only_a_restart_cut_off_does_not_make_a_group_informative() -> None:
    """The answers that end are all right; the others would have gone on, so that nothing differs."""

    def short_or_cut(_prompt: str, sampling: Sampling) -> str:
        assert sampling.seed is not None
        return "x" * 60 * (sampling.seed // 2 % 2)

    settings = Restarts(share=1.0, dynamic_sampling=True, max_refills=0, max_continuation_length=5)
    source = start(speaker(short_or_cut), settings)
    sampler(source).snapshots = [Snapshot("p1", tuple(ids("ab\n")), 0.5)]
    assert source.next(0) == []
    assert [episode.truncated for episode in source.played[0]] == [False, True]
