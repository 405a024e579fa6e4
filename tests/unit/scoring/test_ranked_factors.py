from __future__ import annotations

from llmrl.ops.heron import Level
from llmrl.scoring.ranked_factors import Factor


def test_a_threshold_is_in_deviations_or_in_the_factors_own_unit() -> None:
    assert Factor(name="length", delta_mult=0.5, sign=-1).level(10.0) == Level(-1, 5.0)
    fixed = Factor(name="length", threshold=3.0)
    assert fixed.level(10.0) == Level(1, 3.0)
    assert not fixed.needs_deviation
