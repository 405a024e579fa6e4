"""Share of the given words that an answer uses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from llmrl.answers.spelling import LowerWords
from llmrl.answers.thoughts import after_thoughts
from llmrl.recipe.ranges import Whole
from llmrl.types import Problem, Score

SENTENCE_END = re.compile(r"(?<![.!?])[.!?]+(?:\s|$)")
WORDS = LowerWords(r"[^\W\d_]")
LETTER = re.compile(r"[^\W\d_]")
ENDINGS = ("", "s", "es", "ed", "d", "ing", "ly", "er", "est")


@dataclass(frozen=True)
class Coverage:
    """Share of `problem.info["words"]` that the answer uses, each in any of its usual forms; `correct` if all.

    A form is the word with a usual ending, its last letter doubled, dropped (`e`) or turned (`y` to `i`): `runs`,
    `running`, `hiking`, `carried`. With `one_sentence` an answer of more or less than one sentence gets 0, and so does
    a list: all the words, three or more, in one run with only commas and `and` between them. Thoughts are not read.

    Raises:
        ValueError: the problem has no words.
    """

    one_sentence: bool = True
    max_words: Whole = 30  # a list of everything would cover everything; 0 is no limit

    def __call__(self, problem: Problem, text: str) -> Score:
        wanted = [str(word).lower() for word in problem.info.get("words", ())]
        if not wanted:
            raise ValueError(f"the problem has no words, only {', '.join(problem.info) or 'no columns'}")
        text = after_thoughts(text)
        said = WORDS.of(text)
        if not said:
            return Score(0.0, "unparsable", reason="no words")
        used = set(said)
        missing = [word for word in wanted if not forms(word) & used]
        share = 1.0 - len(missing) / len(wanted)
        wrong = self._form(text, len(said)) or (self.one_sentence and listed(said, wanted))
        if wrong:
            return Score(0.0, "wrong", reason=wrong)
        return Score(
            share, "wrong" if missing else "correct", reason=f"without {', '.join(missing)}" if missing else ""
        )

    def _form(self, text: str, words: int) -> str:
        """Describe the fault in the form of the answer; empty if there is none."""
        if self.max_words and words > self.max_words:
            return f"{words} words; expected at most {self.max_words}"
        sentences = len([part for part in SENTENCE_END.split(text.strip()) if LETTER.search(part)])
        return f"{sentences} sentences; expected one" if self.one_sentence and sentences != 1 else ""


def listed(said: Sequence[str], wanted: Sequence[str]) -> str:
    """Describe the fault if all words stand in one run, which is no sentence; "" if they do not."""
    by_form = {form: word for word in wanted for form in forms(word)}
    found = [by_form.get(word, "") for word in said if word not in ("and", "or")]
    runs = [set(run) for asked, run in groupby(found, key=bool) if asked]
    return "a list of the words, no sentence" if len(set(wanted)) > 2 and set(wanted) in runs else ""


def forms(word: str) -> frozenset[str]:
    """Inflect a word by rules of spelling, which also make forms that nobody writes."""
    stems = {word, word + word[-1]}
    stems |= {word[:-1]} if word.endswith("e") else set()
    stems |= {word[:-1] + "i"} if word.endswith("y") else set()
    return frozenset(stem + ending for stem in stems for ending in ENDINGS if stem == word or ending)


plugin = Coverage
