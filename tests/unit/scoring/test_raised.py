"""Place at which a reward raised: in its own file, not in ours or a library's."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.scoring.raised import raised
from llmrl.types import Completion, Problem, Trajectory, Turn


def test_the_innermost_line_of_the_users_file() -> None:
    with pytest.raises(ValueError, match="Expecting value") as caught:
        json.loads("no json")
    assert raised(caught.value).startswith("JSONDecodeError: Expecting value")
    assert raised(caught.value).endswith(f"({__file__}:18)")


def test_a_function_that_raises_names_file_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_broken_reward.py").write_text(
        "def reward(completions, **columns):\n    return [columns['anwser'] for _ in completions]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from my_broken_reward import reward  # type: ignore[import-not-found]

    completion = Completion(token_ids=[1], logprobs=[0.0], finish="stop", version=0)
    problem = Problem(id="one", messages=[{"role": "user", "content": "1+1"}], answer="2")
    episode = Trajectory(problem=problem, turns=[Turn(prompt_ids=[1], completion=completion, text="2")], status="done")
    pool = GradingPool(1, 30)
    try:
        (score,) = asyncio.run(as_group_reward(reward, pool).score([episode]))
    finally:
        pool.close()
    assert score.reason == f"problem one: reward raised KeyError: 'anwser' ({tmp_path / 'my_broken_reward.py'}:2)"
