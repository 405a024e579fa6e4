"""Rewards that look at the text alone: exact, regex, json_schema, language_consistency."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrl.errors import RecipeError
from llmrl.plugins import build
from llmrl.rewards.exact import Exact
from llmrl.rewards.json_schema import JsonSchema
from llmrl.rewards.language_consistency import LanguageConsistency, letters
from llmrl.rewards.regex import Regex
from llmrl.scoring.manager import GradingPool
from llmrl.types import Problem, Score


def asked(answer: str = "", prompt: str = "Say it.", **info: Any) -> Problem:
    return Problem(id="a", messages=[{"role": "user", "content": prompt}], answer=answer, info=info)


# exact


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("New York", "new  york."), ("New York", "The answer is New York."), ("New York", "**New York**"),
        ("New York", "Answer: New\u00a0York"), ("Café", "Cafe\u0301"), ("5", "５"), ("don't", "don’t"), ("-5", "−5"),
        ("5", "(5)"), ("5", r"\boxed{5}"), ("5", r"\boxed{\text{5}}"),
        ("x", "<answer>X</answer>"), ("yes", "Yes!"), ("quoted", "'quoted'"),
        ("e-mail", "E-Mail"), ("x", "<think>y</think>x"), ("New York", "(New York)"), ("New York", "- New York"),
        ("[1,2)", "Answer: [1,2)"), ("Paris (France)", "paris (France)."),
    ],
)  # fmt: skip
def test_exact_but_for_spelling(answer: str, text: str) -> None:
    assert Exact()(asked(answer), text).verdict == "correct"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("-5", "5"), ("1.5", "15"), ("C++", "C"), ("C#", "C"), ("50%", "50"), ("5!", "5"), ("x²", "x2"), ("$5", "5"),
        ("½", "1/2"), ("10:30", "1030"), ("f'", "f"), ("- 5", "5"), (".5", "5"), ("3-5", "35"), ("A*", "A"),
        ("__init__", "init"), ("cat", "the cat"), ("New York", "New York or Boston"),
        ("[1,2)", "(1,2]"), ("[1,2]", "(1,2)"),
        ("x", "-x"), ("x+1", "-x+1"), ("x", "(x"), ("x+1", "(x+1)!"), ("yes", "y-e-s"), ("yes", "ye(s)"),
        ("ab", "-(ab)"),
    ],
)  # fmt: skip
def test_what_only_looks_the_same(answer: str, text: str) -> None:
    assert Exact()(asked(answer), text).verdict == "wrong"
    assert Exact()(asked(text), answer).verdict == "wrong"


def test_options_of_exact() -> None:
    assert Exact(ignore_articles=True)(asked("cat"), "The cat").value == 1.0
    assert Exact(ignore_case=False)(asked("cat"), "Cat").value == 0.0
    assert Exact(ignore_punctuation=False)(asked("cat"), "cat.").value == 0.0
    assert Exact(read="whole")(asked("cat"), "The answer is cat").value == 0.0
    assert Exact(also="aliases")(asked("New York", aliases=["NYC"]), "nyc").value == 1.0
    assert Exact()(asked("cat"), " \n").verdict == "unparsable"


def test_exact_needs_a_reference() -> None:
    with pytest.raises(ValueError, match="is empty"):
        Exact()(asked(" ."), "x")
    with pytest.raises(ValueError, match="'aliases' in `info`: expected a list"):
        Exact(also="aliases")(asked("x"), "x")


@given(st.text(min_size=1, max_size=40))
def test_a_spelling_is_its_own_spelling(text: str) -> None:
    once = Exact().plain(text)
    assert Exact().plain(once) == once


# regex


def test_the_pattern_of_the_option_or_of_the_problem() -> None:
    assert Regex(pattern=r"\d+")(asked(), " 12\n").verdict == "correct"
    assert Regex(pattern=r"\d+")(asked(), "12 apples").verdict == "wrong"
    assert Regex(pattern=r"\d+", match="search")(asked(), "12 apples").value == 1.0
    assert Regex()(asked(r"a|b"), "b").value == 1.0
    assert Regex(ignore_case=True)(asked("a"), "A").value == 1.0
    assert Regex(read="marked")(asked(r"\d+"), r"so \boxed{12}").value == 1.0
    assert Regex(read="marked")(asked(r"\d+"), "12").verdict == "unparsable"
    assert Regex()(asked("a.b"), "a\nb").value == 1.0
    assert Regex(dot_all=False)(asked("a.b"), "a\nb").value == 0.0
    assert Regex()(asked("a"), "<think>b</think>a").value == 1.0


@pytest.mark.parametrize(
    ("answer", "text"), [("3.14", "3x14"), ("1.2.3", "1.2x3"), ("It is 5.", "It is 5x"), (r"\d+|2.5", "2x5")]
)
def test_a_point_of_a_reference_is_a_point(answer: str, text: str) -> None:
    assert Regex()(asked(answer), text).value == 0.0
    assert Regex()(asked(answer), answer.partition("|")[2] or answer).value == 1.0
    assert Regex(pattern=answer)(asked(), text).value == 1.0  # an expression by one who says so


def test_a_bad_pattern_is_refused() -> None:
    with pytest.raises(RecipeError, match="no regular expression"):
        build("reward", {"name": "regex", "pattern": "("})
    for answer in ("(", "", "  "):
        with pytest.raises(ValueError, match="pattern"):
            Regex()(asked(answer), "x")


def test_a_pattern_that_never_ends_costs_its_item_only() -> None:
    with GradingPool(workers=1, timeout_s=1.0) as pool:
        endless = pool.grade_sync(Regex(pattern="(a+)+b"), asked(), "a" * 60)
        assert (endless.value, endless.verdict) == (None, "timeout")
        assert pool.grade_sync(Regex(pattern="a+"), asked(), "aaa").value == 1.0


# json_schema

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('{"name": "Ada", "age": 36}', "correct"),
        ('Here it is:\n```json\n{"name": "Ada", "age": 36}\n```\nDone.', "correct"),
        ('<think>{}</think><answer>{"name": "Ada", "age": 36}</answer>', "correct"),
        ('{"name": "Ada", "age": 36.0}', "correct"),  # a whole number, as JSON Schema counts
        ('{"name": "Ada", "age": -1}', "wrong"),
        ('{"name": "Ada", "age": "36"}', "wrong"),
        ('{"name": "Ada", "age": true}', "wrong"),
        ('{"name": "Ada"}', "wrong"),
        ('{"name": "Ada", "age": 36, "more": 1}', "wrong"),
        ('{"name": "Ada", "age": 36, "age": 37}', "unparsable"),
        ('{"name": "Ada", "age": NaN}', "unparsable"),
        ('{"name": "Ada", "age": 1e999}', "unparsable"),
        ('{"name": "Ada", "age": -1E400}', "unparsable"),
        ("{'name': 'Ada', 'age': 36}", "unparsable"),
        ('{"name": "Ada", "age": 36} and more', "unparsable"),
        ("[" * 100_000, "unparsable"),
        ("1" * 10_000, "unparsable"),
        ("", "unparsable"),
    ],
)
def test_answers_against_a_schema(text: str, verdict: str) -> None:
    for problem, reward in (
        (asked(), JsonSchema(schema=PERSON)),
        (asked(schema=PERSON), JsonSchema()),
        (asked(schema=json.dumps(PERSON)), JsonSchema()),
    ):
        score = reward(problem, text)
        assert (score.value, score.verdict) == (float(verdict == "correct"), verdict)


def test_without_a_schema_it_must_be_json() -> None:
    assert JsonSchema()(asked(), "[1, 2]").value == 1.0
    assert JsonSchema()(asked(), "[1, 2").verdict == "unparsable"


def test_formats_are_checked_where_asked() -> None:
    dated = {"type": "string", "format": "date"}
    assert JsonSchema(schema=dated)(asked(), '"soon"').value == 1.0
    assert JsonSchema(schema=dated, formats=True)(asked(), '"soon"').value == 0.0
    assert JsonSchema(schema=dated, formats=True)(asked(), '"2024-02-29"').value == 1.0


@pytest.mark.parametrize("schema", [{"type": "nothing"}, {"required": "name"}, {"pattern": "("}])
def test_a_bad_schema_is_refused(schema: Any) -> None:
    with pytest.raises(RecipeError, match="expected a JSON schema"):
        build("reward", {"name": "json_schema", "schema": schema})
    with pytest.raises(ValueError, match="expected a JSON schema"):
        JsonSchema()(asked(schema=schema), "1")


def test_nothing_is_fetched() -> None:
    away = {"$ref": "http://127.0.0.1:9/schema.json"}
    with pytest.raises(ValueError, match="leads outside"):
        JsonSchema(schema=away)(asked(), "1")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_a_constant_allows_itself_and_nothing_else(one: Any, other: Any) -> None:
    reward = JsonSchema(schema={"const": one})
    assert reward(asked(), json.dumps(one)).value == 1.0
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert reward(asked(), json.dumps(other)).value == float(same)


# language_consistency


def consistency(text: str, prompt: str = "What is it?", **options: Any) -> Score:
    return LanguageConsistency(**options)(asked(prompt=prompt), text)


@pytest.mark.parametrize(
    ("text", "prompt", "share"),
    [
        ("It is a cat.", "What is it?", 1.0),
        ("It is 猫猫猫猫.", "What is it?", 0.5),  # four letters of either
        ("它是猫", "这是什么？", 1.0),
        ("它是猫，其中 $x = \\frac{a}{b}$，即 \\boxed{x}，见 `cat()` 与 https://cats.example", "这是什么？", 1.0),
        ("Это кот", "Что это?", 1.0),
        ("Это cat", "Что это?", 0.5),
        ("それは猫です", "これは何ですか", 1.0),
        ("それは猫です", "这是什么？", 1 / 6),  # one of its letters is Chinese, too
        ("<think>42</think> 7", "What is it?", 1.0),
        ("Grün ist schön", "What is it?", 1.0),  # another language of the same script
        ("It is `猫猫猫猫`.", "What is it?", 0.5),  # hidden in code, in a formula, in an address, in a block
        ("It is $猫猫猫猫$.", "What is it?", 0.5),
        ("It is https://猫猫猫猫", "What is it?", 0.5),
        ("```\n猫猫猫猫\n```\nIt is.", "What is it?", 0.5),
        ("它是猫 `we now think in English`", "这是什么？", 3 / 22),  # five words in a row are prose, `cat()` is none
    ],
)
def test_shares_of_letters(text: str, prompt: str, share: float) -> None:
    score = consistency(text, prompt)
    assert score.value == pytest.approx(share)
    assert score.verdict is None


def test_a_language_may_be_named_and_a_part_chosen() -> None:
    text = "<think>Das ist gut</think>这是猫"
    assert consistency(text, language="zh").value == pytest.approx(3 / 12)  # nine Latin letters of the thoughts
    assert consistency(text, language="zh", part="answer").value == 1.0
    assert consistency(text, language="de", part="thoughts").value == 1.0
    assert consistency("cut off", language="zh", part="answer").value == 0.0  # no answer was given
    assert consistency("", language="zh").value == 0.0
    with pytest.raises(RecipeError, match=r"expected one of .*zh"):
        build("reward", {"name": "language_consistency", "language": "klingon"})
    with pytest.raises(ValueError, match="no letters to tell its language by"):
        consistency("x", "1 + 1 = ?")


@given(st.text(max_size=100))
def test_the_shares_of_all_scripts_add_up(text: str) -> None:
    score = consistency(text, language="en")
    counts = letters(text)
    assert score.value is not None
    assert 0.0 <= score.value <= 1.0
    if counts:
        assert score.value == pytest.approx(counts["LATIN"] / counts.total())
