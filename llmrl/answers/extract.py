"""Find the final answer in the text of a completion."""

from __future__ import annotations

import re

from llmrl.answers.boxes import behind_boxes, last_box
from llmrl.answers.delimited import Formula, formulas, replaced, tagged
from llmrl.answers.hedges import before_it, behind_it, corrected, refused, taken_back
from llmrl.answers.normalise import one_backslash
from llmrl.answers.spelling import word_set
from llmrl.answers.stated import IS, NOUNS, Statements
from llmrl.answers.thoughts import after_thoughts
from llmrl.answers.units import leading
from llmrl.answers.words import valued_choice

CONTROL = re.compile(r"<\|[a-z_]+\|>.*", re.DOTALL)
STATED = Statements(
    r"####|a:",
    r"(?: [^\S\n]*\#\#\#\# | [^\w\n]*a: )[\s:*]*",
    "答案|answer|solution|result|" + NOUNS + "|ответ|الجواب|الإجابة|الاجابة|النتيجة|الناتج|उत्तर|जवाब",
    r"""(?: 答案(?:是|为|：|:)+
          | (?:answers?
              | (?:solutions?|results?)(?=[^.\n]{0,6}(?:is|are|[:：=])[\s:*]*[-$\\(\[{\d]))
            (?:[ ]to[ ][^.:\n]{1,60}?)?\**(?:[ ]is\b|\s?[:：=]|[ ]are\b)
            (?![ ](?:not|as|in|to|found|incorrect|wrong|correct)\b)
            (?:[ ]*(?:thus|therefore|then|simply|exactly|precisely|just|indeed|clearly|equal[ ]to)\b)?
          | (?:"""
    + NOUNS
    + r""")s?\**
            """
    + IS
    + r"""
            (?:[ ](?:donc|alors|égale?[ ]à|igual[ ]a|entonces|portanto|quindi|also|daher)\b)?
          | ответ\**(?:\s?[:：=-]|[ ]равен\b)?(?=[\s:*-]*[-$\\(\[{\d])
          | (?:الجواب|الإجابة|الاجابة|النتيجة|الناتج)(?:[ ](?:النهائي|النهائية|الصحيح|الصحيحة))?
            [ ]?(?:هو|هي|يساوي|تساوي|[:：=])
          | (?:उत्तर|जवाब)\s?(?:है|[:：=-])?(?=[\s:*]*[-$\\(\[{\d]) )[\s:*]*""",
)
TELLS = re.compile(
    r"\b(?:is|are|was|were|has|have|gets?|pays?|costs?|total|so|thus|therefore|hence|he|she|it|we|they|be|gives?|equals?"
    r"|makes?|yields?|est|sont|es|son|ist|sind|hay|había|quedan?|existen?|tienen?|reste|restent|il y|hat|haben|gibt"
    r"|bleiben|ci sono|restano|rimangono|hanno|existem|restam|sobram|tem|zijn|heeft|ada|toplam|finns)\b",
    re.I,
)
GIVES = re.compile(
    r"(?:\b(?:is|are|was|were|be|equals?|gives?|makes?|yields?|leaves|est|sont|vaut|donne|es|son|ist|sind|beträgt|sono|são"
    r"|hay|quedan?|existen?|tienen?|[Ii]l y (?:en )?a|[Ii]l (?:en )?reste|hat|gibt es|es gibt|ci sono"
    r"|ha|existem|tem|toplam)\b"
    r"|(?<!\w)(?:é|è|هو|هي|يساوي|تساوي|равн[аоы]|равен)(?!\w)|=)[\s:*]*(?=[-−]?[$\\(\[{]*[-−]?\d|\$|\\)"
)
BECAUSE = re.compile(
    r"[^\d\n]{0,24}?(?:\b(?:because|since|as(?! well)|for|when|after|with|where|which|who|from|out of|every|per|car"
    r"|parce|puisque|pour|avec|porque|ya que|para|con|denn|weil|für|mit|aus)\b"
    r"|لأن|حيث|لعدد|क्योंकि|चूंकि|потому|так как|из)"
)
REASON = re.compile(
    r"[,;]?\s+(?:because|since|which|where|so|thus|due|given|car|porque|denn|weil)\b"
    r"|[,;]\s+(?:as|for|that is|(?:and\s+)?not)\b",
    re.I,
)
WHY = re.compile(r"\b(?:because|since|car|parce|puisque|porque|denn|weil)\b|لأن|क्योंकि|потому|因为")
LABEL = re.compile(r"\**([A-Z][A-Za-z ]{2,40})\**:\**\s+(?=\S)")
LABELLED = re.compile(r"\\(?:text|mathrm|textrm)\s*\{[^{}]*\}")
ENUMERATED = re.compile(r"[.!?]\s+[-−$\\(]*\d[\d.,/$)\s]*(?:\.|$)")  # 5. 6. 7.
LETTER = re.compile(r"\(?[A-H][).:]+\s+(?=[-−$\\\d])")
GOES_ON = re.compile(r"\s*(?:[-–/:×÷^+*]|\\(?:times|cdot|div)|to)\s*[$\\({]*\d")  # $5$/6, $5$ to $6$
COUNTED = re.compile(r"(?<![\w.])\d[\d.,]*\s+[^\W\d_]{3,}\s+(?:and|et|y|und|e|и)\s*$")  # 3 boys and 4 girls
NEAR = 80  # characters before a number that are read for another
TOUCHING = re.compile(r"[A-Za-z\u00c0-\u052f]")  # a letter that belongs to the number before it
SENTENCE_END = re.compile(r"(?<=[^.\s])[.!?](?=\s|\*|$)|[。！？।؟]|\n\n")
CONNECTOR = r"(?:\\text\s*\{\s*(?:and|or|,)\s*\}|\b(?:and|or)\b|\\q?quad|\\[,;!: ]|\\[\[\]()]|[\s,;$&.*]|\\\\)*"
WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?:'[a-z]+)?")
NOT_MATH = re.compile(
    r"(?<![\\A-Za-z{])(?:[A-Za-z]{3,}(?![A-Za-z}])|[A-Za-z]{0,3}[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f]\w*)|(?<![\\A-Za-z\d)}])(?:is|it|to|of|in|so|as|at|we|be|an|he|or|no)\b"
    r"|[^\x00-\x7f\u00b0-\u00be\u0391-\u03c9\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\u2070-\u22ff\u20ac\u00a3\u00d7\u00f7]+"
    r"|[.!?;:](?=\s|\*|$)|'[a-z]+|\n"
)
FOREIGN = re.compile(
    r"[^\W\d_a-zA-Z\u0391-\u03c9\u00b2-\u00be\u2070-\u209f\u2100-\u214f]"
)  # a letter of prose that is not English
LATIN_WORDS_OF_MATHS = word_set(
    """sin cos tan cot sec csc log ln sqrt pi and or infinity inf oo dollar dollars cent cents percent degree degrees
    arcsin arccos arctan theta alpha beta base"""
)
MOST_READ = 100_000  # characters of a text that marks no answer, from its end
MOST_SENTENCES = 200  # of it, from its end, in which the last number is looked for


