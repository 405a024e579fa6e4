"""The American Invitational Mathematics Examination of 2025, both papers."""

from __future__ import annotations

from llmrl.datafiles.competition import MathsTest
from llmrl.datafiles.rows import Origin


class Aime25(MathsTest):
    """30 problems to test with; answers are whole numbers from 0 to 999."""

    name = "aime25"
    shipped = "competition"
    origin = Origin(file="aime/aime25.jsonl", hub="math-ai/aime25", split="test")


plugin = Aime25
