"""Recognise words around an answer that take it back: denials, bounds, alternatives, operations in words.

In doubt the words count: rewarding a hedge does more harm than missing an answer that is written oddly.
"""

from __future__ import annotations

import re

from llmrl.answers.spelling import folded

BLANKS = " \n$.*)}\\]"
FAR = 2000  # characters behind an answer in which a sentence may begin that corrects it
NEAR = 120  # characters on each side of an answer that are read
MARKUP = re.compile(r"<[^<>\n]{0,40}>|\\(?:boxed|text|textbf|mathbf|mathrm)(?=\s*\{)|\\[()\[\],;:! ]|[*_`$(){}\[\]~]")
SENTENCE = re.compile(r"[.!?;](?=\s|$)|[。！？；।]|\n\s*\n")
SCALED = r"""(?:dozens?|hundreds?|thousands?|[mb]illions?|trillions?|tens|score|lakhs?|crores?|tausend|millionen
    |milliard(?:en?|s)?|milliers|mil|mille|mila|milion[ei]|millones|millón|milhões|milhão|milyon|docenas?|douzaines?|dutzend
    |cientos|centenas|centaines|hunderte|centinaia|decenas|dizaines|dezenas|decine
    |тысяч\w*|миллион\w*|миллиард\w*)\b|[万萬亿億백천만억]|百(?!分)|千(?![米克瓦])|हज़ार|हजार|लाख|करोड़|ألف|آلاف|مليون"""
"""Words of number that multiply the number before them."""
PARTS = r"""halves|thirds|fourths|fifths|sixths|sevenths|eighths|ninths|tenths|hundredths|thousandths
    |and\s+(?:an?|one|two|three|four|five)\s+(?:half|halves|thirds?|quarters?|fourths?|fifths?|sixths?|eighths?)"""
VERBS = r"""hay|había|habrá|quedan?|existe[nm]?|tienen?|il|y|en|a|reste|restent|gibt|es|sind|bleiben|ci|sono|restano
    |rimangono|há|restam|sobram|tem|têm|zijn|finns|هناك|يوجد|توجد"""
"""Words that say in other languages that there are things, so many of them."""
COUNTS = "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred"
LINK = (
    r"""(?:\s+(?:it|its|is|are|was|were|be|been|being|that|this|equal|equals|to|the|a|an|any|answer|result|value
    |number|solution|exactly|really|actually|simply|just|necessarily|correct|right|true|say|said|think|believe|claim|sure
    |of|as|likely|final|has|have|had|give|gives|get|gets|"""
    + VERBS
    + "))*"
)
NO = r"""not|never|\w*n't|cannot|neither|nor|(?<!no\s)(?<!without\s)doubt|false|wrong|incorrect|impossible
    |unlikely|untrue|n'est\s+pas|ne\s+\w+\s+pas|pas|nicht|keine?|no(?=\s+(?:es|son|hay|había|habrá|quedan?|existen?|tienen?)\b)|não
    |non(?=\s+(?:è|sono|ci|esist\w+|restano|rimangono)\b)|niet|geen|не|нет|ليس|ليست|لا(?=\s+(?:يوجد|توجد))|नहीं"""
