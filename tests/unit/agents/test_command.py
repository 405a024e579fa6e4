from __future__ import annotations

from llmrl.agents.command import Command
from llmrl.types import Problem


def test_a_program_is_told_the_columns_that_were_chosen_and_no_others() -> None:
    problem = Problem(id="p", messages=[{"role": "user", "content": "q"}], answer="a", info={"level": 3, "tests": "x"})
    told = Command(command=["true"], info=["level", "absent"])._task(problem)
    assert told == {"id": "p", "task": "q", "messages": [{"role": "user", "content": "q"}], "info": {"level": 3}}
