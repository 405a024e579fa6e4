"""Detect the language of a text by its script and, for Latin letters, by its most frequent small words.

Coarse on purpose: it knows the languages below and gives None for a text that is too short or mixed, so that no reward
and no label rests on a guess.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

WORD = re.compile(r"[^\W\d_]+")
SCRIPTS: Mapping[str, str] = {
    "CYRILLIC": "ru", "GREEK": "el", "ARABIC": "ar", "HEBREW": "he", "DEVANAGARI": "hi", "THAI": "th", "HANGUL": "ko",
    "HIRAGANA": "ja", "KATAKANA": "ja", "CJK": "zh",
}  # fmt: skip
_SMALL = {
    "en": "the of and to is that it for was on are with this be have from you not what how",
    "de": "der die das und ist nicht ein eine zu mit den von auf für sich auch wie ich sie dem",
    "fr": "le la les et est une des du que pour dans pas qui sur au ce vous nous avec sont",
    "es": "el los las y es una del que por para con no se su al como más pero son cuál",
    "it": "il lo gli e è di che per con non una del della si sono come più anche nel quali",
    "pt": "o os as e é de que para com não uma do da em por mais como ao são qual",
}
SMALL: Mapping[str, frozenset[str]] = {name: frozenset(words.split()) for name, words in _SMALL.items()}
SHARE = 0.6  # of the letters that must be of one script, or of the known small words that must be of one language
FEWEST = 2  # small words that a Latin text must have to be decided


def language(text: str) -> str | None:
    """Code of the language, such as `en`; None where it is not clear. All Cyrillic is `ru`, all Arabic script `ar`."""
    scripts: Counter[str] = Counter()
    for letter, times in Counter(text).items():
        if letter.isalpha():
            scripts[unicodedata.name(letter, "?").partition(" ")[0]] += times
    letters = sum(scripts.values())
    if not letters:
        return None
    if (scripts["HIRAGANA"] + scripts["KATAKANA"]) > 0.1 * letters:
        return "ja"
    script, count = scripts.most_common(1)[0]
    if count < SHARE * letters:
        return None
    return _latin(text) if script == "LATIN" else SCRIPTS.get(script)


def _latin(text: str) -> str | None:
    words: Counter[str] = Counter()
    for word, times in Counter(WORD.findall(text)).items():
        words[word.lower()] += times
    seen = Counter({name: sum(words[word] for word in small) for name, small in SMALL.items()})
    (name, most), (_, second) = seen.most_common(2)
    known = sum(words[word] for word in frozenset().union(*SMALL.values()))
    return name if most >= FEWEST and most > second and most >= SHARE * known else None
