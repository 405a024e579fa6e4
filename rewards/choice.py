"""Multiple choice: the letter that an answer picks, compared with that of the reference."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from llmrl.answers.marked import innermost, marked
from llmrl.answers.thoughts import after_thoughts
from llmrl.answers.words import unwrapped
from llmrl.recipe.ranges import Whole
from llmrl.types import Problem, Score

COLUMNS = ("options", "choices")
SURE = r"(?:(?:most\s+)?likely\s+|clearly\s+|probably\s+|definitely\s+|therefore\s+|thus\s+|indeed\s+|simply\s+)*"
NOUN = rf"""{SURE}(?:(?:the\s+)?(?:correct\s+|right\s+|best\s+|final\s+)*
    (?:answer|option|choice|letter)(?:\s+(?:is|would\s+be))?\s*[:：]?\s*{SURE})?"""
LETTER = re.compile(
    rf"""{NOUN}[\s*_]*
        (?: [(（\[【]\s*(?P<bracketed>[A-Za-z])\s*[)）\]】] | (?P<bare>[A-Za-z])(?![\w'’]) )
        [*_]* (?P<rest>.*)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
REASON = (
    r"\b(?:because|since|as(?!\s+(?:well|good))(?<!well\sas)(?<!good\sas)|which|due|given|based|so|for|not|rather|instead"
    r"|than)\b"
)
ENDS = re.compile(
    rf"\s*(?:$|[.:,;](?!\w)|[)）。、，：；—–(（]|\s-\s|{REASON}|is\s+(?:the\s+)?(?:correct|right|best|true|answer)\b)",
    re.IGNORECASE,
)
LINE = re.compile(r"\s*(?:$|[).:：）](?:\s|$)|is\s+(?:the\s+)?(?:correct|right|best|true|answer)\b)", re.IGNORECASE)
NAMED = re.compile(
    r"[(（\[【]\s*([A-Za-z])\s*[)）\]】]|(?<![\w'’-])([A-Z])(?![\w'’])(?!(?<=A)\s+[a-z])(?!(?<=I)\s+[a-z])"
)
SENTENCE = re.compile(r"[.;!?。；\n](?!\w)|(?<=\w)[.](?=[A-Z]\b)")
CUT = re.compile(REASON, re.IGNORECASE)
JOINS = re.compile(
    r"(?:^|\b)(?:or|and|also|too|alternatively|alternative|maybe|perhaps|possibly|possible|could|might|may|either|otherwise|choose|pick"
    r"|select|well|as\s+good|equally|then|plus|unless|else)\b|[或和与/&+]|[)）\]】]\s*[(（\[【]",
    re.IGNORECASE,
)
ALONE = re.compile(r"\W*(?:[A-Za-z]\b\W*)+")  # letters, and signs between them
OFFERS = re.compile(
    r"\b(?:also|alternatively|maybe|perhaps|possibly|possible|could|might|choose|pick|select)\b", re.IGNORECASE
)
DENIES = re.compile(
    r"\b(?:wrong|incorrect|false|not|no|never|isn't|aren't|neither|nor|out|impossible|eliminated?)\b", re.IGNORECASE
)
REFUSED = re.compile(
    r"[\s:.,;—–(（*_-]*(?:is\s+|was\s+)?(?:(?:wrong|incorrect|false|untrue|impossible|no)\b(?!\s+doubt)|not?\s+(?:right|correct|the)\b|\?)"
    r"|\s+(?:isn't|is\s+not|cannot|can't|is\s+never)\b",
    re.IGNORECASE,
)
PICKS = re.compile(r"\b(?:choose|pick|select|go\s+with)[ ]+(\S[^\n]*)", re.IGNORECASE)
ALSO = re.compile(r"\b(?:also|too|as\s+well)\b", re.IGNORECASE)
MOST_READ = 10_000  # characters of an answer that names a choice, with its reasons
BOTH = re.compile(r"\b(?:both|either|neither|not|all|none|any)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Choice:
    """1.0 if the answer picks the option of the reference, and no other beside it, else 0.0.

    The answer is the marked one (in tags, in a box, after "the answer is"), else the first or the last line, if that is
    a choice and nothing else. A choice is a letter in any of its usual spellings (`B`, `(b)`, `B) Paris`, `**B.**`,
    `option B`), or the very text of an option, where the problem has `options` or `choices` in `info`: a list, a
    mapping from letters, or one list of `text` and one of `label`. Two letters ("A and B", "A or B") are wrong,
    whatever they are; so is a letter beside the text of another option. The reference is a letter, an option's text or,
    with `first_index`, a number.

    Raises:
        ValueError: the reference names no option, or the options are in none of these forms.
    """

    letters: str = "ABCDEFGHIJ"  # that may be chosen where the problem has no options
    first_index: Whole | None = None  # the reference is the number of an option, counted from here

    def __post_init__(self) -> None:
        if not re.fullmatch("[A-Z]+", self.letters) or len(set(self.letters)) < len(self.letters):
            raise ValueError(f"letters {self.letters!r}: expected capital letters, each once, such as 'ABCD'")

    def __call__(self, problem: Problem, text: str) -> Score:
        options = _options(problem.info)
        expected = self._reference(problem.answer, options)
        found, why = self._picked(text, options)
        if not found:
            return Score(0.0, "unparsable", reason=why or "no choice in the answer")
        right = found == {expected}
        read = " and ".join(sorted(found))
        reason = f"read {read}, expected {expected}"
        return Score(float(right), "correct" if right else "wrong", reason=reason, answer=read)

    def _reference(self, answer: str, options: Mapping[str, str]) -> str:
        letters = "".join(options) or self.letters
        if self.first_index is not None:
            place = int(answer) - self.first_index if re.fullmatch(r"\s*-?\d+\s*", answer) else -1
            if 0 <= place < len(letters):
                return letters[place]
        else:
            found = self._letters(answer, options)[0]
            if len(found) == 1:
                return found.pop()
        told = f"one of {', '.join(letters)}" + (" or the text of an option" if options else "")
        raise ValueError(f"the reference {answer!r} names no option; expected {told}; a number needs `first_index`")

    def _picked(self, text: str, options: Mapping[str, str]) -> tuple[set[str], str]:
        """Letters that an answer picks, and a remark for the reason."""
        answer, said = marked(text), after_thoughts(text)
        if answer is None and (picks := PICKS.findall(said)):
            answer = (
                picks[-1] if not ALSO.search(said, max(0, len(said) - MOST_READ)) else "; I choose ".join(picks[-9:])
            )
        if answer is not None:
            if len(answer) > MOST_READ:
                return set(), _long(answer)
            whole, last = self._letters(answer, options), self._letters(innermost(answer), options)
            return whole if len(whole[0]) > 1 or not last[0] else last
        lines = said.strip().splitlines()
        found: set[str] = set()
        for line in lines[:1] + lines[-1:]:
            letters, _ = self._letters(line[:MOST_READ], options, LINE)
            if letters and len(line) > MOST_READ:
                return set(), _long(line)
            found |= letters
        return found, ""

    def _letters(self, answer: str, options: Mapping[str, str], ends: re.Pattern[str] = ENDS) -> tuple[set[str], str]:
        """Letters that a marked answer or a line names, and the reason where there are none."""
        plain, allowed = unwrapped(answer).strip(" \t\n$*_`\"'{}"), set(options or self.letters)
        whole = alike(plain)
        same = {letter for letter, option in options.items() if whole and alike(option) == whole}
        if same and plain not in allowed:
            return same, ""
        match = LETTER.fullmatch(plain)
        if not match:
            named = set(re.findall(r"\b[A-Z]\b", plain)) & allowed
            return (named if BOTH.match(plain) and len(named) > 1 else set()), ""
        written, rest = match["bracketed"] or match["bare"], match["rest"]
        letter, stated = written.upper(), alike(rest.lstrip(" ).:,-"))
        if letter not in allowed:
            return set(), f"{letter} is no option"
        beside = {other for other, option in options.items() if stated and alike(option) == stated}
        if not beside and REFUSED.match(rest):
            return set(), f"{letter} is denied"
        own = options.get(letter, "").strip()
        told = rest.lstrip(" ).:,-*")
        others = _others(told[len(own) :] if own and told.casefold().startswith(own.casefold()) else rest)
        others &= allowed - {letter}
        article = written == "a" and rest[:1] == " "
        if not (match["bracketed"] or beside or others or (ends.match(rest) and not article)):
            return set(), ""
        return {letter} | beside | others, ""


def _others(rest: str) -> set[str]:
    """Letters that words or signs join to a choice, up to the reasons for it, and in sentences behind it."""
    first, *later = SENTENCE.split(rest)
    reasoned = CUT.search(first) is not None
    named: set[str] = set()
    for sentence in (CUT.split(first, maxsplit=1)[0], *later):
        joined = ALONE.fullmatch(sentence) or (OFFERS if reasoned and sentence in later else JOINS).search(sentence)
        if joined and not DENIES.search(sentence):
            named |= _named(CUT.split(sentence, maxsplit=1)[0])
    return named


def _named(text: str) -> set[str]:
    return {(letter[1] or letter[2]).upper() for letter in NAMED.finditer(text)}


def _long(answer: str) -> str:
    return f"a choice of {len(answer)} characters; expected at most {MOST_READ}"


def _options(info: Mapping[str, Any]) -> dict[str, str]:
    """Read the options by their letters; empty where the problem has none.

    Raises:
        ValueError: they have no known form.
    """
    given = next((info[column] for column in COLUMNS if info.get(column)), None)
    if given is None:
        return {}
    if isinstance(given, Mapping) and isinstance(given.get("text"), list) and isinstance(given.get("label"), list):
        labels = [str(label) for label in given["label"]]
        numbered = labels == [str(n) for n in range(1, len(labels) + 1)]
        given = dict(zip(ascii_uppercase if numbered else labels, given["text"], strict=False))
    if isinstance(given, list) and len(given) <= len(ascii_uppercase):
        given = dict(zip(ascii_uppercase, given, strict=False))
    if not isinstance(given, Mapping) or not all(re.fullmatch("[A-Z]", str(letter)) for letter in given):
        raise ValueError(f"options {given!r}: expected a list, a mapping from letters, or lists `text` and `label`")
    bare = {str(letter): str(text) for letter, text in given.items()}
    return {letter: re.sub(rf"^\s*[(\[]?{letter}\s*[).:\]]\s*", "", text) for letter, text in bare.items()}


def alike(text: str) -> str:
    """Normalise an option's text: without case, and without spaces and punctuation around it."""
    return re.sub(r"\s+", " ", unwrapped(text).strip(" \t\n$*_`\"'.,;:()")).casefold()


plugin = Choice
