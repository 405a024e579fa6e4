"""The last number against the reference."""

from fractions import Fraction

import pytest

from llmrl.rewards.numeric import Numeric, last_number
from llmrl.types import Problem


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 18", 18),
        ("it is -18.", -18),
        ("7 - 18", 18),
        ("7-18", 18),
        ("−18", -18),
        ("1,234,567.50 dollars", Fraction("1234567.5")),
        ("in 1999, 2000", 2000),
        ("$1,000", 1000),
        ("-$5", -5),
        ("$-5", -5),
        ("\\$5.25", Fraction("5.25")),
        (".5", Fraction(1, 2)),
        ("3/4 of it", Fraction(3, 4)),
        ("\\frac{3}{4}", Fraction(3, 4)),
        ("25%", 25),
        ("#### 12\nthat took 3 steps", 12),
        ("12{,}500", 12500),
        ("1.5e3", 1500),
        ("5 m^2", 5),
        ("none", None),
        ("1/0", None),
    ],
)
def test_last_number(text: str, number: Fraction | int | None) -> None:
    assert last_number(text) == number


def test_score() -> None:
    problem = Problem(id="a", messages=(), answer="#### 1,000")
    assert Numeric()(problem, "A: 1000.0").verdict == "correct"
    wrong = Numeric()(problem, "A: -1000")
    assert (wrong.value, wrong.verdict, wrong.reason) == (0.0, "wrong", "read -1000, expected 1000")
    assert Numeric()(problem, "who knows").verdict == "unparsable"
    assert Numeric(tolerance=0.5)(problem, "1000.4").value == 1.0


def test_a_reference_without_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no number"):
        Numeric()(Problem(id="a", messages=(), answer="none"), "4")


@pytest.mark.parametrize(
    "text",
    [
        "<answer>48 + 5 = 53</answer>", "5 * (10 + 1) - 2 = 53", "2x - 3 = 53", "160 / 3 = 53.33, so 53",
        "#### 53\nWait, let me check: 48 + 5 = 53, correct.",
        "<answer>53</answer>", "\\boxed{53}", "It is 53.", "48 + 5 = 53", "6*8 = 48\n48+5 = 53", "#### 53\nthat took 3",
        "\\boxed{48 + 5 = 53}", "<think>54</think> 53", "she has 53 candles.", "5 boxes and 53 candles", "53 m²", "53%",
        "$53.00", "not 54 but 53", "more than 50: 53", "\\boxed{53 = 53.0}", "in all - 53", "**53**", "<b>53</b>",
    ],
)  # fmt: skip
def test_a_number_that_stands_alone_is_the_answer(text: str) -> None:
    assert Numeric()(Problem(id="a", messages=(), answer="53"), text).verdict == "correct"


@pytest.mark.parametrize(
    "text",
    [
        "54 or 53", "\\boxed{54} or \\boxed{53}", "\\boxed{54, 53}", "<answer>54\n53</answer>", "54 (or 53)",
        "54 to 53", "maybe 54, maybe 53", "#### 54 or 53", "not 53", "the answer is not 53.", "54, unless it is 53",
        "x > 53", "\\ge 53", "7 + 53", "7 - 53", "7 \\times 53", "53^2", "53²", "53!", "\\sqrt{53}", "1\u200b53", "‐53",
        "⁻53", "－53", "1\u202f053", "53З", "<think>53", "<think>53</think>",
        "<think>53</think> I do not know", "<answer></answer> 53",
        "<answer>48 + 6 = 53</answer>", "48 + 6 = 53", "#### 53\nWait, it is 54.", "\\boxed{53}. Oops, it is 54.",
    ],
)  # fmt: skip
def test_a_number_that_does_not_is_none(text: str) -> None:
    assert Numeric()(Problem(id="a", messages=(), answer="53"), text).value == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "5 is the answer", "He has 5 left.", "It is 5, not six.", "not 6 but 5", "10 minus 5 is 5", "5 more", "$5",
        "5%", "It is not hard to see that the answer is 5.", "I have no doubt: 5", "5 or, in other words, five",
        "Step 2: 5",
    ],
)  # fmt: skip
def test_words_around_an_answer_that_leave_it(text: str) -> None:
    assert Numeric()(Problem(id="a", messages=(), answer="5"), text).verdict == "correct"


@pytest.mark.parametrize(
    "text",
    [
        "minus 5", "negative 5", "cannot be 5", "It can't be 5.", "5 is wrong", "5 is incorrect.", "5 (wrong)",
        "5? No.", "5 is not the answer", "I doubt it is 5", "I don't think the answer is 5", "it is never 5",
        "anything but 5",
        "5 is too small", "5, but that is wrong", "2**5", "12:05", "5:30", "at most 5", "at least 5", "under 5",
        "no more than 5", "5 or seven", "seven or 5", "5 or more", "either 5 or six", "5, or maybe six", "3 times 5",
        "perhaps 5, perhaps six", "the square root of 5", "5 minus one", "5 squared", "5 below zero", "5 thousand",
        "5 million", "5k", "5 dozen", "5x",
    ],
)  # fmt: skip
def test_words_around_an_answer_that_take_it_back(text: str) -> None:
    assert Numeric()(Problem(id="a", messages=(), answer="5"), text).value == 0.0
