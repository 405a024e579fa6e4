"""Share of an answer that is written in the demanded language, as far as its script tells."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from llmrl.answers.delimited import without_unclosed
from llmrl.answers.spelling import character_counts
from llmrl.types import Problem, Score

SCRIPTS = {
    "LATIN": "en de fr es it pt nl sv no da fi is pl cs sk sl hr ro hu tr vi id ms tl sw et lv lt ca eu ga cy af sq",
    "CYRILLIC": "ru uk be bg sr mk kk ky mn tg",
    "CJK": "zh", "CJK HIRAGANA KATAKANA": "ja", "HANGUL": "ko", "ARABIC": "ar fa ur ps", "HEBREW": "he yi",
    "GREEK": "el", "DEVANAGARI": "hi mr ne sa", "BENGALI": "bn as", "GUJARATI": "gu", "GURMUKHI": "pa", "TAMIL": "ta",
    "TELUGU": "te", "KANNADA": "kn", "MALAYALAM": "ml", "SINHALA": "si", "THAI": "th", "LAO": "lo", "KHMER": "km",
    "MYANMAR": "my", "GEORGIAN": "ka", "ARMENIAN": "hy", "ETHIOPIC": "am ti", "TIBETAN": "bo",
}  # fmt: skip
LANGUAGES = {language: frozenset(scripts.split()) for scripts, those in SCRIPTS.items() for language in those.split()}
NO_LANGUAGE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|\\\[.*?\\\]|\\\(.*?\\\)|\\boxed\s*\{[^{}]*\}|\\[A-Za-z]+|</?\w+>"
    r"|https?://\S+|[A-Za-z](?<![^\W\d_].)(?![^\W\d_])(?:[\s\d,.:;]++[A-Za-z](?![^\W\d_]))*+",
    re.DOTALL,
)  # each alternative begins with its sign, so that other places are passed over at once; a run of single letters is one
PROSE = re.compile(r"(?<![\w\\])[^\W\d_]{2,}+(?:[ ,;'’]++[^\W\d_]{2,}+){4,}+")
HIDING = ("`", "$", "\\", "<", "http")  # begin code, formulas, tags and addresses
OF_FORMULAS = ("LATIN", "GREEK")  # scripts that code and formulas are written in


@dataclass(frozen=True)
class LanguageConsistency:
    """Share of the letters that belong to the scripts of a language, 0 to 1; the verdict stays None.

    The language is the one named, or that of the problem: the script of most letters of its last message, and the
    other scripts of Japanese where there is kana. Formulas, code, tags, addresses and single Latin letters are of no
    language and count nowhere, but for prose that is hidden in them: five words in a row, and letters of any script but
    Latin and Greek. Digits and signs count nowhere. A text with no letter at all has nothing in another language: 1;
    an empty one gets 0. No model is asked, so that languages of one script are the same to it: English is not
    told from French, nor Russian from Ukrainian. An answer of one right word gets 1: add it to a reward for
    right answers. The reward for one language is due to DeepSeek-R1 (arXiv 2501.12948).

    Raises:
        ValueError: there is no language of that name; or none is named and the problem has no letters.
    """

    language: str | None = None  # a code such as en or zh; null: that of the problem
    part: Literal["all", "thoughts", "answer"] = "all"  # of a text with `</think>`; without one it is all thoughts

    def __post_init__(self) -> None:
        if self.language is not None and self.language not in LANGUAGES:
            raise ValueError(f"language {self.language!r}: expected one of {', '.join(sorted(LANGUAGES))}")

    def __call__(self, problem: Problem, text: str) -> Score:
        wanted = LANGUAGES[self.language] if self.language is not None else _asked(problem)
        thoughts, end, answer = text.rpartition("</think>")
        if self.part != "all":
            text = (thoughts if end else text) if self.part == "thoughts" else answer if end else ""
        if not text.strip():
            return Score(0.0, reason="nothing was said")
        counts = letters(text)
        if not counts:
            return Score(1.0, reason="no letters, hence none of another script")
        share = sum(count for script, count in counts.items() if script in wanted) / counts.total()
        found = ", ".join(f"{count} {script.lower()}" for script, count in counts.most_common(4))
        return Score(share, reason=f"letters: {found}; expected {' and '.join(sorted(wanted)).lower()}")


def letters(text: str) -> Counter[str]:
    """Count the letters of each script in a text: of formulas, code and addresses only those that are prose.

    Prose there is a run of five words, and every letter of a script other than Latin and Greek.
    """
    text = without_unclosed(text)
    outside = NO_LANGUAGE.sub(" ", text)
    counts = _scripts(character_counts(outside))
    if outside == text or not any(sign in text for sign in HIDING):
        return counts
    inside = _scripts(Counter(character_counts(text)) - Counter(character_counts(outside)))
    prose = _scripts(Counter("".join(PROSE.findall(text))) - Counter("".join(PROSE.findall(outside))))
    for script, count in inside.items():
        counts[script] += prose[script] if script in OF_FORMULAS else count
    return +counts


def _scripts(characters: Mapping[str, int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for char, count in characters.items():
        if script := _script(char):
            counts[script] += count
    return counts


@lru_cache(maxsize=65536)
def _script(char: str) -> str:
    """Script of a letter, `LATIN` or `CJK`; "" for other characters."""
    if not char.isalpha():
        return ""
    name = unicodedata.name(unicodedata.normalize("NFKC", char)[0], "").split(" ")[0]
    return "CJK" if name in ("IDEOGRAPHIC", "KANGXI") else name


def _asked(problem: Problem) -> frozenset[str]:
    content = str(problem.messages[-1].get("content") or "") if problem.messages else ""
    counts = letters(content)
    if not counts:
        raise ValueError("the last message of the problem has no letters to tell its language by; name a `language`")
    kana = counts["HIRAGANA"] + counts["KATAKANA"]
    if kana and kana + counts["CJK"] > counts.total() / 2:
        return LANGUAGES["ja"]
    return frozenset([counts.most_common(1)[0][0]])


plugin = LanguageConsistency
