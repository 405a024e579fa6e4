"""Benchmarks dealt to processes: they write what one writes, ask nothing twice, and fail together."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmrl import aio
from llmrl.errors import EngineError, LlmrlError
from llmrl.evaluation.evaluate import BenchmarkRun, Plan, evaluate
from llmrl.evaluation.generators import Played
from llmrl.protocols import Benchmark
from llmrl.rollout.concerted import concerted, gathered
from llmrl.train import evaluation
from llmrl.train.evaluation import play_dealt
from llmrl.types import Completion, Problem, Sampling, Score, Trajectory, Turn

MINE = Benchmark(
    data={"name": "math", "split": "tiny", "instruction": ""},
    reward={"name": "unused: the tests bring their own"},
    sampling=Sampling(temperature=1.0),
    samples=2,
    by=("subject",),
)
NAME = f"{__name__}:MINE"
Gather = Callable[[list[Any]], list[Any]]
Result = tuple[dict[str, Any] | str, list[tuple[str, int | None]], list[tuple[int, int]]]


@pytest.fixture(autouse=True)
def loop_for_all_ranks() -> Iterator[None]:
    aio.background()
    yield
    aio.foreground()


@dataclass
class Answers:
    """Right, wrong or cut off as the seed says; the later problems come first."""

    settings: Mapping[str, Any] = field(default_factory=lambda: {"model": "m"})
    asked: list[tuple[str, int | None]] = field(default_factory=list)
    dies_after: int = 10**6

    async def generate(self, problem: Problem, sampling: Sampling) -> Played:
        assert sampling.seed is not None
        if len(self.asked) == self.dies_after:
            raise EngineError("the engine died")
        self.asked.append((problem.id, sampling.seed))
        await asyncio.sleep(0.002 * (8 - int(problem.id.rpartition("/")[2])))
        text = problem.answer if sampling.seed % 3 else "no"
        said = Completion(token_ids=[], logprobs=[], finish="stop" if sampling.seed % 4 else "length", version=0)
        turn = Turn(prompt_ids=[], completion=said, text=text)
        return Played(Trajectory(problem=problem, turns=[turn], status="done"), len(text))


class Exact:
    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        return [Score(1.0, "correct") if one.text == one.problem.answer else Score(0.0, "wrong") for one in group]


def play(ranks: int, out: Path, players: Sequence[Answers] | None = None, **plan: Any) -> list[Result]:
    """Results of each rank, on a thread of its own: result or error, the requests to it, its progress."""
    players = players or [Answers() for _ in range(ranks)]
    shares: list[list[Any]] = [[] for _ in range(ranks)]
    barrier = threading.Barrier(ranks, timeout=20)

    def rank(number: int) -> Result:
        def gather(items: list[Any]) -> list[Any]:
            shares[number] = items
            barrier.wait()
            whole = [item for share in shares for item in share]
            barrier.wait()
            return whole

        told: list[tuple[int, int]] = []
        run = BenchmarkRun.of(NAME, players[number], Exact(), Plan(**plan))
        try:
            made: dict[str, Any] | str = play_dealt(
                run, out, (number, ranks), gather, lambda done, of: told.append((done, of))
            )
        except LlmrlError as error:
            made = f"{type(error).__name__}: {error}"
        return made, players[number].asked, told

    with ThreadPoolExecutor(ranks) as threads:
        return list(threads.map(rank, range(ranks)))


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def keys(out: Path) -> list[tuple[str, int]]:
    (path,) = out.glob("*.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["problem"], row["sample"]) for row in rows]


@pytest.mark.parametrize("round_", [2, 1024])
@pytest.mark.parametrize("ranks", [2, 3])
def test_many_processes_write_what_one_writes(
    ranks: int, round_: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "ROUND", round_)
    (alone,) = play(1, tmp_path / "one")
    several = play(ranks, tmp_path / "several")
    assert [made for made, _, _ in several] == [alone[0]] * ranks
    assert files(tmp_path / "several") == files(tmp_path / "one")
    assert keys(tmp_path / "one") == [(f"math/tiny/{i}", sample) for i in range(8) for sample in (0, 1)]
    assert sorted(each for _, asked, _ in several for each in asked) == sorted(alone[1]), "nothing is asked twice"
    assert {len(asked) for _, asked, _ in several} <= {16 // ranks, -(-16 // ranks)}
    assert several[0][2] == alone[2] == [(done, 16) for done in range(1, 17)]
    assert not any(told for _, _, told in several[1:]), "the main process tells the progress"


def test_it_is_the_evaluation_of_the_command_line(tmp_path: Path) -> None:
    expected = aio.wait(evaluate(NAME, Answers(), Exact(), tmp_path / "one"))
    assert play(2, tmp_path / "two")[0][0] == expected
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_what_is_there_is_not_asked_again(tmp_path: Path) -> None:
    play(1, tmp_path / "whole")
    play(2, tmp_path / "parts", limit=3)
    (path,) = (tmp_path / "parts").glob("*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"problem": "math/ti')  # killed in the midst of a line
    again = play(2, tmp_path / "parts")
    assert sum(len(asked) for _, asked, _ in again) == 16 - 6
    assert again[0][2][0] == (7, 16)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


@pytest.mark.parametrize("broken", [0, 1])
def test_an_error_of_one_process_ends_all_and_keeps_what_was_written(
    broken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "ROUND", 3)
    players = [Answers(dies_after=4 if number == broken else 10**6) for number in (0, 1)]
    ended = play(2, tmp_path, players)
    assert [made for made, _, _ in ended] == ["EngineError: the engine died"] * 2
    kept = keys(tmp_path)
    assert len(kept) >= 6, "the first round"
    again = play(2, tmp_path)
    assert sum(len(asked) for _, asked, _ in again) == 16 - len(kept)
    play(1, tmp_path / "whole")
    (path,) = tmp_path.glob("*.jsonl")
    assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()


def test_what_only_the_main_process_sees_is_raised_by_all(tmp_path: Path) -> None:
    play(2, tmp_path)
    ended = play(2, tmp_path, [Answers(settings={"model": "another"}) for _ in range(2)], samples=4)
    assert ended[0][0] == ended[1][0]
    assert "was begun with other settings: player was" in str(ended[0][0])
    assert not ended[0][1]


def test_concerted_raises_the_first_error_of_all() -> None:
    def fail(message: str) -> int:
        raise EngineError(message)

    assert concerted(lambda: 3, lambda errors: errors) == 3
    with pytest.raises(EngineError, match="mine"):
        concerted(lambda: fail("mine"), lambda errors: errors)
    with pytest.raises(EngineError, match="another's"):
        concerted(lambda: 3, lambda errors: [EngineError("another's"), *errors])
    with pytest.raises(EngineError, match="another's"):
        concerted(lambda: fail("mine"), lambda errors: [EngineError("another's"), *errors])


def test_gathered_raises_the_first_error_of_all_in_one_exchange() -> None:
    def fail(message: str) -> list[int]:
        raise EngineError(message)

    assert gathered(lambda: [3], lambda items: [1, *items]) == [1, 3]
    with pytest.raises(EngineError, match="mine"):
        gathered(lambda: fail("mine"), lambda items: [1, *items])
    with pytest.raises(EngineError, match="another's"):
        gathered(lambda: [3], lambda items: [*items, EngineError("another's")])
