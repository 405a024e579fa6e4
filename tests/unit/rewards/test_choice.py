"""Multiple choice: how people write a letter, and what is no choice of one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrl.errors import RecipeError
from llmrl.plugins import build
from llmrl.rewards.choice import Choice
from llmrl.types import Problem, Score

CITIES = ["London", "Paris", "Rome", "Madrid"]


def grade(text: str, answer: str = "B", options: Any = CITIES, **chosen: Any) -> Score:
    info = {"options": options} if options else {}
    return Choice(**chosen)(Problem(id="a", messages=(), answer=answer, info=info), text)


LETTERS = [
    "B",
    "b",
    "(B)",
    "(b)",
    "B.",
    "B)",
    "**B**",
    "[B]",
    "【B】",
    "`B`",
    "$B$",
    "The answer is B",
    "The answer is (B).",
    "Answer: B",
    "answer: b",
    "Final Answer: B",
    "Final answer: The answer is B",
    "**Answer:** B",
    "The correct option is B.",
    "The answer must be B.",
    "The answer is most likely B.",
    r"\boxed{B}",
    r"\boxed{\text{B}}",
    r"\boxed{\textbf{(B)}}",
    "<answer>B</answer>",
    "<answer> (b) </answer>",
    "<think>A, no</think>B",
    "答案是B",
    "答案：B。",
    "option B",
    "I choose B.",
    "I'd go with (B).",
    "#### B",
    "A is out, for it is too far.\nB",
    "The best answer is B because A and C are wrong.",
    "The answer is A. Wait, no, the answer is B.",
    "The answer is B, since it beats A and C.",
    "(B), not (A)",
    "The answer is B (not A)",
    "<answer>A</answer> <answer>B</answer>",
    "B is correct.",
    "Die Antwort ist B.",
    "La réponse est (B).",
]
TEXTS = [
    "Paris",
    "paris.",
    "The answer is Paris.",
    "B) Paris",
    "B: Paris",
    "B. Paris",
    "(B) Paris",
    "B Paris",
    r"\boxed{\text{(B) Paris}}",
    "Answer: **(B) Paris**",
    "B. Paris is the capital of France.",
    "B\n\nBecause Paris is the capital.",
]
HEDGES = [
    "A and B",
    "A or B",
    "B or A",
    "A, B",
    "B/C",
    "B & C",
    "B + C",
    "Both A and B",
    "either B or C",
    "The answer is A or B.",
    "Answer: B, C",
    "Answer: B, or maybe C",
    r"\boxed{A, B}",
    r"\boxed{B}\text{ and }\boxed{C}",
    "(A) or (B)",
    "The answer is A or the answer is B",
    "The answer is B) Paris or C) Rome",
    "The answer is B and C because of both",
    "A\nB",
    "A) London\nB) Paris",
    "B, alternatively C",
    "B; C is possible",
    "(B)(C)",
    "B as well as C",
    "I choose B. I also choose C.",
    "I choose B.\nI also choose C.",
    "B. C.",
    "B. Or C.",
    "The answer is B. It could also be C.",
    "The answer is B; maybe C",
    "B but C is just as good",
]
OTHERS = [
    "A",
    "C.",
    "The answer is not B.",
    "E",
    "I cannot say.",
    "",
    "<answer>AB</answer>",
    "The answer is B-cells",
    "Blue",
    "By elimination we see it.",
    "Answer: B\n</think>\nAnswer: C",
    "The answer is B.C.",
    "London, Paris",
    "The answer is a bit unclear.",
    "A good question.",
    "\\boxed{}",
    "B: false",
    "B: no",
    "B is wrong",
    "B? C?",
    "A B C D",
]
VITAMINS = ["Vitamin A", "Vitamin C", "True", "False"]


@pytest.mark.parametrize("text", LETTERS)
@pytest.mark.parametrize("options", [CITIES, None])
def test_a_letter_in_many_spellings(text: str, options: Any) -> None:
    assert grade(text, options=options).verdict == "correct"


@pytest.mark.parametrize("text", TEXTS)
def test_the_text_of_an_option(text: str) -> None:
    assert grade(text).verdict == "correct"


@pytest.mark.parametrize("text", HEDGES)
@pytest.mark.parametrize("options", [CITIES, None])
def test_two_choices_are_wrong(text: str, options: Any) -> None:
    for answer in "ABC":
        score = grade(text, answer, options)
        assert (score.value, score.verdict) == (0.0, "wrong")


@pytest.mark.parametrize("text", OTHERS)
@pytest.mark.parametrize("options", [CITIES, None])
def test_what_is_another_choice_or_none(text: str, options: Any) -> None:
    assert grade(text, options=options).value == 0.0


@pytest.mark.parametrize("text", ["B) Vitamin C", "B. Vitamin C", "B. Vitamin C is found in fruit, A is in carrots."])
def test_letters_in_an_options_own_text_are_no_choices(text: str) -> None:
    assert grade(text, "B", VITAMINS).verdict == "correct"
    assert grade("D: False", "D", VITAMINS).verdict == "correct"
    assert grade("B. Vitamin C or A", "B", VITAMINS).verdict == "wrong"


def test_a_letter_beside_another_options_text_is_wrong() -> None:
    assert grade("B) London").verdict == "wrong"
    assert grade("The answer is (B) London.", "A").verdict == "wrong"


@pytest.mark.parametrize(
    "options",
    [
        CITIES,
        dict(zip("ABCD", CITIES, strict=True)),
        [f"{letter}) {city}" for letter, city in zip("ABCD", CITIES, strict=True)],
        {"text": CITIES, "label": ["A", "B", "C", "D"]},
        {"text": CITIES, "label": ["1", "2", "3", "4"]},
    ],
)
def test_options_in_the_forms_that_datasets_have(options: Any) -> None:
    for text in ("B", "Paris", "B) Paris"):
        assert grade(text, options=options).verdict == "correct"
        assert grade(text, "C", options).verdict == "wrong"


def test_options_that_are_letters_or_numbers_themselves() -> None:
    assert grade("B", "A", ["B", "A"]).verdict == "wrong"  # the letter counts, not the text
    assert grade("The answer is 12.", "B", ["11", "12", "-12"]).verdict == "correct"
    assert grade("-12", "B", ["11", "12", "-12"]).verdict == "wrong"
    assert grade("same", "A", ["same", "same"]).value == 0.0  # which of them?


@pytest.mark.parametrize(
    ("answer", "chosen"), [("B", {}), ("(b)", {}), ("Paris", {}), ("1", {"first_index": 0}), ("2", {"first_index": 1})]
)
def test_the_reference_in_many_forms(answer: str, chosen: Any) -> None:
    assert grade("B", answer, **chosen).verdict == "correct"


@pytest.mark.parametrize("answer", ["", "E", "2", "A and B", "Lisbon"])
def test_a_reference_that_names_no_option_is_refused(answer: str) -> None:
    with pytest.raises(ValueError, match=r"names no option; expected one of A, B, C, D"):
        grade("B", answer)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a list, a mapping"):
        grade("B", options={"first": "London"})
    with pytest.raises(RecipeError, match="capital letters, each once"):
        build("reward", {"name": "choice", "letters": "AAB"})


@given(st.sampled_from("ABCD"), st.sampled_from("ABCD"), st.sampled_from(LETTERS[:34]))
def test_no_spelling_is_taken_for_another_letter(wrote: str, answer: str, form: str) -> None:
    text = form.replace("B", wrote).replace("(b)", f"({wrote.lower()})")
    if not {"A", "b"} & set(form):  # forms that name one letter only
        assert grade(text, answer).value == float(wrote == answer)


@given(st.text(max_size=200))
def test_any_text_has_a_verdict(text: str) -> None:
    assert grade(text).verdict in ("correct", "wrong", "unparsable")
