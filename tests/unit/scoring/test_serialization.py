"""Groups and scores as JSON: what comes over is what was sent, and what makes no sense is named."""

from __future__ import annotations

import json
import math
from array import array
from dataclasses import replace
from typing import Any

import pytest

from llmrl.errors import DataError
from llmrl.scoring import serialization
from llmrl.trajectories import by_field
from llmrl.types import Completion, Problem, Ragged, Score, Trajectory, Turn

PROBLEM = Problem(id="p/1", messages=[{"role": "user", "content": "é?"}], answer="7", info={"level": 3, "tests": ["a"]})
COMPLETION = Completion(
    token_ids=array("i", [5, 2]),
    logprobs=array("f", [-0.1, -1e-30]),
    finish="length",
    version=4,
    versions=array("i", [4, 5]),
    semantics="renormalised",
    support_ids=Ragged.of([[5, 6], [2]]),
)
TURN = Turn(
    prompt_ids=array("i", [1, 2]),
    completion=COMPLETION,
    text="7\n",
    reply=[{"role": "tool", "content": "ok"}],
    reward=0.5,
)
GROUP = [
    Trajectory(problem=PROBLEM, turns=[TURN, TURN], status="max_turns", reason="r", group="g", episode=i)
    for i in range(2)
]
SCORES = [
    Score(
        1 / 3,
        "correct",
        {"a": 0.1 + 0.2, "b": None},
        steps=[0.5, -0.0],
        step_ends=[3, 9],
        token_rewards=[1e-17, 2.0],
        reason="so",
    ),
    Score(None, "timeout", reason="é"),
    Score(0.0),
]


def test_a_group_comes_over_as_it_is() -> None:
    place = serialization.Place(3, 10, 0.25)
    data = serialization.request_to_json(GROUP, place)
    assert serialization.request_from_json(data) == (GROUP, place)
    assert "problem" not in json.loads(data)["trajectories"][0], "the problem is sent once"
    others = [GROUP[0], replace(GROUP[1], problem=replace(PROBLEM, id="another"))]
    assert serialization.request_from_json(serialization.request_to_json(others, place)) == (others, place)


def test_lists_come_over_as_arrays_of_the_same_numbers() -> None:
    said = replace(COMPLETION, token_ids=[5, 2], logprobs=[-0.5, -2.0], versions=[4, 5], support_ids=[(5, 6), (2,)])
    lists = [replace(GROUP[0], turns=[replace(TURN, prompt_ids=[1, 2], completion=said)])]
    (found,), _ = serialization.request_from_json(serialization.request_to_json(lists, serialization.Place()))
    assert found.turns == [replace(TURN, completion=replace(COMPLETION, logprobs=array("f", [-0.5, -2.0])))]


def test_the_wire_is_json_of_plain_lists() -> None:
    """Reward servers of other makers read it."""
    body = json.loads(serialization.request_to_json(GROUP[:1], serialization.Place()))
    sent = body["trajectories"][0]["turns"][0]
    assert sent["prompt_ids"] == [1, 2]
    assert sent["completion"]["support_ids"] == [[5, 6], [2]]
    assert array("f", sent["completion"]["logprobs"]) == COMPLETION.logprobs
    assert "score" not in body["trajectories"][0]


def test_scores_come_over_bit_for_bit() -> None:
    data = json.dumps({"scores": serialization.scores_to_json(SCORES)}).encode()
    found = serialization.scores_from_json(data, 3)
    assert found == SCORES
    assert math.copysign(1.0, (found[0].steps or [0.0])[1]) == -1.0


def test_texts_alone_are_episodes_of_one_turn() -> None:
    body = {"problem": {"id": "1", "messages": []}, "texts": ["a", "b"]}
    group, place = serialization.request_from_json(json.dumps(body).encode())
    assert [(one.text, one.episode, one.status, one.truncated) for one in group] == [
        ("a", 0, "done", False),
        ("b", 1, "done", False),
    ]
    assert place == serialization.Place()


