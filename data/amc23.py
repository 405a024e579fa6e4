"""The American Mathematics Competitions of 2023, without the choices."""

from __future__ import annotations

from llmrl.datafiles.competition import MathsTest
from llmrl.datafiles.rows import Origin


class Amc23(MathsTest):
    """40 problems to test with; answers are numbers."""

    name = "amc23"
    shipped = "competition"
    origin = Origin(file="aime/amc23.jsonl", hub="math-ai/amc23", split="test")


plugin = Amc23