def final_answer(text: str, reference: bool = False) -> str | None:
    """Extract the answer that a text gives, still as written; None where it gives none.

    In this order: the content of the last answer tags; the last box (boxes joined by "and" count as one answer);
    the last stated answer (`#### 5`, `A: 5`, "the answer is 5"); the text itself, if it is nothing but an answer; the
    result that the last sentence states, or its last formula or number. Words that take an answer back (a denial, a
    bound, an alternative) leave none; what corrects it ("wait, it is 6") takes its place. A `reference` is taken whole
    where nothing in it is marked.
    """
    text = one_backslash(CONTROL.sub("", text))
    text = after_thoughts(text)
    if (inside := tagged(text)) is not None:
        text = inside
    if not text.strip():
        return None
    if (boxed := last_box(text)) is not None:
        if not boxed:
            return _bare_or_prose(corrected(behind_boxes(text)) or "") or None
        return _undelimited(one_backslash(boxed)) or None  # formulas inside a box may stand between dollars
    for start, answer in reversed(STATED.placed(text)):
        if re.search(r"\w|\\", answer):
            if refused(text[:start]):
                return None
            if (instead := corrected(text[start:])) is not None and not STATED.last(instead):
                return _bare_or_prose(instead) or None
            return _stated(STATED.innermost(answer)[:MOST_READ]) or None  # "Final Answer: The final answer is 5"
    return _undelimited(text) if reference else _bare_or_prose(text[-MOST_READ:]) or None


