"""Find the final answer in the text of a completion."""

from __future__ import annotations

import re

from llmrl.answers.thoughts import after_thoughts

BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?=[{\s\w\\-])")
ANSWER_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
CONTROL = re.compile(r"<\|[a-z_]+\|>.*", re.DOTALL)
STATED = re.compile(
    r"""(?: ^\s*\#\#\#\#[ ]* | ^\W*A:[ ]* | 答案(?:是|为|：|:)+
          | (?:final[ ]|correct[ ])?(?:answers?
              | (?:solutions?|results?)(?=[^.\n]{0,6}(?:is|are|[:：=])[\s:*]*[-$\\(\[{\d]))
            (?:[ ]to[ ][^.:\n]{1,60}?)?\**(?:[ ]is\b|\s?[:：=]|[ ]are\b)
            (?![ ](?:not|as|in|to|found|incorrect|wrong|correct)\b)
            (?:[ ]*(?:thus|therefore|then|simply|equal[ ]to)\b)? )
        [\s:*]*(?P<answer>\S.*?)\s*$""",
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)
TELLS = re.compile(
    r"\b(?:is|are|was|were|has|have|gets?|pays?|costs?|total|so|thus|therefore|hence|he|she|it|we|they)\b", re.I
)
MATH = re.compile(
    r"(?<!\\)\$\$(.+?)(?<!\\)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<!\\)\$((?:[^$\\]|\\.)+?)(?<!\\)\$(?!\d)", re.DOTALL
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
LATIN_WORDS_OF_MATHS = re.compile(
    r"\b(?:sin|cos|tan|cot|sec|csc|log|ln|sqrt|pi|and|or|infinity|inf|oo|dollars?|cents?|percent|degrees?|"
    r"arcsin|arccos|arctan|theta|alpha|beta)\b",
    re.IGNORECASE,
)


def final_answer(text: str, reference: bool = False) -> str | None:
    """Extract the answer that a text gives, still as written; None where it gives none.

    In this order: the content of the last answer tags; the last box (boxes joined by "and" count as one answer);
    the last stated answer (`#### 5`, `A: 5`, "the answer is 5"); the text itself, if it is nothing but an answer; the
    last formula or number of prose. A `reference` is taken whole where nothing in it is marked.
    """
    text = CONTROL.sub("", text)
    text = after_thoughts(text)
    if tagged := ANSWER_TAG.findall(text):
        text = tagged[-1]
    if not text.strip():
        return None
    if (boxed := last_box(text)) is not None:
        return _undelimited(boxed) or None  # formulas inside a box may stand between dollars
    if stated := [m["answer"] for m in STATED.finditer(text) if re.search(r"\w|\\", m["answer"])]:
        answer = stated[-1]
        while match := STATED.search(answer):  # "Final Answer: The final answer is 5"
            answer = match["answer"]
        return _stated(answer)
    if reference:
        return _undelimited(text)
    answer = _bare_or_prose(text)
    return None if DENIED.search(text.rpartition(answer)[0]) else answer


def last_box(text: str) -> str | None:
    """Content of the last box, or of the last few where only "and" or a comma stands between them."""
    boxes = [box for match in list(BOX.finditer(text))[-8:] if (box := _content(text, match)) is not None]
    if not boxes:
        return None
    start, _, answer = boxes[-1]
    for before in reversed(boxes[:-1]):
        between = text[before[1] : start]
        if start < before[1] or not between.strip() or not re.search(r"and|or|,|;", between):
            break
        if not re.fullmatch(CONNECTOR, between):
            break
        answer, start = f"{before[2]}, {answer}", before[0]
    return answer


def _content(text: str, match: re.Match[str]) -> tuple[int, int, str] | None:
    """Start, end and content of one box; a box that never closes runs to the end of its formula."""
    start = match.end()
    if start >= len(text) or text[start] != "{":
        token = re.compile(r"\s*(-?\d[\d.,]*\d|\\?\w+)").match(text, start)
        return (match.start(), token.end(), token[1]) if token else None
    depth = 0
    for end in range(start, len(text)):
        if text[end] in "{}" and _unescaped(text, end):
            depth += 1 if text[end] == "{" else -1
            if depth == 0:
                return match.start(), end + 1, text[start + 1 : end]
    rest = re.split(r"\$|\\\]|\\\)|\n", text[start + 1 :])[0]
    return match.start(), start + 1 + len(rest), rest


def _unescaped(text: str, place: int) -> bool:
    """Tell whether an even number of backslashes stands before a place: `\\\\}` closes a group, `\\}` does not."""
    start = place
    while text[start - 1 : start] == "\\":
        start -= 1
    return (place - start) % 2 == 0


def _stated(rest: str) -> str:
    """The answer at the start of what follows "the answer is"."""
    formulas = list(MATH.finditer(rest))
    if formulas:
        first, before = formulas[0], rest[: formulas[0].start()]
        if not WORD.search(before) and not re.search(r"\d", before):
            parts, end = [_inside(first)], first.end()
            for formula in formulas[1:]:
                between = rest[end : formula.start()]
                if not re.fullmatch(CONNECTOR, between) or not re.search(r"and|or|,", between):
                    break
                parts.append(_inside(formula))
                end = formula.end()
            unit = re.match(r"\s*(%|percent\b|[A-Za-z]+)", rest[end:])
            kept = unit and len(parts) == 1 and unit[1].lower() in ("%", "percent")
            return ", ".join(parts) + (r"\%" if kept else "")
    plain = SENTENCE_END.split(rest.strip("* "))[0].strip().strip("*").strip()
    return _undelimited(plain) if len(WORD.findall(plain)) <= 4 and not CJK.search(plain) else _bare_or_prose(plain)


def _bare_or_prose(text: str) -> str:
    formulas = list(MATH.finditer(text))
    outside = MATH.sub(" ", text)
    words = [word for word in WORD.findall(outside) if not LATIN_WORDS_OF_MATHS.fullmatch(word)]
    if formulas and words:
        return _inside(formulas[-1]) if _is_last(formulas[-1], text) else _last_run(text)
    sentence = len(words) > 1 and TELLS.search(outside) and re.search(r"\d", outside)
    if sentence or len(words) > 4 or CJK.search(outside) or ("'" in outside and len(words) > 1):
        return _last_run(text)
    return _undelimited(text)


def _is_last(formula: re.Match[str], text: str) -> bool:
    """Tell whether no number follows the formula."""
    return not re.search(r"\d", text[formula.end() :])


def _last_run(text: str) -> str:
    """The last stretch of prose that looks like mathematics; all of it where nothing does."""
    runs = [
        run.strip(" \t*_\"'`,.;:()[]=$") if "\\" not in run else run.strip(" \t*_,.;:$") for run in NOT_MATH.split(text)
    ]
    mathematical = [run for run in runs if re.search(r"\d|\\[a-zA-Z]+", run)]
    return mathematical[-1] if mathematical else text.strip()


def _inside(formula: re.Match[str]) -> str:
    return next(group for group in formula.groups() if group is not None).strip()


def _undelimited(text: str) -> str:
    """Remove the delimiters around formulas: dollars, `\\(...\\)`, `\\[...\\]`."""
    return MATH.sub(lambda match: f" {_inside(match)} ", text).strip()
