"""Find the final answer in the text of a completion."""

from __future__ import annotations

import re
from collections import deque

from llmrl.answers.delimited import Formula, braces, formulas, replaced, tagged
from llmrl.answers.stated import Statements
from llmrl.answers.thoughts import after_thoughts

BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?=[{\s\w\\-])")
CONTROL = re.compile(r"<\|[a-z_]+\|>.*", re.DOTALL)
STATED = Statements(
    r"####|a:",
    r"(?: [^\S\n]*\#\#\#\# | [^\w\n]*a: )[\s:*]*",
    "答案|answer|solution|result",
    r"""(?: 答案(?:是|为|：|:)+
          | (?:answers?
              | (?:solutions?|results?)(?=[^.\n]{0,6}(?:is|are|[:：=])[\s:*]*[-$\\(\[{\d]))
            (?:[ ]to[ ][^.:\n]{1,60}?)?\**(?:[ ]is\b|\s?[:：=]|[ ]are\b)
            (?![ ](?:not|as|in|to|found|incorrect|wrong|correct)\b)
            (?:[ ]*(?:thus|therefore|then|simply|equal[ ]to)\b)? )[\s:*]*""",
)
TELLS = re.compile(
    r"\b(?:is|are|was|were|has|have|gets?|pays?|costs?|total|so|thus|therefore|hence|he|she|it|we|they)\b", re.I
)
DENIED = re.compile(r"\b(?:not|never|isn't|unless|except|than)(?:\s+(?:it|is|be|that|equal|to))*[\s$\\({*]*$", re.I)
SENTENCE_END = re.compile(r"(?<=[^.\s])[.!?](?=\s|\*|$)|[。！？]|\n\n")
CONNECTOR = r"(?:\\text\s*\{\s*(?:and|or|,)\s*\}|\b(?:and|or)\b|\\q?quad|\\[,;!: ]|\\[\[\]()]|[\s,;$&.*]|\\\\)*"
WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?:'[a-z]+)?")
NOT_MATH = re.compile(
    r"(?<![\\A-Za-z{])[A-Za-z]{3,}(?![A-Za-z}])|(?<![\\A-Za-z\d)}])(?:is|it|to|of|in|so|as|at|we|be|an|he|or|no)\b"
    r"|[^\x00-\x7f\u00b0-\u00be\u0391-\u03c9\u2070-\u22ff\u20ac\u00a3\u00d7\u00f7]+|[.!?;:](?=\s|\*|$)|'[a-z]+|\n"
)
CJK = re.compile(r"[\u3040-\u9fff]")
LATIN_WORDS_OF_MATHS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "log",
        "ln",
        "sqrt",
        "pi",
        "and",
        "or",
        "infinity",
        "inf",
        "oo",
        "dollar",
        "dollars",
        "cent",
        "cents",
        "percent",
        "degree",
        "degrees",
        "arcsin",
        "arccos",
        "arctan",
        "theta",
        "alpha",
        "beta",
    ]
)
FORMULA_END = re.compile(r"\$|\\\]|\\\)|\n")
TOKEN = re.compile(r"\s*(-?\d[\d.,]*\d|\\?\w+)")  # in a box without braces
MOST_READ = 100_000  # characters of a text that marks no answer, from its end
MOST_BETWEEN = 1000  # characters between two boxes that are one answer


def final_answer(text: str, reference: bool = False) -> str | None:
    """Extract the answer that a text gives, still as written; None where it gives none.

    In this order: the content of the last answer tags; the last box (boxes joined by "and" count as one answer);
    the last stated answer (`#### 5`, `A: 5`, "the answer is 5"); the text itself, if it is nothing but an answer; the
    last formula or number of prose. A `reference` is taken whole where nothing in it is marked.
    """
    text = CONTROL.sub("", text)
    text = after_thoughts(text)
    if (inside := tagged(text)) is not None:
        text = inside
    if not text.strip():
        return None
    if (boxed := last_box(text)) is not None:
        return _undelimited(boxed) or None  # formulas inside a box may stand between dollars
    stated = next((answer for answer in reversed(STATED.all(text)) if re.search(r"\w|\\", answer)), None)
    if stated is not None:
        return _stated(STATED.innermost(stated)[:MOST_READ])  # "Final Answer: The final answer is 5"
    if reference:
        return _undelimited(text)
    text = text[-MOST_READ:]
    answer = _bare_or_prose(text)
    return None if not answer or DENIED.search(text.rpartition(answer)[0]) else answer


