"""New tasks from failures: which failed, what a model writes, and what the filters leave."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from llmrl.chat import Chat, load_tokenizer
from llmrl.critics.folder import write_heads
from llmrl.critics.layers import head_of, layer
from llmrl.critics.start_values import start_values
from llmrl.data.jsonl import Jsonl
from llmrl.datagen.tasks import (
    TaskOptions,
    by_model,
    by_seeds,
    distinct,
    failed,
    feasible,
    reachable,
    spans,
    write_tasks,
)
from llmrl.engines.scripted import Scripted, ScriptedEngine
from llmrl.errors import BrowserError, DataError
from llmrl.protocols import Env
from llmrl.run_folder.writer import Logs
from llmrl.types import Message, Observation, Problem, Score
from tests import builders
from tests.builders import SUMS


def options(**given: Any) -> TaskOptions:
    facts: dict[str, Any] = {"data": "arithmetic", "rollouts": "none", "model": "none"} | given
    return TaskOptions(**facts)


def task(text: str, **info: Any) -> Problem:
    return Problem(id=text, messages=[{"role": "user", "content": text}], answer="1", info=info)


@pytest.fixture
def rollouts(tmp_path: Path) -> Path:
    """p0 failed twice, p1 once of twice, p2 earned nothing without a verdict, p3 was not judged; others not tried."""
    logs = Logs(tmp_path, writes=True, share=1.0)
    scores = [
        ("p0", 0.0, "wrong"),
        ("p0", 0.0, "wrong"),
        ("p1", 0.0, "wrong"),
        ("p1", 1.0, "correct"),
        ("p2", 0.0, None),
        ("p3", None, "error"),
    ]
    by_id = {problem.id: problem for problem in SUMS}
    episodes = [
        builders.episode("x", problem=by_id[name], score=Score(value, verdict), group=name, episode=i)  # type: ignore[arg-type]
        for i, (name, value, verdict) in enumerate(scores)
    ]
    logs.rollouts(0, [episodes], [])
    return tmp_path / "rollouts.jsonl"


@pytest.fixture
def critic(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """Two probabilities at random."""
    folder = tmp_path / "critic"
    trunk = AutoModel.from_pretrained(tiny_model_dir)
    specs = {name: {"name": "bernoulli", "width": 1} for name in ("v1", "v2")}
    torch.manual_seed(3)
    layers = {name: layer(head_of(spec), trunk, zero_init=False) for name, spec in specs.items()}
    trunk.save_pretrained(folder)
    write_heads(folder, specs, torch.nn.ModuleDict(layers).state_dict())
    return folder


def test_tasks_that_were_never_completed_failed(rollouts: Path) -> None:
    assert [problem.id for problem in failed(SUMS, rollouts)] == ["p0", "p2"]


def test_seeds_vary_a_task() -> None:
    made = list(by_seeds([task("go", site="a")], options(variants=3)))
    assert len({problem.info["seed"] for problem in made}) == 3
    assert {problem.info["site"] for problem in made} == {"a"}
    assert {problem.answer for problem in made} == {"1"}
    assert sorted(p.info["seed"] for p in by_seeds([task("go")], options(variants=3, seeds_from=7, seeds_to=10))) == [
        7,
        8,
        9,
    ]
    assert made == list(by_seeds([task("go", site="a")], options(variants=3)))
    assert len(distinct(made, [task("go", site="a")])) == 3
    assert len(distinct(made, [], "number")) == 1


def test_every_span_between_back_ticks_is_a_task() -> None:
    assert spans("1. `Find a red shoe`\n2. ```buy it```, or ` ` and `open") == ["Find a red shoe", "buy it"]


def test_tasks_that_read_alike_are_one() -> None:
    made = [task("Buy a shoe."), task("buy  a shoe"), task("Known task!"), task("other")]
    assert [problem.id for problem in distinct(made, [task("known task")])] == ["Buy a shoe.", "other"]


def asked(chat: Chat, replies: Any) -> Any:
    return ScriptedEngine(
        tokenizer=chat.tokenizer, options=Scripted(replies=replies), stop_token_ids=[chat.tokenizer.eos_token_id]
    )


def test_a_model_writes_tasks_of_each_site(tiny_model_dir: Path) -> None:
    chat = Chat(load_tokenizer(tiny_model_dir))
    engine = asked(chat, ["New: `find b` and `find c`", "nothing"])
    known = [task("find a", site="shop"), task("post a", site="forum")]
    made = asyncio.run(by_model(known, options(site_column="site", variants=1), engine, chat))
    assert [problem.messages[-1]["content"] for problem in made] == ["find b", "find c"]
    assert {(problem.info["site"], problem.answer) for problem in made} == {("forum", "")}
    assert len({problem.id for problem in made}) == 2


def test_what_a_judge_refuses_leaves(tiny_model_dir: Path) -> None:
    chat = Chat(load_tokenizer(tiny_model_dir))
    engine = asked(chat, ["[YES] easy; not [NO]", "[no], it is gone", "maybe"])
    made = asyncio.run(feasible([task("a"), task("b"), task("c")], options(), engine, chat))
    assert [problem.id for problem in made] == ["a"]


def test_tasks_within_reach_of_either_head_stay(critic: Path, tiny_model_dir: Path) -> None:
    chat = Chat(load_tokenizer(tiny_model_dir))
    tasks = [task(str(number)) for number in range(5)]
    values = start_values(str(critic), [chat.prompt_ids(problem.messages) for problem in tasks], "cpu")
    assert {frozenset(own) for own in values} == {frozenset({"v1", "v2"})}
    assert all(0 < number < 1 for own in values for number in own.values())
    low = sorted(max(own.values()) for own in values)[2]
    kept = reachable(tasks, options(critic=str(critic), low=low, high=1.0), chat)
    assert [p.id for p in kept] == [p.id for p, own in zip(tasks, values, strict=True) if max(own.values()) >= low]
    assert len(kept) == 3
    with pytest.raises(DataError, match=r"of 5 new tasks none is within reach: 5 have values below low 0\.999"):
        reachable(tasks, options(critic=str(critic), low=0.999, high=1.0), chat)
    assert reachable(tasks, options(), chat) == tasks


class Door:
    """An environment that says where it begins, and does not for a task `shut`, and ends all for `unbuilt`."""

    def __init__(self, problem: Problem) -> None:
        self.name = problem.id

    async def reset(self) -> Observation:
        if self.name == "shut":
            raise RuntimeError("shut")
        if self.name == "unbuilt":
            raise BrowserError("no browser here")
        return Observation(messages=[{"role": "user", "content": f"door {self.name}"}])

    async def step(self, message: Message) -> Observation:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Doors:
    def make(self, problem: Problem) -> Env:
        return Door(problem)


def test_the_critic_judges_the_first_observation(critic: Path, tiny_model_dir: Path) -> None:
    chat = Chat(load_tokenizer(tiny_model_dir))
    tasks = [task("a"), task("shut"), task("b")]
    prompts = [chat.prompt_ids([{"role": "user", "content": f"door {name}"}]) for name in "ab"]
    values = {n: max(own.values()) for n, own in zip("ab", start_values(str(critic), prompts, "cpu"), strict=True)}
    env = "tests.unit.datagen.test_tasks:Doors"
    assert [p.id for p in reachable(tasks, options(critic=str(critic), env=env, low=0.0, high=1.0), chat)] == ["a", "b"]
    best = max(values, key=lambda name: values[name])
    low = options(critic=str(critic), env=env, low=values[best] - 1e-7, high=1.0)
    assert [p.id for p in reachable(tasks, low, chat)] == [best]


def test_an_environment_that_begins_no_task_is_named(critic: Path, tiny_model_dir: Path) -> None:
    """The critic refused none of them: to widen its bounds would change nothing."""
    chat = Chat(load_tokenizer(tiny_model_dir))
    made = options(critic=str(critic), env="tests.unit.datagen.test_tasks:Doors")
    with pytest.raises(DataError, match=r"test_tasks:Doors.* none of the 2 new tasks.* RuntimeError: shut"):
        reachable([task("shut"), task("shut")], made, chat)
    with pytest.raises(BrowserError, match="no browser here"):
        reachable([task("a"), task("unbuilt")], made, chat)
    assert reachable([], made, chat) == []


def test_tasks_are_written_as_rows(rollouts: Path, tiny_model_dir: Path, critic: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    lines = [{"id": p.id, "prompt": p.messages[0]["content"], "answer": p.answer} for p in SUMS]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = {"data": {"name": "jsonl", "path": str(rows)}, "rollouts": str(rollouts), "model": str(tiny_model_dir)}
    made = options(**given, critic=str(critic), low=0.0, high=1.0, variants=3, count=4)
    out = tmp_path / "tasks.jsonl"
    assert write_tasks(made, out) == {"failed": 2, "proposed": 6, "distinct": 6, "reachable": 6, "feasible": 6}
    problems = list(Jsonl(path=str(out)).problems())
    assert [problem.id.partition("/")[0] for problem in problems] == ["p0", "p0", "p0", "p2"]
    assert all(isinstance(problem.info["seed"], int) for problem in problems)
    assert problems[0].messages == SUMS[0].messages
    with pytest.raises(DataError, match="none is within reach: 0 have values below"):
        write_tasks(options(**given, critic=str(critic), low=0.0, high=1e-9), tmp_path / "none.jsonl")


def test_a_model_that_says_nothing_leaves_no_task(rollouts: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    """A random model behind a real engine."""
    lines = [{"id": p.id, "prompt": p.messages[0]["content"]} for p in SUMS]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = {"data": {"name": "jsonl", "path": str(rows)}, "rollouts": str(rollouts), "model": str(tiny_model_dir)}
    made = options(**given, judge=True, variants=1, max_tokens=4, engine="hf")
    with pytest.raises(DataError, match="2 reachable, 0 feasible"):
        write_tasks(made, tmp_path / "tasks.jsonl")
