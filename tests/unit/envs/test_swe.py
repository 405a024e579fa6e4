"""The environment `swe`: tools on a folder, judged by tests in another, within limits."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from typing import Any

import pytest

from llmrl.envs.swe import SweAgent
from llmrl.swe.episode import SweEpisode, elided
from llmrl.types import Message, Observation, Problem

ENV = SweAgent(timeout_s=60.0, max_characters=400)
INFO = {
    "problem_statement": "add(2, 3) must be 5.",
    "files": {
        "calc.py": "def add(a, b):\n    return a - b\n",
        "test_old.py": "import calc\n\ndef test_it():\n    assert calc\n",
    },
    "test_files": {"test_calc.py": "import calc\n\ndef test_add():\n    assert calc.add(2, 3) == 5\n"},
    "FAIL_TO_PASS": ["test_calc.py::test_add"],
}
PROBLEM = Problem(id="p", messages=[{"role": "user", "content": "add(2, 3) must be 5."}], info=INFO)


def call(name: str, **arguments: Any) -> Message:
    return calls((name, arguments))


def calls(*made: tuple[str, dict[str, Any]]) -> Message:
    functions = [{"name": name, "arguments": json.dumps(arguments)} for name, arguments in made]
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": f} for f in functions]}


def played(messages: Sequence[Message], env: SweAgent = ENV) -> tuple[Observation, list[Observation]]:
    async def episode() -> tuple[Observation, list[Observation], SweEpisode]:
        made = env.make(PROBLEM)
        try:
            first = await made.reset()
            return first, [await made.step(message) for message in messages], made
        finally:
            await made.close()
            await made.close()

    first, seen, made = asyncio.run(episode())
    assert made.place is not None
    assert not os.path.exists(made.place.folder)
    return first, seen


def shown(seen: Observation) -> list[str]:
    return [str(message["content"]) for message in seen.messages]


EDIT = call("str_replace", path="calc.py", old="a - b", new="a + b")


def test_an_episode_that_repairs() -> None:
    first, seen = played(
        [
            call("bash", command="ls; python -c 'import calc; print(calc.add(2, 3))'"),
            call("view", path="/testbed/calc.py", first=2, last=2),
            EDIT,
            call("test", target="test_old.py"),
            call("submit"),
        ]
    )
    assert "/testbed" in shown(first)[0]
    assert "add(2, 3) must be 5." in shown(first)[0]
    names = [tool["function"]["name"] for tool in first.tools]
    assert names == ["bash", "view", "str_replace", "create", "test", "submit"]
    assert shown(seen[0]) == ["calc.py\ntest_old.py\n-1"]
    assert shown(seen[1]) == ["     2\t    return a - b\n(3 lines)"]
    assert "     2\t    return a + b" in shown(seen[2])[0]
    assert "1 passed" in shown(seen[3])[0]
    last = seen[4]
    assert (last.reward, last.done, last.cut, last.verdict) == (1.0, True, False, "correct")
    assert last.metrics["changed_files"] == 1.0
    assert last.metrics["tool_calls"] == 5.0


def test_calls_of_a_turn_follow_one_another() -> None:
    _, seen = played(
        [
            calls(
                ("bash", {"command": "sleep 0.2; echo 1 >> log"}),
                ("bash", {"command": "cat log"}),
                ("bash", {"command": "true"}),
                ("create", {"path": "new/a.py", "text": "x = 1\n"}),
                ("bash", {"command": "true"}),
            ),
            call("bash", command="cat new/a.py; rm log; echo end"),
        ]
    )
    assert shown(seen[0]) == [
        "(nothing was printed)",
        "1",
        "(nothing was printed)",
        "written",
        "error: at most 4 calls a turn; this one was not made",
    ]
    assert shown(seen[1]) == ["x = 1\nend"]


def test_what_cannot_be_done_is_answered() -> None:
    _, seen = played(
        [
            call("str_replace", path="calc.py", old="nothing", new="x"),
            call("str_replace", path="calc.py", old="a", new="x"),
            call("view", path="../../etc/passwd"),
            call("create", path="/../x", text=""),
            call("bash", command="exit 3"),
            {"role": "assistant", "content": "<tool_call>", "tool_error": "the call is not JSON"},
            call("bash", command="yes | head -c 9000"),
        ]
    )
    assert "stands there 0 times" in shown(seen[0])[0]
    assert "times; expected once" in shown(seen[1])[0]
    assert "root:" not in shown(seen[2])[0]
    assert shown(seen[3])[0].startswith("error: ")
    assert shown(seen[4]) == ["error: the program ended with exit status 3"]
    assert shown(seen[5]) == ["error: the call is not JSON"]
    assert "[cut: " in shown(seen[6])[0]
    assert len(shown(seen[6])[0]) < 500


def test_no_repair_no_reward() -> None:
    _, seen = played([{"role": "assistant", "content": "I cannot."}])
    assert (seen[0].reward, seen[0].done, seen[0].verdict) == (0.0, True, "wrong")


def test_the_last_step_is_judged_as_it_stands() -> None:
    _, seen = played([EDIT, call("bash", command="true")], SweAgent(timeout_s=60.0, max_steps=2))
    assert (seen[1].reward, seen[1].done, seen[1].cut, seen[1].verdict) == (1.0, True, True, "correct")


CHEATS = [
    "echo 'import os; os._exit(0)' > sitecustomize.py",
    "echo 'def pytest_collection_modifyitems(items): items.clear()' > conftest.py",
    "mkdir -p /testbed/.git/hooks; echo 'def test_add(): pass' > test_calc.py",
    "rm -r /testbed/*; ln -s /etc/passwd calc.py",
    "ln -s / link; (sleep 100 &) ; chmod 000 calc.py",
    "mv calc.py x; mkdir calc.py",
]


@pytest.mark.parametrize("command", CHEATS)
def test_no_cheat_is_paid(command: str) -> None:
    _, seen = played([call("bash", command=command), call("submit")])
    assert (seen[1].reward, seen[1].done, seen[1].verdict) == (0.0, True, "wrong")


def test_a_deleted_file_and_a_new_one_are_part_of_the_repair() -> None:
    move = "mkdir lib; sed 's/a - b/a + b/' calc.py > lib/other.py; echo 'from lib.other import add' > calc.py"
    move += "; rm test_old.py"
    _, seen = played([call("bash", command=move), call("submit")])
    assert seen[1].verdict == "correct"
    assert seen[1].metrics["changed_files"] == 3.0


@pytest.mark.parametrize("left", ["touch $'a\\nb'", "touch 'a\\..\\b'", "head -c 3000000 /dev/zero > core"])
def test_files_that_no_patch_would_hold_do_not_spoil_a_repair(left: str) -> None:
    _, seen = played([call("bash", command=left), EDIT, call("submit")])
    assert (seen[2].verdict, seen[2].metrics["changed_files"]) == ("correct", 1.0)


def test_folders_nested_too_deep_are_the_policys_doing() -> None:
    deep = "for i in $(seq 1100); do mkdir d && cd d; done"
    _, seen = played([call("bash", command=deep), EDIT, call("bash", command="ls"), call("submit")])
    assert "nested too deep" in shown(seen[2])[0]
    assert (seen[3].reward, seen[3].verdict) == (0.0, "wrong")


def test_middles_are_left_out() -> None:
    assert elided("abcdef", 6) == "abcdef"
    assert elided("abcdefgh", 4) == "ab\n[cut: 4 characters]\ngh"
