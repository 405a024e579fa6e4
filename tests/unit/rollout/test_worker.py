from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from llmrl.aio import wait
from llmrl.chat import Chat
from llmrl.engines.scripted import Reply, ScriptedEngine
from llmrl.envs.single_turn import SingleTurn
from llmrl.errors import DataError, RewardError
from llmrl.recipe import RolloutOptions
from llmrl.rollout.samples import to_samples
from llmrl.rollout.worker import RolloutWorker, Stopwatch, check_errors
from llmrl.tiny import make_tokenizer
from llmrl.types import Message, Observation, Problem, Score, Status, Trajectory, Verdict
from tests.builders import scripted_worker

PROBLEM = Problem(id="sum", messages=[{"role": "user", "content": "1+1="}], answer="2")
TOKENIZER = make_tokenizer()
END = TOKENIZER.eos_token_id


@dataclass
class Judge:
    """1.0 for the words "right", else 0.0; remembers what it saw."""

    say: Callable[[Trajectory], Score] = lambda one: Score(float(one.text == "right"))
    seen: list[str] = field(default_factory=list)

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        self.seen += [one.text for one in group]
        return [self.say(one) for one in group]

    def latencies(self) -> dict[str, list[float]]:
        return {}


@dataclass
class Asker:
    """Shows the problem, answers each message with `replies[i]`, and is done after the last; counts what happens."""

    problem: Problem
    replies: Sequence[str] = ()
    broken: str = ""  # the method that raises
    log: list[str] = field(default_factory=list)

    def _note(self, what: str) -> None:
        self.log.append(what)
        if what == self.broken:
            raise OSError(f"{what} broke")

    async def reset(self) -> Observation:
        self._note("reset")
        return Observation(messages=self.problem.messages)

    async def step(self, message: Message) -> Observation:
        turn = self.log.count("step")
        self._note("step")
        if turn == len(self.replies):
            return Observation(reward=0.25, done=True)
        return Observation(messages=[{"role": "user", "content": self.replies[turn]}], reward=0.5)

    async def close(self) -> None:
        self._note("close")


@dataclass
class Asks:
    replies: Sequence[str] = ()
    broken: str = ""
    made: list[Asker] = field(default_factory=list)

    def make(self, problem: Problem) -> Asker:
        if self.broken == "make":
            raise OSError("make broke")
        self.made.append(Asker(problem, self.replies, self.broken))
        return self.made[-1]


def player(
    env: Any, replies: Sequence[str] | Reply = ("right",), judge: Judge | None = None, **options: Any
) -> RolloutWorker:
    settings = RolloutOptions(**{"num_generations": 2, "prompts_per_step": 1} | options)
    return scripted_worker(Chat(TOKENIZER), replies, judge or Judge(), settings, env)


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


# One turn


def test_one_question_one_answer() -> None:
    one = wait(player(SingleTurn()).run_episode(PROBLEM, "0/sum", 3))
    assert (one.status, one.text, one.group, one.episode) == ("done", "right", "0/sum", 3)
    assert list(one.turns[0].prompt_ids) == ids("<|user|>1+1=<|end|><|assistant|>")
    assert list(one.turns[0].completion.token_ids) == [*ids("right"), END]
    assert not one.truncated


def test_a_group_is_scored_together_and_in_order() -> None:
    judge = Judge()
    answers = {0: "right", 1: "wrong", 2: "right"}
    count = iter(range(3))
    group = wait(
        player(SingleTurn(), lambda *_: answers[next(count)], judge, num_generations=3).run_group(PROBLEM, "0/sum")
    )
    assert [one.score.value for one in group if one.score] == [1.0, 0.0, 1.0]
    assert [one.episode for one in group] == [0, 1, 2]
    assert judge.seen == ["right", "wrong", "right"]


def test_seeds_depend_on_group_episode_and_turn_alone() -> None:
    def seeds(run: RolloutWorker, group: str) -> list[int | None]:
        wait(run.run_group(PROBLEM, group))
        assert isinstance(run.engine, ScriptedEngine)
        return [sampling.seed for _, sampling in run.engine.calls]

    first = seeds(player(Asks(["go on"]), max_turns=2), "0/sum")
    assert len(set(first)) == 4, "two episodes of two turns"
    assert all(seed is not None and 0 <= seed < 2**31 for seed in first)
    assert seeds(player(Asks(["go on"]), max_turns=2), "0/sum") == first
    assert not set(seeds(player(Asks(["go on"]), max_turns=2), "1/sum")) & set(first)


