"""SIGTERM at every moment of a step: what is saved goes on exactly, and says what ended the run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from llmrl.errors import EngineError, Stopped
from llmrl.recipe import Recipe, parse
from llmrl.train.loop import train
from llmrl.train.run import Run
from llmrl.train.stopping import Stopping

STEPS, STEP = 4, 2
SOURCES: dict[str, dict[str, Any]] = {
    "online": {"name": "online"},
    "filtered": {"name": "online", "dynamic_sampling": True, "max_refills": 2},
    "restarts": {"name": "restarts", "share": 0.5, "decay_steps": 20},
    "asynchronous": {"name": "asynchronous", "max_staleness": 1},
}
MOMENTS = {  # and the steps that the checkpoint then holds
    "rollout": STEP,
    "end of rollout": STEP,
    "logprobs": STEP,
    "train": STEP,
    "after the first update": STEP + 1,
    "sync": STEP + 1,
    "log": STEP + 1,
}


def recipe(model: Path, out: Path, source: str = "online", **options: Any) -> Recipe:
    return parse(
        {
            "model": {"policy": str(model)},
            "data": {"name": "arithmetic", "high": 9},
            "reward": {"name": "format", "pattern": ".*[a-z].*"},
            "algorithm": {"name": "grpo", "beta": 0.01, "minibatches": 2},
            "engine": {"name": "hf"},
            "source": SOURCES[source],
            "rollout": {
                "num_generations": 4,
                "prompts_per_step": 4,
                "max_completion_length": 6,
                "max_prompt_length": 32,
                "reward_workers": 1,
            },
            "train": {
                "max_steps": STEPS,
                "save_steps": 100,
                "learning_rate": 1e-3,
                "normalize_rewards": True,
                "tokens_per_device": 128,
                "output_dir": str(out),
                "report_to": "none",
                **options,
            },
        }
    )


def kill(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def before(part: Any, name: str, when: Callable[[], bool], act: Callable[[], None]) -> None:
    """Act before a part's method works, the first time that it is due."""
    method = getattr(part, name)
    acted: list[bool] = []

    def acting(*args: Any, **kwargs: Any) -> Any:
        if when() and not acted:
            acted.append(True)
            act()
        return method(*args, **kwargs)

    setattr(part, name, acting)


def arm(run: Run, moment: str, act: Callable[[], None]) -> None:
    """Send a signal to this process at a moment of step `STEP`."""

    def due() -> bool:
        return run.step == STEP

    if moment == "rollout":
        before(run.sync._engine, "generate", due, act)
    elif moment == "end of rollout":
        before(run.sync, "sleep", due, act)
    elif moment == "logprobs":
        before(run.learners.policy, "forward", due, act)
    elif moment == "train":
        before(run.adaptation, "updates", due, act)
    elif moment == "after the first update":
        before(run, "guard", due, act)
    elif moment == "sync":
        before(run.sync._engine, "load", due, act)
    else:
        before(run.logs, "metrics", due, act)


def stopped_at(moment: str, made: Recipe, act: Callable[[], None] = kill, name: str = "run") -> tuple[Stopped, Path]:
    """Run until a signal at a moment of step `STEP` ends it; what was raised, and the folder."""

    def take() -> None:
        with stopping, Run(made, name=name, stopping=stopping) as run:
            arm(run, moment, act)
            train(run)

    stopping = Stopping()
    with pytest.raises(Stopped) as stopped:
        take()
    return stopped.value, Path(made.train.output_dir) / name


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    timed = ("time/", "reward_latency/", "perf/tokens_per_sec", "step_time", "sync/seconds")
    rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith(timed)} for row in rows]


def equal(one: Path, other: Path) -> bool:
    left, right = (load_file(folder / "final" / "model.safetensors") for folder in (one, other))
    return left.keys() == right.keys() and all(bool((left[name] == right[name]).all()) for name in left)


@pytest.fixture(scope="module")
def whole(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a run with a source, undisturbed."""
    folder, made = tmp_path_factory.mktemp("whole"), {}

    def of(source: str) -> Path:
        if source not in made:
            with Run(recipe(tiny_model_dir, folder, source), name=source) as run:
                train(run)
            made[source] = run.folder
        return made[source]

    return of


CASES = [
    *(pytest.param("online", moment, id=f"online, {moment}") for moment in MOMENTS),
    *(
        pytest.param(source, moment, id=f"{source}, {moment}", marks=() if moment == "rollout" else pytest.mark.slow)
        for source in ("filtered", "restarts")
        for moment in ("rollout", "train", "sync")
    ),
]


@pytest.mark.parametrize(("source", "moment"), CASES)
def test_a_stopped_run_goes_on_exactly(
    source: str, moment: str, whole: Callable[[str], Path], tiny_model_dir: Path, tmp_path: Path
) -> None:
    made = recipe(tiny_model_dir, tmp_path, source)
    stopped, folder = stopped_at(moment, made, name=source)
    steps = MOMENTS[moment]
    assert (stopped.number, stopped.steps) == (signal.SIGTERM, steps)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"step-{steps:06d}"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["status"], manifest["steps"]) == ("stopped: SIGTERM", steps)
    assert len(lines(folder, "metrics.jsonl")) == steps
    with Run(made, name=source, resume=True) as run:
        assert run.first_step == steps
        train(run)
    expected = whole(source)
    assert lines(run.folder, "metrics.jsonl") == lines(expected, "metrics.jsonl")
    assert (run.folder / "rollouts.jsonl").read_bytes() == (expected / "rollouts.jsonl").read_bytes()
    assert equal(run.folder, expected)


def test_an_asynchronous_run_keeps_what_it_had_played(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Its episodes follow the clock, so only their number and order can be compared."""
    made = recipe(tiny_model_dir, tmp_path, "asynchronous")
    stopped_at("logprobs", made)
    with Run(made, resume=True) as run:
        state = run.source.state()["scheduler"]
        assert len(state["drawn"]) >= 4, "the step that was dropped is there still"
        played = [group[0]["group"] for group in state["pending"]]
        assert set(state["drawn"][:4]) <= set(played), "and is not played again"
        train(run)
    problems = [line["group"] for line in lines(run.folder, "rollouts.jsonl")][::4]
    assert [int(name.partition("/")[0]) for name in problems] == list(range(4 * STEPS))


def test_before_the_first_step_it_ends_at_once_and_saves_nothing(tiny_model_dir: Path, tmp_path: Path) -> None:
    made, stopping = recipe(tiny_model_dir, tmp_path), Stopping()
    with pytest.raises(Stopped), stopping, Run(made, stopping=stopping) as run:
        kill(signal.SIGHUP)
    assert json.loads((run.folder / "manifest.json").read_text())["status"] == "stopped: SIGHUP"
    assert not (run.folder / "checkpoints").exists()


def test_an_engine_that_got_the_signal_too_is_no_error(tiny_model_dir: Path, tmp_path: Path) -> None:
    def act() -> None:
        kill()
        raise EngineError("the server has ended")

    assert stopped_at("end of rollout", recipe(tiny_model_dir, tmp_path), act)[0].steps == STEP


def test_an_error_is_told_in_the_folder(tiny_model_dir: Path, tmp_path: Path) -> None:
    def act() -> None:
        raise EngineError("the server has ended")

    def take() -> None:
        with Run(recipe(tiny_model_dir, tmp_path)) as run:
            arm(run, "sync", act)
            train(run)

    with pytest.raises(EngineError):
        take()
    text = (tmp_path / "run" / "errors.log").read_text()
    assert "process 0\nTraceback" in text
    assert "EngineError: the server has ended" in text
