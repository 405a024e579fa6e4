"""Tests that reproduce an issue: asked for, and kept where they fail before any repair."""

from __future__ import annotations

import re

from llmrl.answers.thoughts import after_thoughts
from llmrl.swe.agentless.repair import is_python

FILE = "test_llmrl_reproduction.py"
PROMPT = """Below is an issue of a Python project. Write one test for {framework} that fails as long as the issue is
there, and passes once it is solved. Think first; then write the whole file in one block of Python.

### Issue
{issue}

{files}"""
_BLOCK = re.compile(r"```(?:python|py)?\n(.*?)```", re.DOTALL)


def messages(issue: str, framework: str, shown: str) -> list[dict[str, str]]:
    """The request for a test.

    Args:
        framework: pytest or unittest.
        shown: files that were found, as text.
    """
    return [{"role": "user", "content": PROMPT.format(framework=framework, issue=issue, files=shown)}]


def written_test(text: str) -> str:
    """The test in an answer; "" where there is none that parses."""
    blocks = _BLOCK.findall(after_thoughts(text))
    return blocks[-1] if blocks and is_python(blocks[-1]) and "test" in blocks[-1] else ""
