"""Rows of every format, by hand: prompt, answer, reward and role of each, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from llmrl.datafiles.rows import LeftOutError, Row
from llmrl.errors import DataError
from llmrl.offline.example import Example
from llmrl.offline.formats import FORMATS, format_of, reader

USER, SAID = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
OTHER = {"role": "assistant", "content": "5"}
HH = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: 2+2?\n\nAssistant: "
TURNS = {"seg1": [["a", "x"], ["b", "y"]], "seg2": [{"state": "a", "action": "z"}]}
PRM = {
    "labeler": "l",
    "question": {"problem": "2+2?"},
    "label": {
        "finish_reason": "found_error",
        "steps": [
            {"completions": [{"text": "a", "rating": 1}], "chosen_completion": 0},
            {"completions": [{"text": "b", "rating": -1}], "chosen_completion": 0},
        ],
    },
}

Case = tuple[str, dict[str, Any], list[tuple[str, str, float, str | None]]]


def program(outcome: str, reward: float) -> Case:
    """A program by its outcome."""
    return "program", {"prompt": "2+2?", "program": "4", "outcome": outcome}, [("2+2?", "4", reward, None)]


ROWS: list[Case] = [
    # name, row, and of each answer: the prompt's last words, the answer, its reward, its role
    ("completion", {"prompt": "2+2?", "response": "4", "reward": 0.5}, [("2+2?", "4", 0.5, None)]),
    ("completion", {"prompt": [USER], "completion": [SAID]}, [("2+2?", "4", 1.0, None)]),
    ("completion", {"input": "2+2?", "output": "4", "gts": "4", "score": 0.0}, [("2+2?", "4", 0.0, None)]),
    ("completion", {"question": "2+2?", "answer": "4"}, [("2+2?", "4", 1.0, None)]),
    ("completion", {"problem": "2+2?", "solution": "5", "is_correct": False}, [("2+2?", "5", 0.0, None)]),
    ("verl", {"data_source": "d", "prompt": [USER], "extra_info": {"answer": "4"}}, [("2+2?", "4", 1.0, None)]),
    ("messages", {"messages": [USER, SAID, USER, OTHER]}, [("2+2?", "4|5", 1.0, None)]),
    ("messages", {"messages": [USER, SAID | {"reward": 0.25}]}, [("2+2?", "4", 0.0, None)]),
    ("preference", {"prompt": "2+2?", "chosen": "4", "rejected": "5", "margin": 2}, [
        ("2+2?", "4", 1.0, "chosen"), ("2+2?", "5", 0.0, "rejected")]),
    ("preference", {"chosen": [USER, SAID], "rejected": [USER, OTHER], "score_chosen": 7.0, "score_rejected": 3.0}, [
        ("2+2?", "4", 7.0, "chosen"), ("2+2?", "5", 3.0, "rejected")]),
    ("preference", {"chosen": "The sky is blue.", "rejected": "The sky is green."}, [
        ("The sky is", " blue.", 1.0, "chosen"), ("The sky is", " green.", 0.0, "rejected")]),
    ("preference", {"chosen": HH + "4", "rejected": HH + "five"}, [
        ("2+2?", "4", 1.0, "chosen"), ("2+2?", "five", 0.0, "rejected")]),
    ("preference", {"chosen": HH + "4\n\nAssistant: yes", "rejected": HH + "5"}, [
        ("2+2?", "4\n\nyes", 1.0, "chosen"), ("2+2?", "5", 0.0, "rejected")]),
    ("step_pair", {"prefix": [USER, SAID], "chosen": "=4", "rejected": "=5", "q_chosen": 0.5, "q_rejected": -0.5}, [
        ("2+2?", "=4", 0.5, "chosen"), ("2+2?", "=5", -0.5, "rejected")]),
    ("segment_pair", {**TURNS, "label": 1}, [("a", "z", 1.0, "chosen"), ("a", "x|y", 0.0, "rejected")]),
    ("segment_pair", {**TURNS, "label": 0.5}, [("a", "z", 0.5, "chosen"), ("a", "x|y", 0.5, "rejected")]),
    ("ranked", {"prompt": "2+2?", "responses": ["4", "5"], "rewards": [1, 0.5]}, [
        ("2+2?", "4", 1.0, None), ("2+2?", "5", 0.5, None)]),
    ("stepwise", {"prompt": "2+2?", "completions": ["a", "b"], "labels": [True, False]}, [("2+2?", "a\nb", 0.0, None)]),
    ("stepwise", {"prompt": "2+2?", "steps": ["a", "b"], "labels": [0.25, 0.5]}, [("2+2?", "a\nb", 0.25, None)]),
    ("stepwise", {"prompt": "2+2?", "steps": ["a", "b"], "labels": [0.75, -100]}, [("2+2?", "a\nb", 0.75, None)]),
    ("prm800k", PRM, [("2+2?", "a\nb", 0.0, None)]),
    *[program("all_pass", 1.0), program("test_failure", -0.3), program("runtime_error", -0.6)],
    program("compile_error", -1.0),
    ("unpaired", {"prompt": "2+2?", "completion": "4", "label": True}, [("2+2?", "4", 1.0, "chosen")]),
    ("unpaired", {"input": "2+2?", "output": "5", "label": 0}, [("2+2?", "5", 0.0, "rejected")]),
]  # fmt: skip


def row(values: Mapping[str, Any]) -> Row:
    return Row(values, "rows.jsonl:3", 2)


def shown(example: Example) -> tuple[str, str, float | None, str | None]:
    own = [message["content"] for message in example.messages[example.start :] if message["role"] == "assistant"]
    return example.messages[example.start - 1]["content"], "|".join(own), example.score.value, example.role


@pytest.mark.parametrize(("name", "values", "expected"), ROWS, ids=lambda value: str(value)[:40])
def test_a_row_is_recognised_and_read(name: str, values: dict[str, Any], expected: list[Any]) -> None:
    assert format_of(row(values)) == name
    assert [shown(example) for example in reader(name)(row(values))] == expected


def test_every_format_is_tested() -> None:
    assert {name for name, _, _ in ROWS} == set(FORMATS)


def test_a_run_s_own_episodes_are_recognised() -> None:
    assert format_of(row(dict.fromkeys(("step", "problem", "group", "episode", "turns", "prompt")))) == "rollouts"


def test_numbers_beside_a_row_are_kept() -> None:
    values = {"prompt": "q", "chosen": "a", "rejected": "b", "margin": 2, "q_chosen": 1.0, "q_rejected": 0.0}
    made = reader("preference")(row({**values, "tag": "x", "seen": True, "bad": float("nan")}))
    assert [dict(example.numbers) for example in made] == [{"margin": 2.0}] * 2


def test_the_best_of_a_ranking_has_rank_0() -> None:
    made = reader("ranked")(row({"prompt": "q", "responses": ["a", "b"], "rewards": [1, 0.5], "margin": 2}))
    assert [dict(example.numbers) for example in made] == [{"rank": 0.0}, {"rank": 1.0}]


def test_a_prefix_is_given_and_not_learned_from() -> None:
    begun = reader("step_pair")(row({"prefix": [USER, SAID], "chosen": "a", "rejected": "b"}))
    beside = reader("step_pair")(row({"prompt": "2+2?", "prefix": "4", "chosen": "a", "rejected": "b"}))
    assert [example.prefix for example in (*begun, *beside)] == ["4"] * 4
    whole = reader("step_pair")(row({"prefix": "2+2? so", "chosen": "a", "rejected": "b"}))
    assert [example.prefix for example in whole] == ["", ""]


def test_a_tie_keeps_what_it_is() -> None:
    (better, worse) = reader("segment_pair")(row({**TURNS, "label": 0.25, "discount": 0.9}))
    assert dict(better.numbers) == dict(worse.numbers) == {"preferred": 0.75, "discount": 0.9}


def test_steps_end_where_their_text_does() -> None:
    (made,) = reader("stepwise")(row({"prompt": "q", "completions": ["ab", "c"], "labels": [1, 0]}))
    assert (made.score.steps, made.score.step_ends) == ([1.0, 0.0], [2, 4])


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("completion", {"prompt": "q", "completion": " "}, "empty response"),
        ("completion", {"prompt": " ", "completion": "a"}, "empty prompt"),
        ("completion", {"prompt": "q", "completion": "a", "reward": float("inf")}, "reward is not finite"),
        ("preference", {"prompt": "q", "chosen": "a  b", "rejected": "a b\n"}, "chosen equals rejected"),
        ("preference", {"chosen": "one", "rejected": "two"}, "no shared prompt"),
        ("messages", {"messages": [USER]}, "empty response"),
        ("prm800k", {**PRM, "label": {"finish_reason": "give_up", "steps": []}}, "finished by give_up"),
        ("prm800k", {**PRM, "is_quality_control_question": True}, "quality control or screening"),
    ],
)
def test_rows_of_no_use_are_left_out_by_reason(name: str, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(LeftOutError, match=f"^{reason}$"):
        reader(name)(row(values))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("completion", {"prompt": 3, "completion": "a"}, r"^rows.jsonl:3: found 3; expected text, or a list"),
        ("completion", {"prompt": "q"}, r"^rows.jsonl:3: none of the columns completion, response.*; found prompt"),
        ("completion", {"prompt": "q", "completion": "a", "reward": "1"}, r"^rows.jsonl:3: column 'reward' holds '1'"),
        ("unpaired", {"prompt": "q", "completion": "a", "label": "yes"}, r"^rows.jsonl:3: column 'label' holds 'yes'"),
        ("ranked", {"prompt": "q", "responses": ["a", "b"], "rewards": [0, 1]}, r"`rewards` .*largest first"),
        ("messages", {"messages": [SAID]}, r"^rows.jsonl:3: the conversation begins with its answer"),
        ("messages", {"messages": [USER, SAID, OTHER]}, r"^rows.jsonl:3: two messages of the assistant in a row"),
        ("messages", {"messages": [USER, SAID | {"tool_calls": [1]}]}, r"^rows.jsonl:3: message 1: tool_calls \[1\]"),
        ("messages", {"messages": [USER, SAID], "tools": [1]}, r"^rows.jsonl:3: column 'tools' holds \[1\]; ex"),
        ("program", {"prompt": "q", "program": "p", "outcome": "ok"}, r"jsonl:3: outcome 'ok'; expected one of all"),
        ("stepwise", {"prompt": "q", "steps": ["a"], "labels": []}, r"^rows.jsonl:3: expected `completions`"),
    ],
)  # fmt: skip
def test_broken_rows_say_where_and_what(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        reader(name)(row(values))


def test_unknown_columns_and_formats() -> None:
    with pytest.raises(
        DataError, match=r"^rows.jsonl:3: no known format has the columns a, b; expected those of rollou"
    ):
        format_of(row({"a": 1, "b": 2}))
    with pytest.raises(DataError, match=r"source.format 'preferenc'; did you mean 'preference'\?"):
        reader("preferenc")
