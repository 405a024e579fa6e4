"""Normalise the spelling of mathematics: LaTeX with braces, ASCII, no spacing commands."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate

from llmrl.answers.spelling import translated

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉ₙ", "0123456789n")
UNICODE = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": r"\times ", "÷": "/", "·": r"\cdot ", "⋅": r"\cdot ",
    "∗": r"\cdot ", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ",
    "≈": r"\approx ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "±": r"\pm ", "∓": r"\mp ", "°": r"^\circ ",
    "º": r"^\circ ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "α": r"\alpha ", "β": r"\beta ",
    "γ": r"\gamma ", "δ": r"\delta ", "θ": r"\theta ", "λ": r"\lambda ", "μ": r"\mu ", "φ": r"\phi ", "ω": r"\omega ",
    "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}",
    "⅙": r"\frac{1}{6}", "⅚": r"\frac{5}{6}", "⅖": r"\frac{2}{5}", "⅗": r"\frac{3}{5}", "⅘": r"\frac{4}{5}",
    "⅐": r"\frac{1}{7}", "⅑": r"\frac{1}{9}", "⅒": r"\frac{1}{10}", "↉": "0",
    "…": "...", "٫": ".", "٬": ",", "،": ",", "؛": ";",
    "⅛": r"\frac{1}{8}", "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}", "⅞": r"\frac{7}{8}", "⅕": r"\frac{1}{5}",
    "，": ",", "；": ";", "：": ":", "（": "(", "）": ")", "＝": "=", "％": "%", "⁄": "/", "∕": "/", "\u00a0": " ",
    "’": "'", "‘": "'", "“": '"', "”": '"', "。": ".",
}  # fmt: skip
DOUBLED = re.compile(
    r"\\\\(?:[dtc]?frac|sqrt|text|boxed|pi|cdot|times|left|right|begin|le|ge|ne|in|infty|pm|[()\[\]{}$%])"
)
COMMAND = re.compile(r"(?<!\\)(?:\\\\)*\\(?!\\)")  # a backslash that is not doubled
POWERED = re.compile(r"(?<=[\d ])([ckdm]?m)([²³])")
RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+")
LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉ₙ]+")
DIGIT = re.compile(r"(?![0-9])\d")
IN_BASE = re.compile(
    r"([0-9A-Fa-f]+)\s*,?\s*(_\s*\{\s*)?(?:\\text\s*\{)?\s*\(?\s*(?:in\s+)?base[\s-]*\}?\s*(?:\\text\s*\{)?\s*"
    r"(\d+|[a-z]+)\s*\)?\s*\}?(?(2)\s*\}?)"
)
SYSTEM = re.compile(
    r"(?:\\\{\s*\\begin\{(matrix)\}|\\begin\{(?:aligned|align\*?|gathered)\})(.*?)(?:\\end\{(?:matrix|aligned|align\*?|gathered)\})(?!\s*\\\})",
    re.DOTALL,
)
NO_BRACKETS = re.compile(r"[^()\[\]{}]+")
LEVELS = dict.fromkeys("([{", 1) | dict.fromkeys(")]}", -1)
SAME = [  # several spellings in LaTeX of one thing
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (r"\{\s*\\rm\s+([^{}\\]*)\}", r"\\text{\1}"),
    (r"\\(?:mathrm|text|textrm|textup|mathit|operatorname)\s*\{\s*([ei])\s*\}", r" \1 "),
    (r"(?<=[\d) ])\{\s*(\\(?:text|mathrm|textrm|textnormal|textup)\s*\{[^{}]*\})\s*\}", r"\1"),
    (r"\\(?:mathrm|text|textrm|operatorname)\s*\{\s*(ln|log|sin|cos|tan|lim|max|min|gcd|lcm|det)\s*\}", r"\\\1 "),
    (r"\\(?:mathbf|boldsymbol|bm|mathcal)\s*\{\s*([A-Za-z])\s*\}", r" \1 "),
    (r"\\left\s*\]|(?:^|(?<=\\cup)|(?<=\\in))\s*\](?=[^\[\]()]{1,200}[\[\]])", " ("),
    (r"\\right\s*\[|(?<=[\d\w}])\s*\[(?=\s*(?:$|\\cup))", ") "),
    (r"\\left(?![a-zA-Z])\s*\.?|\\right(?![a-zA-Z])\s*\.?|\\[bB]igg?[lrm]?(?![a-zA-Z])", ""),
    (r"\\(?:displaystyle|textstyle|limits|rm|bf|it|large|Large|normalsize|hfill|newline)(?![a-zA-Z])", ""),
    (r",\s*\\!\s*", ","),
    (r"(?<=\d)\s*\{\s*,\s*\}\s*(?=\d)", ","),
    (r"\{,\}|\{ , \}", ","),
    (r"\\!|\\[hv]space\*?\{[^{}]*\}|\\phantom\s*(?:\{[^{}]*\}|-)", ""),
    (r"\\(?:q?quad)(?=[a-zA-Z]_)", " "),  # \quadx_2, as models write it
    (r"(?<!\\)\\(?:(?:q?quad|space|thinspace|enspace)(?![a-zA-Z])|[,;:> ])|~", " "),
    (r"\\leq(?:slant)?(?![a-zA-Z])|<=|=<", r"\\le "),
    (r"\\geq(?:slant)?(?![a-zA-Z])|>=", r"\\ge "),
    (r"\\neq(?![a-zA-Z])|\\not\s*=|!=", r"\\ne "),
    (r"\\lt(?![a-zA-Z])|&lt;", "<"),
    (r"\\gt(?![a-zA-Z])|&gt;", ">"),
    (r"\\(?:dots|ldots|cdots|dotsc|dotsb)(?![a-zA-Z])", "..."),
    (r"\\(?:operatorname|mathop)\*?\s*\{\s*(\w+)\s*\}", r"\\\1 "),
    (r"\\(?:arc(?:tg)|tg)(?![a-zA-Z])", r"\\tan "),
    (r"\\(?:varnothing|O)(?![a-zA-Z])", r"\\emptyset "),
    (r"\\(?:lbrace|\{)", r"\\{"),
    (r"\\(?:rbrace|\})", r"\\}"),
    (r"\\(?:lbrack)(?![a-zA-Z])", "["),
    (r"\\(?:rbrack)(?![a-zA-Z])", "]"),
    (r"\\(?:langle)(?![a-zA-Z])", "("),
    (r"\\(?:rangle)(?![a-zA-Z])", ")"),
    (r"\\(?:[lr][vV]ert|vert|mid)(?![a-zA-Z])", "|"),
    (r"\\begin\{vmatrix\}", r"\\det\\begin{matrix}"),
    (r"\\begin\{[bpvBV]?matrix\}|\\begin\{(?:small)?matrix\}|\\begin\{array\}\s*(?:\{[^{}]*\})?", r"\\begin{matrix}"),
    (r"\\end\{[bpvBV]?matrix\}|\\end\{(?:small)?matrix\}|\\end\{array\}", r"\\end{matrix}"),
    (r"\\binom\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\\frac{(\1)!}{(\2)!((\1)-(\2))!}"),
    (r"\{\s*([^{}]*?)\s*\\choose\s*([^{}]*?)\s*\}", r"\\frac{(\1)!}{(\2)!((\1)-(\2))!}"),
    (r"(?<=\d)(?:\s*\^\s*\{?\s*(?:\\(?:text|mathrm)\s*\{\s*)?)?(?:st|nd|rd|th)(?![a-zA-Z])\s*\}{0,2}", ""),
    (r"\\over(?:line|rightarrow|leftrightarrow)\s*\{\s*([A-Z]{1,3})\s*\}", r"\1"),
    (r"\\lg(?![a-zA-Z])", r"\\log"),
    (r"(?<![\w.])(\d+)\s+to\s+(\d+)(?![\w.])", r"\1:\2"),
    (r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree(?![a-zA-Z])|\\textdegree", r"^\\circ "),
    (r"\\(?:mathbf|boldsymbol|bm|mathit|mathsf|vec|hat|mathcal|displaylimits)\s*\{([^{}]*)\}", r"{\1}"),
    (r"\\implies|\\Rightarrow|\\Longrightarrow|\\therefore|\\because", " "),
    (r"\\(?:backslash|setminus)(?![a-zA-Z])", r"\\setminus "),
]  # fmt: skip
PLAIN = [  # how people write without LaTeX
    (r"\*\*", "^"),
    (r"(?<!\\)\*", r"\\cdot "),
    (
        r"(?<![\\a-zA-Z])(arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|log|ln|exp|pi|theta|alpha|beta)(?![a-zA-Z])",
        r"\\\1 ",
    ),
    (r"(?<![\\a-zA-Z])pi(?=[a-z]?\b)", r"\\pi "),
    (r"(?<![\\a-zA-Z])(?:infinity|infty|inf|oo)(?![a-zA-Z])", r"\\infty "),
    (r"(?<![\\a-zA-Z])(?:[uU]nion|U)(?=\s*[\[(\\{])(?<=\s.)|(?<=[\])])\s*(?:U|u)\s*(?=[\[(])", r"\\cup "),
    (r"(?<![\w.])(-?\d+(?:\.\d+)?)[eE]([-+]?\d{1,4})(?![\w.])", r"\1\\cdot 10^{\2}"),
    (r"\bC\((\d+)\s*,\s*(\d+)\)", r"\\frac{(\1)!}{(\2)!((\1)-(\2))!}"),
]


_SAME, _PLAIN = ([(re.compile(pattern), plain) for pattern, plain in rules] for rules in (SAME, PLAIN))


def one_backslash(text: str) -> str:
    """Undo the doubling of every backslash, as a file of JSON shows them; a line break among commands stays."""
    if "\\\\" not in text or COMMAND.search(text) or not DOUBLED.search(text):
        return text
    return text.replace("\\\\", "\\")


@lru_cache(maxsize=4096)
def clean(text: str) -> str:
    """Normalise an answer's spelling."""
    text = re.sub(r"^[\s*`]+|[\s*`]+$", "", one_backslash(text))
    if not text.isascii():
        text = DIGIT.sub(lambda match: str(unicodedata.decimal(match[0])), text)
        text = translated(text, UNICODE)
        text = POWERED.sub(lambda m: rf"\text{{ {m[1]}}}^{{{m[2].translate(SUPERSCRIPTS)}}}", text)
        text = RAISED.sub(lambda m: "^{" + m[0].translate(SUPERSCRIPTS) + "}", text)
        text = LOWERED.sub(lambda m: "_{" + m[0].translate(SUBSCRIPTS) + "}", text)
    for pattern, replacement in _SAME:
        text = pattern.sub(replacement, text)
    if "begin" in text:
        text = SYSTEM.sub(r"\\begin{cases}\2\\end{cases}", text)
    if "base" in text:
        text = IN_BASE.sub(r"\1_{\3}", text)
    text = _roots(text)
    for pattern, replacement in _PLAIN:
        text = pattern.sub(replacement, text)
    text = _fractions(_arguments(text))
    text = re.sub(r"\^\s*(-?\d+|-[a-zA-Z])(?!\s*\})", r"^{\1}", text)
    return _trim(re.sub(r"\s+", " ", _powers(text)))


