"""Everything that reads a text of a policy or a judge, and fragments that such texts repeat when a model loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, get_args

from llmrl import plugins
from llmrl.answers import extract, language, marked, steps, voting, words
from llmrl.reasoning.layout import StepLayout
from llmrl.reasoning.tree import TreeNode
from llmrl.rewards import behaviour_judge, swe_similarity
from llmrl.rewards.judge import prompt
from llmrl.rewards.open_r1 import functions as open_r1
from llmrl.swe import logs, trajectories
from llmrl.swe.agentless import localise, reproduce
from llmrl.swe.answers import AnswerForm, changes_of
from llmrl.swe.edits import read_edits
from llmrl.swe.patches import apply_patch
from llmrl.swe.replace import replaced
from llmrl.swe.tree import ChangeError
from llmrl.types import Problem
from tests.builders import episode, turn

FRAGMENTS = [
    *("```x\n", "```\n", "`", "Answer:", "Answer: 5\n", "The answer is 5. ", "the answer is ", "答案：", "#### "),
    *("#### 5\n", "A: ", "A and ", "(A) ", "option B ", "I choose A. ", "<answer>", "</answer>", "<answer>1</answer>"),
    *("<think>\n", "</think>", "<", "<x>", "<count>", "\\(", "\\)", "\\(x\\) ", "\\[", "\\]", "$", "$$", "$ ", "$x$ "),
    *("\\$", "\\", "\\boxed{", "\\boxed{5}, ", "\\boxed x", "\\frac{", "\\frac{1}{2}", "\\text{", "\\sqrt"),
    *("\\begin{matrix}", "{", "}", "[", "(", "((", ")", "{}", "**", "*", "1", "1,000,", "1.", "1/2 ", "1+", "1+1=2\n"),
    *("1 + 1 = 2, ", "-", "٣", "²", "𝟘", "e\u0301", "\ud800", "\ufffd", "\u200b", "中", " ", "\t", "\n", " \n", "\r\n"),
    *(
        "\u00a0",
        "...",
        "!",
        "a",
        "a ",
        "a, ",
        "not ",
        "let me check ",
        "\n- ",
        "Step 1:",
        '{"a":',
        "[1,",
        '"',
        "'",
    ),
    *("http://", "|", "<step>", "### f\n<<<<<<< SEARCH\n", "```x\n### f\n<<<<<<< SEARCH\na\n=======\n", "\n=======\n"),
    *(
        "<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n",
        "<<<<<<< SEARCH\n",
        ">>>>>>> REPLACE\n",
        "diff --git a/f b/f\n",
    ),
    *("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n", "@@ -1,9 +1,9 @@\n", " a\n", "+a\n", " b/", "a.py::b[ ", "a ... ok\n"),
    *(
        "a ... Testing against Django installed in ",
        "a ... Internal Server Error: /",
        "_ a.py:b ",
        "PASSED a.py::b[x] - ",
    ),
]
WRAPPED = ["{}", "{} 5", "5 {}", "\\boxed{{{}}}", "<answer>{}</answer>", "The answer is {}", "```\n{}\n```"]
NUMBERS = {"nums": [1, 2, 3, 4], "target": 24}
OPTIONS = {"options": ["dog", "run", "ball"]}
WORDS = {"words": ["dog", "run", "ball"]}
TESTS = {"tests": ["assert f(1) == 1"], "entry_point": "f", "prompt": ""}
VERIFIERS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {  # options, columns and reference of each
    "behaviours": ({}, {}, ""),
    "choice": ({}, OPTIONS, "A"),
    "code": ({}, TESTS, ""),
    "countdown": ({"tags_required": False}, NUMBERS, ""),
    "coverage": ({"max_words": 0}, WORDS, ""),
    "exact": ({}, {}, "5"),
    "format": ({}, {}, ""),
    "game24": ({}, NUMBERS, ""),
    "json_schema": ({}, {"schema": {"type": "object"}}, ""),
    "language_consistency": ({"language": "en"}, {}, ""),
    "length": ({"unit": "words"}, {}, ""),
    "math_verify": ({}, {}, "5"),
    "naturalness": ({}, {}, ""),
    "numeric": ({}, {}, "5"),
    "regex": ({"pattern": r"\d+", "read": "marked"}, {}, ""),
    "steps_rule": ({}, {}, ""),
}
READ_BY_PARTS = {"behaviour_judge", "degenerate", "judge", "open_r1", "process_model", "repetition", "swe_similarity"}
READ_BY_PARTS |= {"swe_tests", "swe_patch"}
"""Rewards of groups, whose readers of text stand in `readers`."""
WRAPPERS = {"by_source", "clip_delta", "cosine_length", "heron", "length_scaled", "mix", "rlsp"}
"""Rewards around others: they read no text, or by readers that are here."""
ELSEWHERE = {"openrlhf", "remote", "trl", "verifiers", "verl", "reward_model", "token_model", "salmon", "soft_overlong"}
ELSEWHERE |= {"reasoning_gym", "environment", "value_rank", "success_model", "vlm_rm"}
"""Rewards that hand the text to somebody else's function, a server or a tokenizer, or count tokens alone."""


