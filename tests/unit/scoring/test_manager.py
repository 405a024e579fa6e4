"""The grading pool, and making rewards of what people write."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import RewardError
from llmrl.scoring.manager import GradingPool, TrainerState, as_group_reward, latency_metrics
from llmrl.scoring.verdicts import verdict_metrics
from llmrl.types import Problem, Score, Status, Trajectory
from tests import builders
from tests.builders import some

GRADERS = """
import asyncio, os, subprocess, sys, time
from dataclasses import dataclass
from llmrl.types import Score

@dataclass(frozen=True)
class Acts:
    limit: int = 0
    def __call__(self, problem, text):
        if text == "hang":
            while True: pass
        if text == "hang in C":
            return 7 ** (7 ** 20)
        if text == "raise":
            raise ValueError("no such gold")
        if text == "exit":
            os._exit(3)
        if text == "segfault":
            import ctypes; ctypes.string_at(0)
        if text == "eat":
            return bytes(6 << 30)
        if text == "child":
            print(subprocess.Popen(["sleep", "600"]).pid, file=open(problem.answer, "w"), flush=True)
            while True: pass
        if text == "pid":
            return Score(1.0, reason=str(os.getpid()))
        if text == "slow":
            time.sleep(0.3)
        if text == "no score":
            return 1.0
        if text == "?":
            return Score(0.0, "unparsable")
        return Score(float(text == problem.answer), "correct" if text == problem.answer else "wrong")

@dataclass(frozen=True)
class SlowStart:
    def warm_up(self):
        time.sleep(0.8)
    def __call__(self, problem, text):
        return Score(1.0)

def length(prompts, completions, **columns):
    return [len(c[0]["content"]) for c in completions]

def columns(prompts, completions, answer, solution, level, completion_ids, trainer_state):
    assert prompts[0] == [{"role": "user", "content": "2+2?"}], prompts
    assert answer == solution and completion_ids == [[1, 2]] * len(prompts)
    return [float(level[0]) + trainer_state.global_step] * len(prompts)

def logs(completions, log_extra, log_metric):
    log_extra("seen", [1] * len(completions)); log_metric("share", 0.5)
    return [1.0] * len(completions)

async def waits(prompts, completions, **columns):
    await asyncio.sleep(0)
    return [1.0 for _ in completions]

async def waits_long(completions):
    await asyncio.sleep(60)

def bad(completions, answer):
    if answer[0] == "raise": raise KeyError("gold")
    if answer[0] == "short": return [1.0]
    if answer[0] == "hang":
        while True: pass
    return [float("nan"), "1.0", None, 2]