REFUSED = re.compile(
    rf"(?<![\w'])(?:{NO}){LINK}\s*$|(?:不是|并非|不等于|没有|不到|不足|少于|多于|超过|至多|至少)\s*$", re.VERBOSE
)
EXCLUDED = re.compile(rf"(?<![\w'])(?:unless|except|excluding|than|anything\s+but|all\s+but){LINK}\s*$", re.VERBOSE)
BOUNDED = re.compile(
    rf"""(?:[<>≤≥≠]|\\(?:leq?|geq?|lt|gt|neq?)\b)\s*$
        |(?<![\w'])(?:at\s+most|at\s+least|up\s+to|below|above|under|over|beyond|nearly|almost|au\s+(?:plus|moins)
        |höchstens|mindestens|a\s+lo\s+sumo|al\s+menos|(?:más|menos|plus|moins|mais|più|meno)\s+d[ei]
        |(?:mehr|weniger)\s+als|больше|меньше|более|менее|почти|casi|presque|beinahe|quase|quasi){LINK}\s*$""",
    re.VERBOSE,
)
SIGNED = re.compile(
    rf"""(?<![\w'])(?:minus|negative|plus|times|multiplied\s+by|divided\s+by|modulo|mod|twice|double|triple|half
        |(?:root|square|cube|factorial|logarithm|inverse|reciprocal|half|third|percent|double)\s+of){LINK}\s*$""",
    re.VERBOSE,
)
CHANGED = re.compile(
    r"""(?<![\w'])(?:minus|negative|plus|times|multiplied\s+by|divided\s+by|twice|double|triple|half
        |(?:root|square|cube|factorial|logarithm|inverse|reciprocal|half|third|percent|double)\s+of
        |(?:less|more|greater|fewer|smaller|larger|bigger|higher|lower|other|rather)\s+than|below|above|beyond
        |unless|except|excluding|(?:anything|all)\s+but)\s*(?:(?:the|a|an|of)\s+)*$""",
    re.VERBOSE,
)
"""Words that touch a marked answer, and make it a part of something else."""
ONLY = re.compile(
    r"""(?<![\w'])(?:(?:no|none|nothing|nobody)\b[^.;]{0,40}?\s(?:other\s+than|except|but|besides)
        |(?:for|on|at)\s+(?:all|every|any)\b[^.;]{0,40}?\s(?:other\s+than|except))(?:\s+(?:for|at|where|when|the|a|an))*\s*$""",
    re.VERBOSE,
)
"""Words that leave a marked answer as the one that is asked for: `no number other than`, `for all x except`."""
DOUBTED = re.compile(
    rf"""(?<![\w'])(?:or(?!\s+(?:equivalently|simply))(?:\s+(?:maybe|perhaps|possibly|even|else|also|could|may|might|just))*
        |maybe|perhaps|possibly|alternatively|otherwise|else|(?:could|might|may)\s+(?:also\s+|just\s+)?be|ou|oder|vielleicht
        |quizás?|tal\s+vez|peut-être|forse|talvez|возможно|или|أو|(?<!\S)या){LINK}\s*,?\s*$
        |或(?:者|是)?\s*$|(?:{COUNTS})\W+(?:(?:and|to|maybe|perhaps|possibly|either)\s+)+$""",
    re.VERBOSE,
)
LATER = r"(?:\W*(?!(?:since|because|as|for|so|not|and|while|whereas|though)\b)\w+){0,4}?\W*"
ALTERNATIVE = re.compile(
    r"""(?:\W*(?!(?:since|because|as|for|so|which|where|that)\b)\w+){0,3}?\W*?
        (?<!\w)(?:as\s+well\s+as\b|or\b(?!\W*(?:equivalently|simply|in\s+other\s+words|about|approximately|rather\s+\\approx))
        |maybe\b|perhaps\b|possibly\b|alternatively\b|otherwise\b|unless\b|else\b|if\b
        |(?:could|might|may)\s+(?:also\s+)?be\b|ou\b|oder\b|или(?!\w)|أو|(?<!\S)या(?!\S)|或)""",
    re.VERBOSE,
)
REJECTED = re.compile(
    rf"""{LATER}(?<!\w)(?:wrong|incorrect|false|untrue|impossible|unlikely|invalid|rejected|excluded|ruled\s+out)\b
        |\W*(?:(?:this|that|it|but|the|answer)\W+)*(?:(?:is|are|was|were|can|could|does|do|did|will|would|must|should)
            (?:\s+not|n't)\b|cannot\b|(?:is|are|was|seems)\s+(?:too|never|far\s+from|close\s+to|almost)\b)
        |\s*\?\s*(?:\w|$) | \W*(?:\S+\s+){{0,3}}?नहीं | \W*(?:\w+\s+){{0,3}}?нет\b
        | \W*(?:不对|不正确|错) | \W*\w{{0,4}}?[이가]?\s*아[니닙]
        | \W*\w{{0,4}}?(?:では|じゃ)(?:な|あり)""",
    re.VERBOSE,
)
TOUCHING = re.compile(
    rf"""\W*(?:(?:or|maybe|perhaps|possibly|alternatively|unless|otherwise)\b
            (?!\W*(?:equivalently|simply|in\s+other\s+words|about|approximately|\\approx))
        |(?:but\s+)?(?:(?:this|that|it|which)\s+)?(?:(?:is|was|seems|are)\s+)?(?:\w+ly\s+)?(?:wrong|incorrect|false)\b
        |(?:is|was|can(?:not)?|could|does|will)\s*(?:not|n't)\s+(?:be\s+)?(?:the\s+)?(?:right|correct|answer|true|it\b|so\b)
        |(?:squared|cubed|factorial|below|point\s+\d|times\s+ten|{PARTS})\b|{SCALED})
        |\s*\?|[.,]\d""",
    re.VERBOSE,
)
RECALLED = re.compile(
    r"[\s$]*\?|\W*(?:no,?\s+(?:wait|that|it)|wait,?\s+no|(?:this|that|it)\s+(?:is|was)\s+(?:wrong|incorrect|false|not\s+(?:right|correct|true)))\b"
)
CORRECTED = re.compile(
    r"\s*[.!?;,]?\s*(?:no(?!\s+(?:doubt|problem|matter|more|other))\b|wait\b|(?:(?:or|but)\s+)?(?:it|that)\s+(?:could|might|may)\b|actually\b|sorry\b|wrong\b)"
)
CORRECTION = re.compile(
    r"""(?:^|[.!?;\n。！])[-\s$})*_\\\]–—]{0,8}(?:hm{1,3}\W{1,4}|oh\W{1,4})?(?:wait|actually|sorry|oops|correction|hold\s+on|on\s+(?:second\s+thought|reflection)
        |let\s+me\s+re\w+|(?:but|however)\b[^.!?;\n]{0,60}?\b(?:wrong|incorrect|correct|should\s+be|re(?:count|check)\w*)
        |(?:non|nein|нет|perdón|espera|warte|attends)(?=\s*,)|等等|不对
        |no(?=,?\s+(?:wait|that|it))|i\s+(?:was\s+wrong|(?:have\s+)?made\s+an?\s+(?:\w+\s+)?(?:mistake|error)))(?!\w|['’])""",
    re.VERBOSE,
)
CONFIRMED = re.compile(r"\b(?:correct|right|holds|checks(?:\s+out)?|confirmed|verified|works)[\s.!)*$✓]*$")
DENIAL = re.compile(r"\b(?:not|never|wrong|incorrect)\b|n't\b")
OPERATED = re.compile(
    rf"""\W*?(?<!\w)(?:squared|cubed|factorial|minus|plus|times\s+(?:\d|more|larger|greater|bigger|longer|as)|multiplied|divided|below|above
        |negative|repeating|recurring|remainder|(?:more|less|fewer|greater|higher|lower)\s+than|modulo|mod|{PARTS})\b
        |\W*?(?<!\w)(?:{SCALED})|k\b""",
    re.VERBOSE,
)


