from __future__ import annotations

from llmrl.rewards.length import Length
from llmrl.types import Problem


def test_an_answer_has_characters_and_words() -> None:
    problem = Problem(id="p", messages=())
    assert Length()(problem, "two words\n").value == 10.0
    assert Length(unit="words")(problem, "two words\n").value == 2.0
