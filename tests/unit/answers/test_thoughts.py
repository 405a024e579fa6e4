"""An answer in the thoughts alone does not count, whichever reward reads it."""

from __future__ import annotations

import pytest

from llmrl.answers.thoughts import after_thoughts
from llmrl.rewards.code import Code
from llmrl.rewards.countdown import CountdownVerifier
from llmrl.rewards.math_verify import MathVerify
from llmrl.types import Problem

SUM = Problem(id="a", messages=(), answer="5", info={"nums": [2, 3], "target": 5, "tests": ["assert f() == 5"]})
PUT = "<answer>2 + 3</answer>"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("5", "5"),
        ("<think>4</think>5", "5"),
        ("4</think>5", "5"),  # the prompt opened the thoughts
        ("<think>4</think>3<think>2</think>1", "1"),
        ("<think>5", ""),
        ("<think>5</think>", ""),
        ("<think>4</think>5<think>6", "5"),
    ],
)
def test_after_thoughts(text: str, answer: str) -> None:
    assert after_thoughts(text) == answer


@pytest.mark.parametrize("text", ["<think>{}", "<think>{}</think>", "<think>{}</think> I do not know."])
def test_an_answer_in_the_thoughts_alone_is_not_paid(text: str) -> None:
    assert MathVerify()(SUM, text.format(r"\boxed{5}")).value == 0.0
    assert CountdownVerifier()(SUM, text.format(PUT)).value == 0.0
    assert Code()(
        Problem(id="a", messages=(), info={"tests": ["assert f() == 5"], "entry_point": "f"}), "<think>"
    ).verdict == ("unparsable")


@pytest.mark.parametrize("text", ["The answer is not 5.", "> 5", r"\boxed{> 5}", r"\ge 5", "It is not equal to 5"])
def test_denials_and_bounds_are_no_values(text: str) -> None:
    assert MathVerify()(SUM, text).value == 0.0


@pytest.mark.parametrize("text", ["= 5", r"\boxed{= 5}", "The answer is not 4 but 5.", r"x \approx 5"])
def test_what_leads_up_to_a_value_is_not_in_its_way(text: str) -> None:
    assert MathVerify()(SUM, text).value == 1.0