def test_the_settings_reach_the_engine() -> None:
    run = player(SingleTurn(), temperature=0.7, top_p=0.9, top_k=5, min_p=0.1, max_completion_length=32)
    wait(run.run_episode(PROBLEM, "g", 0))
    assert isinstance(run.engine, ScriptedEngine)
    asked = run.engine.calls[0][1]
    assert (asked.temperature, asked.top_p, asked.top_k, asked.min_p, asked.max_tokens) == (0.7, 0.9, 5, 0.1, 32)


def test_a_cut_answer_is_truncated_rather_than_wrong() -> None:
    def verdict(kind: Verdict) -> Verdict | None:
        judge = Judge(lambda _: Score(0.0, kind))
        one = wait(player(SingleTurn(), ("a long answer",), judge, max_completion_length=4).run_group(PROBLEM, "g"))[0]
        assert one.text == "a lo"
        assert one.score is not None
        assert one.score.value == 0.0
        return one.score.verdict

    assert verdict("wrong") == verdict("unparsable") == "truncated"
    assert verdict("correct") == "correct"
    assert verdict("timeout") == "timeout"


def test_a_prompt_that_is_too_long_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"problem sum: its prompt has 7 tokens, rollout.max_prompt_length is 6; raise"):
        wait(player(SingleTurn(), max_prompt_length=6).run_group(PROBLEM, "0/sum"))
    wait(player(SingleTurn(), max_prompt_length=7).run_group(PROBLEM, "0/sum"))


def test_what_the_environment_shows_first_is_kept() -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]

    class Shows(Asker):
        async def reset(self) -> Observation:
            return Observation(messages=[{"role": "user", "content": "2+2="}], tools=tools)

    class Factory(Asks):
        def make(self, problem: Problem) -> Asker:
            return Shows(problem)

    one = wait(player(Factory()).run_episode(PROBLEM, "g", 0))
    assert (one.shown, one.tools) == ([{"role": "user", "content": "2+2="}], tools)
    broken = wait(player(Asks(broken="reset")).run_episode(PROBLEM, "g", 0))
    assert (broken.shown, broken.tools) == (None, ())


# Several turns


def test_turns_whose_prompts_extend_each_other_are_one_row() -> None:
    one = wait(
        player(Asks(["sure?"]), lambda seen, _: "right" if "sure?" in seen else "maybe", max_turns=3).run_group(
            PROBLEM, "g"
        )
    )[0]
    assert [turn.text for turn in one.turns] == ["maybe", "right"]
    first, second = one.turns
    assert list(second.prompt_ids[: len(first.prompt_ids) + 6]) == [*first.prompt_ids, *first.completion.token_ids]
    assert list(second.prompt_ids[len(first.prompt_ids) + 6 :]) == ids("<|user|>sure?<|end|><|assistant|>")
    assert [turn.reward for turn in one.turns] == [0.5, 0.25]
    made = to_samples(one)
    assert len(made) == 1
    assert made[0].token_ids.tolist() == [*second.prompt_ids, *second.completion.token_ids]
    assert made[0].turn_rewards == [0.5, 0.25]


def test_limits_end_an_episode() -> None:
    def status(env: Asks, replies: Sequence[str], **options: Any) -> tuple[Status, int]:
        one = wait(player(env, replies, **options).run_episode(PROBLEM, "g", 0))
        assert env.made[0].log[-1] == "close"
        return one.status, len(one.turns)

    assert status(Asks(["a", "b"]), ["x"], max_turns=2) == ("max_turns", 2)
    assert status(Asks(["a", "b"]), ["x"], max_turns=3) == ("done", 3)
    assert status(Asks(["a", "b"]), ["a long answer"], max_turns=3, max_completion_length=4) == ("max_tokens", 1)
    # Each prompt grows by "x" and its end, and by 4 tokens around a reply of one: 7, 13, 19; room for 7 + 3 * 2 + 2 * 3
    room = {"max_turns": 3, "max_prompt_length": 7, "max_completion_length": 2}
    assert status(Asks(["a", "b"]), ["x"], **room, max_reply_length=4) == ("done", 3)
    assert status(Asks(["a", "b"]), ["x"], **room, max_reply_length=3) == ("max_tokens", 2)
    assert status(Asks(["a" * 30, "b"]), ["x"], **room, max_reply_length=4) == ("max_tokens", 1)


def test_an_episode_that_its_environment_cut_off_is_not_done() -> None:
    class Impatient(Asker):
        async def step(self, message: Message) -> Observation:
            return Observation(reward=0.5, done=True, cut=len(message["content"]) > 3)

    class Factory(Asks):
        def make(self, problem: Problem) -> Asker:
            return Impatient(problem)

    cut, done = (wait(player(Factory(), (said,)).run_group(PROBLEM, "g"))[0] for said in ("a long answer", "no"))
    assert (cut.status, cut.cut_off, done.status, done.cut_off) == ("cut", True, "done", False)