def _stated(rest: str) -> str:
    """The answer at the start of what follows "the answer is"; empty where words take it back."""
    found = formulas(rest)
    if found:
        first, before = found[0], rest[: found[0].start]
        if not WORD.search(before) and not re.search(r"\d", before) and not FOREIGN.search(before):
            parts, end = [first.inside], first.end
            for formula in found[1:]:
                between = rest[end : formula.start]
                if not re.fullmatch(CONNECTOR, between) or not re.search(r"and|or|,", between):
                    break
                parts.append(formula.inside)
                end = formula.end
            return _kept(", ".join(parts), before, rest[end:], unit=len(parts) == 1)
    rest = rest.strip("* ")
    sentence = SENTENCE_END.split(rest, maxsplit=1)[0]
    if (letter := LETTER.match(rest)) and (letter[0] not in sentence or sentence == letter[0].rstrip()):
        value = SENTENCE_END.split(rest[letter.end() :], maxsplit=1)[0]
        if valued_choice(letter[0] + value):
            sentence = letter[0] + value
    if behind_it(rest[len(sentence) :]) or ENUMERATED.match(rest, len(sentence)):
        return ""
    plain = sentence.strip().strip("*").strip()
    start = _run(plain)
    behind = plain[plain.find(start) + len(start) :]
    counts = re.search(r"\d|\\", start)
    if counts and (FOREIGN.search(plain) or (re.search(r"\d", behind) and BECAUSE.match(behind))):
        return _kept(start, "", behind)
    short = REASON.split(plain, maxsplit=1)[0]
    words = WORD.findall(replaced(short, formulas(short), " "))
    told = [word for word in words if word.lower() not in LATIN_WORDS_OF_MATHS]
    if len(words) <= 4 and not FOREIGN.search(short) and not (told and GIVES.search(short)):
        return _undelimited(short)
    return _kept(start, "", behind) if counts else _bare_or_prose(plain)


def _bare_or_prose(text: str) -> str:
    if (label := LABEL.match(text)) and not before_it(label[1]) and "\n" not in text.strip():
        return _bare_or_prose(text[label.end() :])
    found = formulas(text)
    outside = replaced(text, found, " ")
    words = [word for word in WORD.findall(outside) if word.lower() not in LATIN_WORDS_OF_MATHS]
    sentence = len(words) > 1 and TELLS.search(outside) and re.search(r"\d", text)
    if (
        (found and words)
        or sentence
        or len(words) > 4
        or FOREIGN.search(LABELLED.sub(" ", outside))
        or ("'" in outside and len(words) > 1)
    ):
        return _result(text, found)
    return _undelimited(text)


def _result(text: str, found: list[Formula]) -> str:
    """The result that the last sentence with a number states, else the last formula, number or run of mathematics."""
    sentences = [sentence for sentence in SENTENCE_END.split(text)[-MOST_SENTENCES:] if sentence.strip()]
    last = next((each for each in reversed(sentences) if re.search(r"\d|\\[a-zA-Z]|\$", each)), "")
    inner, why = formulas(last), WHY.search(last)
    given_before = [given for given in GIVES.finditer(last) if why is None or given.end() <= why.start()]
    for given in reversed(given_before[-8:]):
        if any(each.start < given.start() < each.end for each in inner):
            continue
        formula = next((each for each in inner if each.start >= given.end()), None)
        if formula and not last[given.end() : formula.start].strip():
            answer, end = formula.inside, formula.end
        else:
            answer = _run(last[given.end() :])
            end = last.find(answer, given.end()) + len(answer)
        if answer and (not re.search(r"\d", last[end:]) or BECAUSE.match(last[end:])):
            term = _run_before(last[: given.start()]).replace("$", "") if given[0].startswith("=") else ""
            return _kept(
                f"{term}={answer}" if term else answer,
                last[: given.start()] if term else last[: given.end()],
                last[end:],
            )
    if found and not re.search(r"\d", text[found[-1].end :]):
        return _kept(found[-1].inside, text[: found[-1].start], text[found[-1].end :])
    answer = _last_run(text)
    before, _, after = text.rpartition(answer)
    if not answer or COUNTED.search(before[-NEAR:]):
        return ""
    return _kept(answer, before, after, unit=answer != text.strip())


def _kept(answer: str, before: str, after: str, unit: bool = True) -> str:
    """The answer with the unit that stands behind it; empty where the words around it take it back."""
    if taken_back(before, after) or GOES_ON.match(after) or (answer[-1:].isdigit() and TOUCHING.match(after)):
        return ""
    name = leading(after) if unit else ""
    if not name:
        return answer
    return answer + (r"\%" if name in ("%", "\\%", "percent") else rf"\text{{ {name}}}")


def _run(text: str) -> str:
    """The mathematics at the start of a text."""
    return NOT_MATH.split(text, maxsplit=1)[0].strip(" \t*_\"'`,;$")


def _run_before(text: str) -> str:
    return NOT_MATH.split(text)[-1].strip(" \t*_\"'`,;$")


def _last_run(text: str) -> str:
    """The last stretch of prose that looks like mathematics; all of it where nothing does."""
    for run in reversed(NOT_MATH.split(text)):
        if run and re.search(r"\d|\\[a-zA-Z]+", run):
            return run.strip(" \t*_\"'`,.;:()[]=$") if "\\" not in run else run.strip(" \t*_,.;:$")
    return text.strip()


def _undelimited(text: str) -> str:
    """Remove the delimiters around formulas: dollars, `\\(...\\)`, `\\[...\\]`."""
    return replaced(text, formulas(text), " {} ").strip()
