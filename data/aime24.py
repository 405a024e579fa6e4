"""The American Invitational Mathematics Examination of 2024, both papers."""

from __future__ import annotations

from llmrl.datafiles.competition import MathsTest
from llmrl.datafiles.rows import Origin


class Aime24(MathsTest):
    """30 problems to test with; answers are whole numbers from 0 to 999."""

    name = "aime24"
    shipped = "competition"
    origin = Origin(file="aime/aime24.jsonl", hub="HuggingFaceH4/aime_2024", split="test", hub_split="train")


plugin = Aime24