def test_a_turn_that_is_too_long_may_be_answered() -> None:
    env = Asks(["sure?"])
    run = player(env, ["a long answer"], max_turns=3, max_completion_length=4, overlong_turns="answer")
    trajectory = wait(run.run_group(PROBLEM, "g"))[0]
    assert (trajectory.status, [turn.text for turn in trajectory.turns]) == ("done", ["a lo", "a lo"])
    (row,) = to_samples(trajectory)
    behind = row.turn_ids.tolist().index(0) + 4
    assert (row.turn_ids[behind], row.token_ids[behind]) == (-1, END), "the end of the turn is given, not sampled"
    assert (row.turn_ids == 0).sum() == (row.turn_ids == 1).sum() == 4


def test_the_stopwatch_counts_scores_only_while_nobody_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("llmrl.rollout.stopwatch.time.perf_counter", lambda: now)
    watch = Stopwatch()
    with watch.during("generate"):
        now = 3.0
        with watch.during("generate"), watch.during("score"):
            now = 4.0
    now = 10.0  # nothing goes on
    with watch.during("score"):
        now = 12.0
        assert watch.read() == {"generate": 4.0, "score": 2.0}
        now = 12.5
        with watch.during("generate"):
            now = 15.0
    assert watch.read() == {"generate": 2.5, "score": 0.5}
    assert watch.read() == {"generate": 0.0, "score": 0.0}


def test_a_group_is_timed_as_played_and_then_as_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("llmrl.rollout.stopwatch.time.perf_counter", lambda: now)

    def later(seconds: float) -> None:
        nonlocal now
        now += seconds

    class Slow(SingleTurn):
        def make(self, problem: Problem) -> Any:
            later(1.0)
            return super().make(problem)

    def judged(_: Trajectory) -> Score:
        later(5.0)
        return Score(1.0)

    run = player(Slow(), judge=Judge(judged), num_generations=2)
    wait(run.run_group(PROBLEM, "g"))
    assert run.stopwatch.read() == {"generate": 2.0, "score": 10.0}


# What breaks


@pytest.mark.parametrize("broken", ["make", "reset", "step"])
def test_an_environment_that_breaks_costs_its_episode_only(broken: str) -> None:
    one = wait(player(Asks(broken=broken), max_error_share=1.0).run_group(PROBLEM, "0/sum"))[0]
    assert one.status == "error"
    assert one.reason == f"OSError: {broken} broke"
    assert one.score == Score(None, "error", reason=one.reason)
    assert to_samples(one) == []


def test_siblings_of_a_broken_episode_are_scored() -> None:
    @dataclass
    class Sometimes:
        made: int = 0

        def make(self, problem: Problem) -> Asker:
            self.made += 1
            return Asker(problem, broken="step" if self.made == 1 else "")

    judge = Judge()
    group = wait(player(Sometimes(), judge=judge, num_generations=3).run_group(PROBLEM, "g"))
    assert [one.status for one in group] == ["error", "done", "done"]
    assert [one.score.value if one.score else "none" for one in group] == [None, 1.0, 1.0]
    assert judge.seen == ["right", "right"], "an episode that broke is never judged"


def test_a_reward_that_loses_count_is_refused() -> None:
    class Short(Judge):
        async def score(self, group: Sequence[Trajectory]) -> list[Score]:
            return [Score(1.0)]

    with pytest.raises(RewardError, match=r"problem sum: the reward gave 1 scores for 2 episodes"):
        wait(player(SingleTurn(), judge=Short()).run_group(PROBLEM, "g"))


def scored(*values: float | None) -> list[Trajectory]:
    return [
        Trajectory(
            problem=PROBLEM, turns=[], status="done", score=Score(value, None if value else "timeout", reason="slow")
        )
        for value in values
    ]


def test_errors_up_to_the_allowed_share_are_borne() -> None:
    check_errors(scored(1.0, 1.0, 1.0, None), 0.25)
    check_errors([], 0.0)
    with pytest.raises(RewardError, match=r"2 of 4 episodes could not be scored, above rollout.max_error_share 0.25"):
        check_errors(scored(1.0, None, None, 1.0), 0.25)
    with pytest.raises(RewardError, match=r"1 of 1 .*problem sum: timeout: slow"):
        check_errors(scored(None), 0.0)