"""


@pytest.fixture(scope="module")
def graders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("graders")
    (folder / "some_graders.py").write_text(GRADERS)
    sys.path.insert(0, str(folder))
    import some_graders  # type: ignore[import-not-found]

    yield some_graders
    sys.path.remove(str(folder))
    del sys.modules["some_graders"]


@pytest.fixture(scope="module")
def pool(graders: Any) -> Iterator[GradingPool]:
    with GradingPool(workers=2, timeout_s=0.5, memory_mb=1024) as pool:
        yield pool


def problem(answer: str = "4", **info: Any) -> Problem:
    return Problem(id="sum/1", messages=({"role": "user", "content": "2+2?"},), answer=answer, info=info)


def episode(text: str, of: Problem | None = None, status: Status = "done") -> Trajectory:
    return builders.episode(builders.turn(text, [1, 2], prompt=[0]), problem=of or problem(), status=status)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def until(holds: Callable[[], bool], limit_s: float = 5.0) -> bool:
    end = time.monotonic() + limit_s
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def test_verdicts_come_back(pool: GradingPool, graders: Any) -> None:
    assert pool.grade_sync(graders.Acts(), problem(), "4") == Score(1.0, "correct")
    assert pool.grade_sync(graders.Acts(), problem(), "5") == Score(0.0, "wrong")


@pytest.mark.parametrize("text", ["hang", "hang in C"])
def test_a_hanging_item_is_killed_in_time(pool: GradingPool, graders: Any, text: str) -> None:
    pool.grade_sync(graders.Acts(), problem(), "4")
    start = time.monotonic()
    score = pool.grade_sync(graders.Acts(), problem(), text)
    assert (score.value, score.verdict) == (None, "timeout")
    assert "sum/1" in score.reason
    assert time.monotonic() - start < 3.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise", "raised ValueError: no such gold"),
        ("exit", "ended with exit code 3"),
        ("segfault", "ended by signal SIGSEGV"),
        ("eat", "raised MemoryError"),
        ("no score", "returned float; expected a Score"),
    ],
)
def test_what_breaks_is_an_error_with_its_reason(pool: GradingPool, graders: Any, text: str, said: str) -> None:
    score = pool.grade_sync(graders.Acts(), problem(), text)
    assert (score.value, score.verdict) == (None, "error")
    assert "sum/1" in score.reason
    assert said in score.reason
    assert pool.grade_sync(graders.Acts(), problem(), "4").verdict == "correct"


def test_start_up_does_not_count(pool: GradingPool, graders: Any) -> None:
    assert pool.grade_sync(graders.SlowStart(), problem(), "") == Score(1.0)


def test_from_threads_and_from_an_event_loop(pool: GradingPool, graders: Any) -> None:
    scores: list[Score] = []
    threads = [
        threading.Thread(target=lambda: scores.append(pool.grade_sync(graders.Acts(), problem(), "4")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()

    async def together() -> list[Score]:
        return await asyncio.gather(
            *(pool.grade(graders.Acts(), problem(), text) for text in ("4", "hang", "5", "raise"))
        )

    kinds = [score.verdict for score in asyncio.run(together())]
    for thread in threads:
        thread.join()
    assert kinds == ["correct", "timeout", "wrong", "error"]
    assert [score.verdict for score in scores] == ["correct"] * 4


def test_the_event_loop_stays_free(pool: GradingPool, graders: Any) -> None:
    async def both() -> float:
        task = asyncio.create_task(pool.grade(graders.Acts(), problem(), "slow"))
        longest, last = 0.0, time.monotonic()
        while not task.done():
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        return longest

    assert asyncio.run(both()) < 0.2


def test_close_leaves_no_process(graders: Any, tmp_path: Path) -> None:
    pool = GradingPool(workers=1, timeout_s=30)
    worker = int(pool.grade_sync(graders.Acts(), problem(), "pid").reason)
    note = tmp_path / "pid"
    waiting = pool.submit(graders.Acts(), problem(str(note)), "child")
    behind = pool.submit(graders.Acts(), problem(), "4")
    assert until(lambda: note.exists() and note.read_text().strip() != "")
    pool.close()
    pool.close()
    assert not alive(worker)
    assert until(lambda: not alive(int(note.read_text())))
    for future in (waiting, behind):
        with pytest.raises(RewardError, match="closed"):
            future.result(timeout=5)
    with pytest.raises(RewardError, match="closed"):
        pool.submit(graders.Acts(), problem(), "4")


def test_the_end_of_the_interpreter_ends_the_workers(graders: Any) -> None:
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from some_graders import Acts\nfrom llmrl.scoring.manager import GradingPool\n"
        "from llmrl.types import Problem\n"
        "pool = GradingPool(1, 30.0); p = Problem(id='a', messages=())\n"
        "print(pool.grade_sync(Acts(), p, 'pid').reason, flush=True); pool.submit(Acts(), p, 'hang')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert run.returncode == 0, run.stderr
    assert until(lambda: not alive(int(run.stdout)))


def test_what_cannot_be_sent_is_refused(pool: GradingPool) -> None:
    with pytest.raises(RewardError, match="cannot be sent to a grading process"):
        pool.grade_sync(lambda problem, text: Score(1.0), problem(), "4")


def test_what_cannot_be_loaded_is_refused(pool: GradingPool, graders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graders, "later", type("later", (), {"__module__": "some_graders"}), raising=False)
    with pytest.raises(RewardError, match="cannot be loaded in a grading process"):
        pool.grade_sync(graders.later(), problem(), "4")


def score(reward: Any, group: list[Trajectory], pool: GradingPool) -> list[Score]:
    return asyncio.run(as_group_reward(reward, pool).score(group))


def test_lift_a_verifier(pool: GradingPool, graders: Any) -> None:
    group = [episode("4"), episode("?"), *(episode(text, status="max_tokens") for text in ("?", "5", "4"))]
    verdicts = [s.verdict for s in score(graders.Acts(), group, pool)]
    assert verdicts == ["correct", "unparsable", "truncated", "truncated", "correct"]


def test_scores_are_those_of_their_episodes_whichever_ends_first(pool: GradingPool, graders: Any) -> None:
    texts = ["slow", "4", "?", "slow", "5", "4"]
    verdicts = [s.verdict for s in score(graders.Acts(), [episode(text) for text in texts], pool)]
    assert verdicts == ["wrong", "correct", "unparsable", "wrong", "wrong", "correct"]


def test_lift_a_group_reward(pool: GradingPool) -> None:
    class Rank:
        async def score(self, group: Any) -> list[Score]:
            return [Score(float(i)) for i in range(len(group))]

    lifted = as_group_reward(Rank(), pool)
    assert asyncio.run(lifted.score([episode("a"), episode("b")])) == [Score(0.0), Score(1.0)]
    assert len(lifted.latencies()["Rank"]) == 2
    assert lifted.latencies() == {"Rank": []}
    assert as_group_reward(lifted, pool) is lifted


def test_a_group_reward_that_waits_too_long_is_cancelled() -> None:
    cancelled = []

    class Judge:
        async def score(self, group: Any) -> list[Score]:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(len(group))
                raise
            return []

    with GradingPool(1, timeout_s=0.1) as pool:
        found = asyncio.run(as_group_reward(Judge(), pool).score([episode("a"), episode("b")]))
    assert cancelled == [2]
    assert [(one.value, one.verdict) for one in found] == [(None, "timeout")] * 2
    assert found[0].reason == "problem sum/1: Judge took longer than 0.2 s for 2 items"


def test_a_group_reward_that_times_out_by_itself_has_broken(pool: GradingPool) -> None:
    class Judge:
        async def score(self, group: Any) -> list[Score]:
            raise TimeoutError("no answer")

    (found,) = asyncio.run(as_group_reward(Judge(), pool).score([episode("a")]))
    told = f"problem sum/1: Judge raised TimeoutError: no answer ({__file__}:{Judge.score.__code__.co_firstlineno + 1})"
    assert (found.verdict, found.reason) == ("error", told)


def test_lift_trl_functions(pool: GradingPool, graders: Any) -> None:
    group = [episode("abc"), episode("")]
    assert score(graders.length, group, pool) == [Score(3.0), Score(0.0)]
    assert score(graders.waits, group, pool) == [Score(1.0)] * 2
    assert score(lambda completions: [None, True], group, pool)[1] == Score(1.0)


def test_trl_functions_get_the_columns_they_name(pool: GradingPool, graders: Any) -> None:
    lifted: Any = as_group_reward(graders.columns, pool)
    lifted.trainer_state = TrainerState(global_step=5)
    assert asyncio.run(lifted.score([episode("4", problem(level=2))])) == [Score(7.0)]


def test_trl_functions_may_log(pool: GradingPool, graders: Any) -> None:
    lifted: Any = as_group_reward(graders.logs, pool)
    asyncio.run(lifted.score([episode("4")]))
    assert lifted.logged == {"seen": [[1]], "share": [0.5]}


@pytest.mark.parametrize(
    ("answer", "said"),
    [("raise", "raised KeyError: 'gold'"), ("short", "returned 1 values for 4"), ("hang", "took longer than 2 s")],
)
def test_a_broken_trl_function_gives_errors(pool: GradingPool, graders: Any, answer: str, said: str) -> None:
    for result in some(score(graders.bad, [episode("4", problem(answer))] * 4, pool)):
        assert (result.value, result.verdict) == (None, "timeout" if answer == "hang" else "error")
        assert said in result.reason


def test_each_bad_value_is_refused_alone(pool: GradingPool, graders: Any) -> None:
    nan, text, abstained, good = score(graders.bad, [episode("4")] * 4, pool)
    assert (nan.value, nan.verdict, text.verdict) == (None, "error", "error")
    assert "expected a finite number" in nan.reason
    assert (abstained.value, abstained.verdict) == (None, None)
    assert good == Score(2.0)


def test_an_endless_async_function_is_left(pool: GradingPool, graders: Any) -> None:
    assert score(graders.waits_long, [episode("4")], pool)[0].verdict == "timeout"


@pytest.mark.parametrize("thing", [3, "numeric", lambda a, b: 1.0, Score])
def test_lift_refuses_what_is_no_reward(pool: GradingPool, thing: Any) -> None:
    with pytest.raises(RewardError, match="expected a verifier"):
        as_group_reward(thing, pool)


def test_metrics() -> None:
    shares = verdict_metrics(
        [Score(1.0, "correct"), Score(0.0, "wrong"), Score(None, "timeout"), Score(1.0, "correct"), Score(2.0)]
    )
    assert shares["verdict/correct_frac"] == 0.5
    assert shares["verdict/timeout_frac"] == 0.25
    assert math.isclose(sum(shares.values()), 1.0)
    assert verdict_metrics([Score(1.0)]) == {}
    broken = verdict_metrics([Score(1.0), Score(None, "error"), Score(0.0), Score(None, "timeout")])
    assert (broken["verdict/error_frac"], broken["verdict/timeout_frac"]) == (0.25, 0.25), (
        "of a reward without verdicts"
    )
    assert latency_metrics({"numeric": [i / 100 for i in range(1, 101)], "none": []}) == {
        "reward_latency/numeric/p95": 0.95
    }
