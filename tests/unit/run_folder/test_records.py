"""Lines of the logs as values: what is read is what was played."""

from __future__ import annotations

import json
import math
import random
import struct
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from llmrl.run_folder.records import EpisodeRecord, StepRecord, step_of
from llmrl.run_folder.token_numbers import short_floats
from llmrl.types import Completion, Problem, Score, Trajectory, Turn

MESSAGES = [{"role": "user", "content": "é? 1+1="}]
TOOLS = [{"type": "function", "function": {"name": "add"}}]
SCORE = Score(
    1 / 3,
    "correct",
    {"numeric": 0.1 + 0.2, "format": None},
    steps=[0.5, -0.0],
    step_ends=[3, 9],
    token_rewards=[1e-17, 2.0],
    reason="read 2",
    answer="2",
)


def turn(prompt: Sequence[int], said: Sequence[int], logprobs: Sequence[float], **options: Any) -> Turn:
    """A turn with its columns as engines give them."""
    reply, reward = options.pop("reply", []), options.pop("reward", 0.0)
    columns: dict[str, Any] = {"token_ids": array("i", said), "logprobs": array("f", logprobs)}
    completion = Completion(**columns | {"finish": "stop", "version": 3} | options)
    return Turn(prompt_ids=array("i", prompt), completion=completion, text="2 é\n", reply=reply, reward=reward)


def played(*turns: Turn, **changes: Any) -> Trajectory:
    problem = Problem(id="p/1", messages=MESSAGES, answer="2")
    whole: dict[str, Any] = {"status": "done", "score": SCORE, "group": "4/p/1", "episode": 1, "shown": MESSAGES}
    return Trajectory(problem=problem, turns=list(turns), **whole | changes)


def record(one: Trajectory, **changes: Any) -> EpisodeRecord:
    tokens = sum(len(turn.completion.token_ids) for turn in one.turns)
    return EpisodeRecord(step=7, trajectory=one, tokens=tokens, advantage=-1.5, **changes)


def over(given: EpisodeRecord, **how: Any) -> EpisodeRecord:
    """The record after it was a line."""
    return EpisodeRecord.from_json(json.loads(json.dumps(given.to_json(**how))))


def bits(one: Trajectory) -> list[list[bytes]]:
    return [[bytes(turn.completion.logprobs), bytes(turn.completion.token_ids)] for turn in one.turns]  # type: ignore[arg-type]


FIRST = turn([1, 2], [10, 11], [-0.1, -1e-30], reply=[{"role": "tool", "content": "ok"}], reward=0.1)
SECOND = turn([1, 2, 10, 11, 3], [12], [-math.inf], finish="length", version=5)
REWRITTEN = turn([1, 9], [13, 14], [0.0, -0.0], version=4, versions=array("i", [4, 5]), semantics="renormalised")
EPISODES = {
    "one turn": played(FIRST),
    "a reply, then a history that was rewritten": played(FIRST, SECOND, REWRITTEN, status="max_turns"),
    "cut off": played(SECOND, status="max_tokens"),
    "another prompt than the problem's, and tools": played(FIRST, shown=[*MESSAGES, *MESSAGES], tools=TOOLS),
    "broken before it began": played(
        status="error", reason="OSError: no", score=Score(None, "error", reason="OSError: no"), shown=None
    ),
    "broken, and told otherwise": played(
        FIRST, status="error", reason="OSError: no", score=Score(0.0, "wrong", reason="gave up")
    ),
    "without reference or reason": played(FIRST, score=Score(0.0, None, token_rewards=[])),
    "abstained": played(FIRST, score=Score(None, reason="abstained")),
    "not scored": played(FIRST, score=None, reason="why"),
    "nothing said": played(turn([1], [], [])),
    "of two agents, of which one is an opponent, and a snapshot between their turns": played(
        replace(FIRST, agent="first", snapshot="[]", opened="<think>\n"),
        replace(REWRITTEN, agent="second", model="frozen"),
    ),
    "judged by its environment, which wrote the history anew": played(
        replace(FIRST, whole=True), REWRITTEN, status="cut", verdict="wrong", metrics={"moves": 3.0}
    ),
}

NUMBERS = {"advantages": 0.5, "trainer_gaps": [1e-5, -0.25], "entropies": [0.5, 2.0]}


def test_numbers_of_tokens_come_back_with_the_tokens() -> None:
    given = record(EPISODES["one turn"], token_numbers=[NUMBERS])
    assert over(given) == given
    assert not over(given, with_tokens=False).token_numbers
    two = record(played(FIRST, SECOND), token_numbers=[{}, {"advantages": -1.0}])
    assert over(two) == two
    for bad, words in (([0.5], "2 token_ids and 1 entropies"), (["a", "b"], "entropies is"), (None, "entropies is")):
        line = given.to_json()
        line["turns"][0]["entropies"] = bad
        with pytest.raises((TypeError, ValueError), match=words):
            EpisodeRecord.from_json(line)


@pytest.mark.parametrize("name", EPISODES)
def test_an_episode_comes_back_bit_for_bit(name: str) -> None:
    given = record(EPISODES[name])
    found = over(given)
    assert found.trajectory == given.trajectory
    assert found.trajectory.earned == given.trajectory.earned
    assert bits(found.trajectory) == bits(given.trajectory)
    assert found == given
    assert found.has_tokens
    assert repr(found) == repr(given), "to the sign of a zero"