def swe_edits(text: str) -> None:
    """Read edits of any model's text, and apply them."""
    with suppress(ChangeError):
        replaced({"f": "a\n" * 100}, read_edits(f"### f\n{text}"))


def swe_patch(text: str) -> None:
    """Read a patch, and apply it."""
    with suppress(ChangeError):
        apply_patch({"f": "a\n" * 100}, text)


def swe_answer(text: str, form: AnswerForm) -> None:
    """Read a repair in a form, and apply it."""
    with suppress(ChangeError):
        changes_of({"f": "a\n" * 100}, text, form)


def agentless(text: str) -> None:
    """Read an answer that names files, or one that holds a test."""
    localise.named_files(text, ["a.py"])
    reproduce.written_test(text)


def planned(text: str) -> None:
    """Place a step of a plan that a policy wrote."""
    StepLayout("tagged").place(TreeNode(1, None, "step", turn().completion, text), 3)


def readers() -> dict[str, Callable[[str], Any]]:
    """Collect everything that reads a policy's or a judge's text, by name."""
    made: dict[str, Callable[[str], Any]] = {}
    for name, (options, columns, answer) in VERIFIERS.items():
        problem = Problem(id="p", messages=[{"role": "user", "content": "How many?"}], answer=answer, info=columns)
        made[name] = partial(plugins.build("reward", {"name": name, **options}), problem)
    problem = Problem(id="p", messages=[], answer="")
    forms = (open_r1.FormatReward(), open_r1.CodeFormat("python"), open_r1.TagCount(), open_r1.ReasoningSteps())
    made |= {f"open_r1/{type(form).__name__}": partial(form, problem) for form in forms}
    degenerate, repetition = (plugins.build("reward", name) for name in ("degenerate", "repetition"))
    repeated = open_r1.RepeatedWords(3, -1.0)
    return made | {
        "open_r1/RepeatedWords": lambda text: asyncio.run(repeated.score([episode(text)])),
        "degenerate": lambda text: degenerate.found(episode(text)),
        "repetition": lambda text: repetition.of(list(text.encode(errors="replace"))[: len(text) // 4]),
        "behaviour_judge": behaviour_judge.count,
        "judge/reply": prompt.reader("grade", range(11), True),
        "judge/answer": partial(prompt.fenced, "answer"),
        "process_model": partial(steps.step_ends, separator="line", least_words=1),
        "swe_similarity": lambda text: swe_similarity.edited(
            {"f": "a"}, f"<think>a</think><solution>\n{text}</solution>"
        ),
        "swe edits": swe_edits,
        "swe_patch/diff": swe_patch,
        **{f"swe_tests/{form}": partial(swe_answer, form=form) for form in get_args(AnswerForm)},
        "swe agentless": agentless,
        "tool calls": trajectories.answer_text,
        **{f"swe log of {repo}": partial(logs.read_log, repo=repo) for repo in ("", *logs.READERS)},
        "voting": voting.final_answer,
        "marked": lambda text: marked.innermost(marked.marked(text) or text),
        "extract": extract.final_answer,
        "language": language.language,
        "words": words.words,
        "choice of words": words.choice,
        "steps": steps.step_ends,
        "plans": planned,
    }
