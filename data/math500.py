"""The 500 problems of MATH test that are used most (Lightman et al. 2023, arXiv 2305.20050)."""

from __future__ import annotations

from llmrl.datafiles.competition import MathsTest
from llmrl.datafiles.rows import Origin


class Math500(MathsTest):
    """500 problems to test with; `subject`, `level` and `solution` are in `info`."""

    name = "math500"
    shipped = "math"
    origin = Origin(file="math/math500.jsonl", hub="HuggingFaceH4/MATH-500", split="test")


plugin = Math500
