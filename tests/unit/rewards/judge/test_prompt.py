from __future__ import annotations

import pytest

from llmrl.rewards.judge import prompt


@pytest.mark.parametrize(
    "reply",
    [
        '  {"grade": 8, "reason": "r"}\n',
        '```json\n{"grade": 8, "reason": "r"}\n```',
        '<think>{"grade": 1, "reason": ""}</think>{"grade": 8, "reason": "r"}',
    ],
)
def test_what_a_strict_reader_reads(reply: str) -> None:
    assert prompt.reader("grade", range(11), True)(reply) == (8, "r")