EMPTY = {"token_ids": [], "logprobs": [], "finish": "stop", "version": 0}
HUGE = {"turns": [{"prompt_ids": [2**31], "completion": EMPTY, "text": ""}], "status": "done"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"problem": NaN}', "NaN is no JSON"),
        ([], "found list; expected an object with problem, texts"),
        ({"txts": []}, r"the request.txts: unknown key; did you mean 'texts'\?"),
        ({}, "either texts or trajectories"),
        ({"texts": [], "trajectories": []}, "either texts or trajectories"),
        ({"texts": "a"}, "texts: found str; expected a list"),
        ({"texts": ["a"]}, r"texts\[0\]: no problem"),
        ({"problem": {"messages": []}, "texts": []}, "problem.id: field required"),
        ({"problem": {"id": 1, "messages": []}, "texts": []}, "problem.id: .*valid string"),
        ({"problem": {"id": "1", "messages": []}, "texts": [3]}, r"texts\[0\]: found int"),
        ({"problem": {"id": "1", "messages": []}, "trajectories": [{}]}, r"trajectories\[0\].turns: field required"),
        (
            {"problem": {"id": "1", "messages": []}, "trajectories": [{"turns": [], "status": "fine"}]},
            r"trajectories\[0\].status: .*'done'",
        ),
        ({"problem": {"id": "1", "messages": []}, "trajectories": [HUGE]}, r"trajectories\[0\]: .*no 32-bit integer"),
        ({"texts": [], "trainer_state": {"step": 1}}, "trainer_state.step: unknown key"),
        ({"texts": [], "trainer_state": {"global_step": "1"}}, "trainer_state.global_step: .*valid integer"),
    ],
)
def test_what_is_no_request_is_named(body: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        serialization.request_from_json(body if isinstance(body, bytes) else json.dumps(body).encode())


def test_deep_nesting_is_no_request() -> None:
    with pytest.raises(DataError, match="not JSON"):
        serialization.request_from_json(b"[" * 1_000_000)


@pytest.mark.parametrize("info", [{"x": math.nan}, {"x": object()}])
def test_what_json_does_not_have_is_not_sent(info: dict[str, Any]) -> None:
    group = [replace(GROUP[0], problem=replace(PROBLEM, info=info))]
    with pytest.raises(DataError, match="problem p/1: cannot be sent"):
        serialization.request_to_json(group, serialization.Place())


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (Score(math.nan), "value nan"),
        (Score(1.0, parts={"a": math.inf}), r"parts\.a inf"),
        (Score(1.0, token_rewards=[0.0, -math.inf]), "token_rewards -inf"),
    ],
)
def test_a_number_that_is_not_finite_never_arrives(score: Score, words: str) -> None:
    (sent,) = serialization.scores_to_json([score])
    assert (sent["value"], sent["verdict"]) == (None, "error")
    assert words.replace("\\", "") in sent["reason"]
    with pytest.raises(ValueError, match=words):
        serialization.scores_from_json(json.dumps({"scores": [by_field(score)]}).encode(), 1)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"<html>", "not scores: JSONDecodeError"),
        (b"[]", "not scores: TypeError"),
        (b"{}", "not scores: KeyError"),
        (b'{"scores": [{"value": "1"}]}', "valid number"),
        (b'{"scores": [{"value": true}]}', "valid number"),
        (b'{"scores": [{}]}', "field required"),
        (b'{"scores": [1.0]}', "found int|found float"),
        (b'{"scores": []}', "0 scores for 1 answers"),
        (b'{"scores": [{"value": 1}, {"value": 2}]}', "2 scores for 1 answers"),
    ],
)
def test_what_are_no_scores_is_named(reply: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        serialization.scores_from_json(reply, 1)


def test_answers_of_one_request_share_its_problem() -> None:
    """A problem of a megabyte costs a megabyte, however many answers come with it."""
    problem = {"id": "1", "messages": []}
    for entries in ({"texts": ["a", "b"]}, {"trajectories": [{"turns": [], "status": "done"}] * 2}):
        group, _ = serialization.request_from_json(json.dumps({"problem": problem} | entries).encode())
        assert group[0].problem is group[1].problem
        assert group[0].problem == Problem(id="1", messages=[])


def test_a_request_above_its_limits_is_refused() -> None:
    body = json.dumps({"problem": {"id": "1", "messages": []}, "texts": ["a" * 2**20] * 3}).encode()
    assert len(serialization.request_from_json(body, serialization.RequestLimits(texts=3, text_mb=3))[0]) == 3
    with pytest.raises(serialization.TooLargeError, match=r"3 texts; expected at most 2 .*--max-texts 3"):
        serialization.request_from_json(body, serialization.RequestLimits(texts=2))
    with pytest.raises(serialization.TooLargeError, match=r"texts of 3.0 MiB; expected at most 2 .*--max-text-mb 3"):
        serialization.request_from_json(body, serialization.RequestLimits(text_mb=2))


def test_half_of_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(DataError, match=r"texts\[0\]: half of a surrogate pair"):
        serialization.request_from_json(b'{"problem": {"id": "1", "messages": []}, "texts": ["\\ud800"]}')