def test_columns_may_be_lists() -> None:
    lists: Any = {"token_ids": [10, 11], "logprobs": [-0.5, -2.0], "versions": [3, 4]}
    one = replace(FIRST, prompt_ids=[1, 2], completion=replace(FIRST.completion, **lists))
    (found,) = over(record(played(one))).trajectory.turns
    assert (list(found.prompt_ids), list(found.completion.token_ids)) == ([1, 2], [10, 11])
    assert (list(found.completion.logprobs), list(found.completion.versions or ())) == ([-0.5, -2.0], [3, 4])


def test_the_audit_comes_back() -> None:
    audit = Score(0.25, "wrong", reason="looks wrong")
    assert over(record(EPISODES["one turn"], audit=audit)).audit == audit
    assert over(record(EPISODES["one turn"])).audit is None


def test_what_the_keys_mean() -> None:
    line = record(EPISODES["a reply, then a history that was rewritten"]).to_json()
    assert line["reward"] == 1 / 3 + 0.1, "what was earned"
    assert line["value"] == 1 / 3
    first, second, third = line["turns"]
    assert first["prompt_ids"] == [1, 2]
    assert second["observed_ids"] == [3], "only what the environment added"
    assert third["prompt_ids"] == [1, 9], "another history, so the whole prompt"
    assert (second["finish"], second["version"], third["versions"]) == ("length", 5, [4, 5])
    assert "support_ids" not in json.dumps(line)
    assert next(iter(line)) == "step", "readers that drop steps look at the beginning of a line"
    assert step_of(json.dumps(line).encode()) == step_of(json.dumps(line, separators=(",", ":")).encode()) == 7
    assert step_of(b"nonsense") is None


def test_an_episode_without_tokens_keeps_the_rest() -> None:
    given = EPISODES["a reply, then a history that was rewritten"]
    found = over(record(given), with_tokens=False)
    assert not found.has_tokens
    assert (found.tokens, found.trajectory.earned) == (5, given.earned)
    assert found.trajectory.score == replace(SCORE, token_rewards=None)
    columns: Any = {"token_ids": array("i"), "logprobs": array("f"), "versions": None}
    assert found.trajectory.turns == [
        replace(one, prompt_ids=array("i"), completion=replace(one.completion, **columns)) for one in given.turns
    ]


def test_a_line_of_the_first_version() -> None:
    """As 0.1.0 wrote it: `reward` is the value of the score, and only texts are there."""
    turns = [{"text": "a", "reply": [], "reward": 0.5}, {"text": "b", "reply": [], "reward": 0.25}]
    line = {
        "step": 4,
        "problem": "p",
        "group": "0/p",
        "episode": 2,
        "status": "done",
        "prompt": MESSAGES,
        "turns": turns,
        "tokens": 9,
        "truncated": True,
        "version": 3,
        "reward": 1.0,
        "verdict": "correct",
        "parts": {"numeric": 1.0},
        "reason": "read 2",
        "advantage": -0.5,
    }
    found = EpisodeRecord.from_json(line)
    one = found.trajectory
    assert (found.step, found.tokens, found.advantage, found.has_tokens) == (4, 9, -0.5, False)
    assert (one.problem.id, one.shown, one.text, one.truncated) == ("p", MESSAGES, "b", True)
    assert one.score == Score(1.0, "correct", {"numeric": 1.0}, reason="read 2")
    assert one.earned == 1.75
    assert [turn.completion.finish for turn in one.turns] == ["stop", "length"]
    assert [turn.completion.version for turn in one.turns] == [3, 3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"step": "7"}, "step is '7'"),
        ({"reward": "high", "value": "high"}, "is 'high'"),
        ({"status": "fine"}, "status is 'fine'; expected done"),
        ({"verdict": "right"}, "verdict is 'right'; expected correct"),
        ({"turns": {}}, "turns is {}"),
        ({"turns": [{"text": "a", "reply": [], "reward": 0.0, "finish": "eos"}]}, "finish is 'eos'"),
        ({"turns": [{"text": 1, "reply": [], "reward": 0.0}]}, "text is 1"),
        ({"turns": [{"text": "a", "reply": [], "reward": 0.0, "token_ids": [1]}]}, "1 token_ids and 0 logprobs"),
        ({"turns": [{"text": "a", "reply": [], "reward": 0.0, "token_ids": [1.5]}]}, "float"),
    ],
)
def test_what_is_no_episode_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        EpisodeRecord.from_json(record(EPISODES["one turn"]).to_json() | change)


def test_float32_numbers_are_written_in_nine_digits_and_read_the_same() -> None:
    """Every pattern of 32 bits that is a number, a sample of them, and the borders of powers of ten."""
    draw = random.Random(0)
    patterns = [struct.unpack("f", struct.pack("I", draw.getrandbits(32)))[0] for _ in range(20_000)]
    powers = [struct.unpack("f", struct.pack("f", 10.0**k))[0] for k in range(-44, 39)]
    near = [math.nextafter(x, y) for x in powers for y in (0.0, math.inf)]
    numbers = array("f", [x for x in (*patterns, *powers, *near, 0.0, -0.0, 1e-45, -1.0, -0.1) if not math.isnan(x)])
    text = json.dumps(short_floats(numbers))
    assert bytes(array("f", json.loads(text))) == bytes(numbers)
    ordinary = array("f", [-draw.expovariate(1.0) for _ in range(10_000)])
    digits = [len(repr(x).lstrip("-0.").replace(".", "").partition("e")[0]) for x in short_floats(ordinary)]
    assert max(digits) <= 9


def test_a_step_comes_back() -> None:
    given = StepRecord(step=3, metrics={"reward": 0.1 + 0.2, "eval/gsm8k/avg@1": 1.0})
    line = json.loads(json.dumps(given.to_json()))
    assert line == {"step": 3, "reward": 0.1 + 0.2, "eval/gsm8k/avg@1": 1.0}
    assert StepRecord.from_json(line) == given