def _trim(text: str) -> str:
    """Strip spaces, full stops and a pair of braces around an answer."""
    while True:
        shorter = re.sub(r"^(?:\s|\\\\|[,;:]|\*\*)+|(?:\s|(?<!\.\.)\.|[,;:]|\\\\|\*\*)+$", "", text)
        if shorter.startswith("{") and closing(shorter, 0) == len(shorter) - 1:
            shorter = shorter[1:-1]
        if shorter == text:
            return text
        text = shorter


def closing(text: str, start: int) -> int:
    """Index at which the bracket at `start` closes, counting all kinds alike; -1 where it does not."""
    depth = 0
    for place in range(start, len(text)):
        if text[place] in "([{":
            depth += 1
        elif text[place] in ")]}":
            depth -= 1
            if depth == 0:
                return place
    return -1


def depth(text: str) -> int:
    """Greatest number of brackets within one another."""
    return max(accumulate(map(LEVELS.__getitem__, NO_BRACKETS.sub("", text)), initial=0))


def _arguments(text: str) -> str:
    r"""Put braces around the arguments of `\frac12`, `\frac{1}2`, `\sqrt3`."""
    token = r"(\\[a-zA-Z]+|[0-9a-zA-Z])"
    text = re.sub(rf"\\sqrt\s*(\[[^\]]*\])?\s*{token}", lambda m: rf"\sqrt{m[1] or ''}{{{m[2]}}}", text)
    text = re.sub(rf"\\frac\s*{token}\s*{token}", r"\\frac{\1}{\2}", text)
    text = re.sub(rf"\\frac\s*{token}\s*\{{", r"\\frac{\1}{", text)
    return _after(
        text, r"\\frac\s*(?=\{)", lambda top, rest: (rf"\frac{{{top}}}", re.sub(rf"^\s*{token}", r"{\1}", rest))
    )