def taken_back(before: str, after: str) -> str:
    """Tell why the words around an answer make it none; only those near it are read."""
    return before_it(before) or behind_it(after)


def marked_taken_back(before: str, after: str) -> bool:
    """Tell whether words take back an answer that is marked, in a box: only those that touch it or name it count."""
    near = SENTENCE.split(MARKUP.sub(" ", _plain(before[-NEAR:])))[-1]
    behind = MARKUP.sub(" ", _plain(after[:NEAR]))
    taken = REFUSED.search(near) or (CHANGED.search(near) and not ONLY.search(near))
    return bool(taken or TOUCHING.match(SENTENCE.split(behind, maxsplit=1)[0]) or RECALLED.match(behind))


def corrected(after: str) -> str | None:
    """Read what corrects an answer behind it ("Wait, it is 6"); None where nothing does, or where it is confirmed.

    Empty where that asks.
    """
    if not after.strip(BLANKS):  # as behind most
        return None
    found = CORRECTION.search(folded(after[:FAR]))
    if found is None:
        return None
    rest = after[found.end() : found.end() + FAR]
    if "?" in rest:
        return ""
    last = [sentence for sentence in SENTENCE.split(_plain(rest[-NEAR:])) if sentence.strip()][-1:]
    return None if last and CONFIRMED.search(last[0]) and not DENIAL.search(last[0]) else rest


def refused(before: str) -> bool:
    """Tell whether words on the same line deny what follows: `I do not believe that`."""
    line = before[-NEAR:].rpartition("\n")[2]
    return REFUSED.search(SENTENCE.split(MARKUP.sub(" ", _plain(line)))[-1]) is not None


def before_it(text: str) -> str:
    """Tell why the words before an answer make it none."""
    if not text:
        return ""
    near = SENTENCE.split(MARKUP.sub(" ", _plain(text[-NEAR:])))[-1]
    if REFUSED.search(near) or EXCLUDED.search(near) or BOUNDED.search(near):
        return "which the answer denies or only bounds"
    if DOUBTED.search(near):
        return "one of several numbers"
    return "a part of an expression" if SIGNED.search(near) else ""


def behind_it(text: str) -> str:
    """Tell why the words behind an answer make it none."""
    if not text:
        return ""
    near = MARKUP.sub(" ", _plain(text[:NEAR]))
    if CORRECTED.match(near):
        return "which the answer denies or only bounds"
    near = SENTENCE.split(near, maxsplit=1)[0] + ("?" if re.match(r"[^.!;]*\?", near) else "")
    if REJECTED.match(near):
        return "which the answer denies or only bounds"
    if ALTERNATIVE.match(near):
        return "one of several numbers"
    return "a part of an expression" if OPERATED.match(near) else ""


def _plain(text: str) -> str:
    return folded(text).replace("’", "'")