def last_box(text: str) -> str | None:
    """Content of the last box, or of the last few where only "and" or a comma stands between them."""
    boxes = _boxes(text)
    if not boxes:
        return None
    start, _, answer = boxes[-1]
    for before in reversed(boxes[:-1]):
        between = text[before[1] : start]
        if start < before[1] or not between.strip() or not re.search(r"and|or|,|;", between):
            break
        if len(between) > MOST_BETWEEN or not re.fullmatch(CONNECTOR, between):
            break
        answer, start = f"{before[2]}, {answer}", before[0]
    return answer


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """Start, end and content of the last eight boxes; a box that never closes runs to the end of its formula."""
    matches = deque(BOX.finditer(text), maxlen=8)
    closings = braces(text, [match.end() for match in matches if text.startswith("{", match.end())])
    boxes = []
    for match in matches:
        start = match.end()
        if start in closings:
            boxes.append((match.start(), closings[start] + 1, text[start + 1 : closings[start]]))
        elif text.startswith("{", start):
            rest = FORMULA_END.split(text[start + 1 :], maxsplit=1)[0]
            boxes.append((match.start(), start + 1 + len(rest), rest))
        elif token := TOKEN.match(text, start):
            boxes.append((match.start(), token.end(), token[1]))
    return boxes


def _stated(rest: str) -> str:
    """The answer at the start of what follows "the answer is"."""
    found = formulas(rest)
    if found:
        first, before = found[0], rest[: found[0].start]
        if not WORD.search(before) and not re.search(r"\d", before):
            parts, end = [first.inside], first.end
            for formula in found[1:]:
                between = rest[end : formula.start]
                if not re.fullmatch(CONNECTOR, between) or not re.search(r"and|or|,", between):
                    break
                parts.append(formula.inside)
                end = formula.end
            unit = re.match(r"\s*(%|percent\b|[A-Za-z]+)", rest[end:])
            kept = unit and len(parts) == 1 and unit[1].lower() in ("%", "percent")
            return ", ".join(parts) + (r"\%" if kept else "")
    plain = SENTENCE_END.split(rest.strip("* "), maxsplit=1)[0].strip().strip("*").strip()
    return _undelimited(plain) if len(WORD.findall(plain)) <= 4 and not CJK.search(plain) else _bare_or_prose(plain)


def _bare_or_prose(text: str) -> str:
    found = formulas(text)
    outside = replaced(text, found, " ")
    words = [word for word in WORD.findall(outside) if word.lower() not in LATIN_WORDS_OF_MATHS]
    if found and words:
        return found[-1].inside if _is_last(found[-1], text) else _last_run(text)
    sentence = len(words) > 1 and TELLS.search(outside) and re.search(r"\d", outside)
    if sentence or len(words) > 4 or CJK.search(outside) or ("'" in outside and len(words) > 1):
        return _last_run(text)
    return _undelimited(text)


def _is_last(formula: Formula, text: str) -> bool:
    """Tell whether no number follows the formula."""
    return not re.search(r"\d", text[formula.end :])


def _last_run(text: str) -> str:
    """The last stretch of prose that looks like mathematics; all of it where nothing does."""
    for run in reversed(NOT_MATH.split(text)):
        if run and re.search(r"\d|\\[a-zA-Z]+", run):
            return run.strip(" \t*_\"'`,.;:()[]=$") if "\\" not in run else run.strip(" \t*_,.;:$")
    return text.strip()


def _undelimited(text: str) -> str:
    """Remove the delimiters around formulas: dollars, `\\(...\\)`, `\\[...\\]`."""
    return replaced(text, formulas(text), " {} ").strip()