def _fractions(text: str) -> str:
    r"""Remove the space of `\frac{a} {b}`."""
    return re.sub(r"(\\frac|\\sqrt)\s+\{", r"\1{", re.sub(r"\}\s+\{", "}{", text))


def _roots(text: str) -> str:
    """Write `√(2x)`, `√2`, `sqrt(2)`, `∛5` as LaTeX."""
    text = re.sub(r"√\s*(\d+(?:\.\d+)?|[a-zA-Z])", r"\\sqrt{\1}", text)
    text = re.sub(r"∛\s*(\d+|[a-zA-Z])", r"\\sqrt[3]{\1}", text).replace("∛", r"\sqrt[3]").replace("√", r"\sqrt")
    text = re.sub(r"(?<![\\a-zA-Z])sqrt", r"\\sqrt", text)
    return _after(text, r"\\sqrt(?:\[\w+\])?\s*(?=\()", lambda inner, rest: ("{" + inner + "}", rest))


def _powers(text: str) -> str:
    """Put braces around the exponent of `x^(n+1)`."""
    return _after(text, r"\^\s*(?=\()", lambda inner, rest: ("{" + inner + "}", rest))


def _after(text: str, pattern: str, change: Callable[[str, str], tuple[str, str]]) -> str:
    """Rewrite the bracket that follows each match of `pattern`."""
    done = ""
    while match := re.search(pattern, text):
        end = closing(text, match.end())
        if end < 0:
            break
        new, rest = change(text[match.end() + 1 : end], text[end + 1 :])
        command = "" if new.startswith("\\") else match[0].rstrip()
        if command:
            done, text = done + text[: match.start()] + command, new + rest
        else:
            done, text = done + text[: match.start()] + new[: new.index("{")], new[new.index("{") :] + rest
    return done + text
