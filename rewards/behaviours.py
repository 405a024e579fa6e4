"""Counts of verification, backtracking, subgoals and backward chaining in an answer, by its wording: never a reward."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmrl.answers.spelling import folded
from llmrl.types import Problem, Score

SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
PATTERNS: Mapping[str, str] = {
    "verification": r"""
        \b(?: double[-\ ]?check(?:ing|ed|s)?
          | (?:let'?s|let\ (?:me|us)|i|we|to|and|now|will|i'll|should|must|quick|final)\ (?:check|verify|confirm)
          | check(?:ing)?\ (?:that|whether|if|this|it|the\ (?:result|answer|sum|arithmetic))
          | verif(?:ying|ication) | confirming
          | (?:match(?:es)?|hits?|reach(?:es)?|equals?|equal\ to|is|isn't|not|miss(?:es)?
            |than|below|above|(?:far|away)\ from|short\ of)
            (?:\ exactly|\ not)?\ (?:the|our|my)\ (?:target|goal)
          | (?:too|slightly|a\ bit)\ (?:high|low|large|small|big|much|little)
          | (?:short|shy)\ of\ (?:it|\d+)
          | (?:is|does|did)(?:\ not|n't)\ (?:equal|match|\d) )
        | \bcheck: | \d\ ?(?:≠|!=)\ ?\d """,
    "backtracking": r"""
        \b(?: (?:try(?:ing)?|consider|test|take|look\ for)\ (?:it\ |this\ )?
            (?:again|another|a\ (?:different|new|fresh)|something\ (?:else|different)
              |(?:some\ |the\ )?other|differently)
          | (?:start(?:ing)?|begin(?:ning)?)\ (?:over|again|afresh|anew|from\ scratch)
          | (?:go(?:ing)?|step(?:ping)?|roll(?:ing)?)\ back | back\ ?track(?:ing|ed)?
          | back\ to\ (?:the\ (?:start|beginning)|square)
          | (?:scrap|abandon|undo|discard|drop)(?:ping|ing)?\ (?:this|that|it|the\ \w+)
          | dead\ end | no\ luck | alternatively )\b
        | \binstead\s*[,:]""",
    "subgoal": r"""
        \b(?: sub[-\ ]?(?:goal|target|problem|task)s? | stepping\ stones?
          | intermediate\ (?:value|number|result|goal|target|step)s? | half-?way\ (?:goal|point|mark)
          | (?:aim(?:ing)?|go(?:ing)?|look(?:ing)?)\ for\ \d+
          | if\ (?:i|we)\ (?:can\ |could\ )?(?:first\ )?
            (?:make|made|get|got|reach|reached|build|built|had|have)\ (?:an?\ )?\d+
          | first[,:]?\ (?:i|we|let'?s|let\ (?:me|us)|try\ to|the\ aim\ is\ to|i'll|i\ will)?\ ?
            (?:want\ to\ |need\ to\ |try\ to\ )?(?:make|get|reach|build|find|form)\ (?:an?\ )?\d+
          | (?:make|get|reach|build|form)\ (?:an?\ )?\d+\ first
          | (?:break|split)(?:ing)?\ (?:this|it|the\ \w+)\ (?:down\ )?into )\b""",
    "backward_chaining": r"""
        \b(?: work(?:ing|ed|s)?\ back(?:wards?)? | backwards?\ from | in\ reverse
          | (?:start(?:ing)?|begin(?:ning)?|reason(?:ing)?|going)\ (?:from|with|at)\s
            (?:the\ (?:target|goal|end)|what\ we\ want)
          | to\ (?:end\ (?:up\ )?(?:at|on|with)|arrive\ at|land\ on|get|reach|make|obtain|have)\ (?:the\ target|\d+)
            [^.!?\n]{0,30}?\b(?:i|we|you)\ (?:would|'?d|must|will|should)?\ ?(?:need|have\ to)
          | the\ last\ (?:step|operation|move)\ (?:would|must|could|should|has\ to)
          | (?:the\ target|\d+)\ (?:would\ )?(?:has|have)\ to\ come\ from )\b""",
}
"""One regular expression per behaviour, frozen with the sentences in `tests/unit/rewards/behaviour_sentences.jsonl`:
counts by different expressions cannot be compared."""
NEEDED: Mapping[str, Sequence[str]] = {
    "verification": [
        "check",
        "verif",
        "confirm",
        "target",
        "goal",
        "too ",
        "slightly ",
        "a bit ",
        "short of",
        "shy of",
        "is not ",
        "does not ",
        "did not ",
        "n't ",
        "≠",
        "!=",
    ],
    "backtracking": [
        "again",
        "other",
        "different",
        "a new",
        "fresh",
        "something",
        "over",
        "anew",
        "scratch",
        "back",
        "scrap",
        "abandon",
        "undo",
        "discard",
        "drop",
        "dead end",
        "no luck",
        "alternatively",
        "instead",
    ],
    "subgoal": ["sub", "stepping", "intermediate", "half", "for ", "if i ", "if we ", "first", "break", "split"],
    "backward_chaining": [
        "back",
        "reverse",
        "target",
        "goal",
        "the end",
        "what we want",
        "need",
        "have to",
        "the last",
        "come from",
    ],
}
"""Words of which a sentence with the behaviour holds one: looked for first, because the expressions are slow."""
COMPILED = {name: re.compile(pattern, re.VERBOSE) for name, pattern in PATTERNS.items()}  # of a text in lower case


@dataclass(frozen=True)
class Behaviours:
    """Counts, as `parts`, and never a value: give it weight 0 in a mix, and `rewards/behaviours/<name>` are logged.

    verification: a result is compared with the target. backtracking: a line is given up for another. subgoal: a value
    is named that is to be reached first. backward_chaining: from the target back to the numbers. A sentence counts once
    for each behaviour that it shows. Rewarding counts would teach the words without the behaviour, so there is no
    value: with any weight but 0 no answer can be scored.

    Source: the four behaviours are those of Gandhi et al. 2025 (arXiv 2503.01307), who ask a judge; that is the reward
    `behaviour_judge`. Wording alone is a proxy.
    """

    def __call__(self, problem: Problem, text: str) -> Score:
        found = counts(text)
        told = ", ".join(f"{count} {name}" for name, count in found.items())
        return Score(None, parts=found, reason=f"{told}; counted, never paid: expected weight 0 in a mix")


def counts(text: str) -> dict[str, float]:
    """Count the sentences of the text that show each behaviour, by name."""
    found = dict.fromkeys(COMPILED, 0.0)
    for sentence, times in Counter(SENTENCE.split(text)).items():
        plain = folded(sentence)
        for name, pattern in COMPILED.items():
            if any(word in plain for word in NEEDED[name]) and pattern.search(plain):
                found[name] += times
    return found


plugin = Behaviours
