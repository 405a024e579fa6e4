"""Run the stages of a pipeline that are missing, each in a process of its own on every rank.

A stage starts from a fresh process, so it makes the same bits alone, in a pipeline, and after a kill. Under `accelerate
launch` each rank starts its own; the first rank decides what runs, and all agree.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from llmrl.engines.server.child_process import Child
from llmrl.engines.server.process import LAUNCHED, free_ports
from llmrl.errors import CheckpointError, LlmrlError, Stopped
from llmrl.evaluation.records import read_json, write_json
from llmrl.pipeline.kinds import KINDS, clear_unfinished
from llmrl.pipeline.plan import begin, finish, standing_of
from llmrl.pipeline.stages import Pipeline, Stage
from llmrl.rollout.concerted import concerted
from llmrl.run_folder.launch import require_launch
from llmrl.run_folder.libraries import terminal
from llmrl.run_folder.lock import FolderLock

T = TypeVar("T")
RESOLVED = "resolved.json"
"""The file in a stage's folder with its recipe, paths in the place of references: what its processes read."""
_STOPS = (signal.SIGTERM, signal.SIGHUP)
_POLL_S = 0.05
_GRACE_S = 10.0  # besides `train.stop_grace_s`


def run(pipeline: Pipeline, *, quiet: bool = False) -> None:
    """Run what is missing, unfinished or stale, in order; a stage is judged when those before it are done. Collective.

    Raises:
        LlmrlError: the folder is in use, an input or a record cannot be read, or the environment speaks of processes
            that nobody launched.
        SystemExit: a stage has failed; with its exit code.
        Stopped: a signal came, and the stage at hand was asked to save.
    """
    require_launch()
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    with _raising_signals(), ExitStack() as held:
        join = held.enter_context(_ranks(world))

        def first(work: Callable[[], T]) -> T:
            done: list[T] = join(concerted(lambda: [] if rank else [work()], join))
            return done[0]

        first(lambda: held.enter_context(FolderLock(pipeline.folder, "choose another run_name")) and None)
        for stage in pipeline.stages:
            port = first(partial(_prepared, pipeline, stage))
            if port is None:
                continue
            played = partial(_played, pipeline, stage, _environment(port, stage.acts.alone), quiet)
            code = first(played) if stage.acts.alone else played()
            if code:  # at once: the launcher ends the others, which may wait for ours
                raise SystemExit(code)
            first(lambda: None)  # all have ended well
            first(partial(finish, pipeline, stage))


def run_stage(folder: Path, quiet: bool) -> None:
    """Do the work of a stage in this process; its folder says which it is.

    Raises:
        LlmrlError: as the stage does.
    """
    resolved = read_json(folder / RESOLVED)
    if not resolved:
        raise CheckpointError(f"{folder}: no {RESOLVED}; run the pipeline by `llmrl train`")
    kind = KINDS[resolved["kind"]]
    kind.run(kind.read(resolved["recipe"], folder, f"stage {folder.name}"), folder, quiet)


def _prepared(pipeline: Pipeline, stage: Stage) -> int | None:
    """Make a stage's folder ready; the port at which its processes meet, or None where it is done."""
    standing = standing_of(pipeline, stage)
    if standing.state == "done":
        print(f"stage {stage.name}: done", flush=True)
        return None
    print(f"stage {stage.name}: {standing.state}: {standing.why}", flush=True)
    folder = pipeline.folder / stage.name
    if standing.state != "resumes":
        begin(pipeline, standing)
    clear_unfinished(stage.kind, folder)
    write_json(folder / RESOLVED, {"kind": stage.kind, "recipe": pipeline.resolved(stage)})
    return free_ports(1)[0]


def _played(pipeline: Pipeline, stage: Stage, environment: Mapping[str, str], quiet: bool) -> int:
    """Run a stage in a process, and wait for it; returns its exit code, which is not 0 where it has said why.

    Raises:
        LlmrlError: it was killed, and could say nothing.
    """
    folder = pipeline.folder / stage.name
    command = [sys.executable, "-m", "llmrl", "run-stage", str(folder), *(["--quiet"] if quiet else [])]
    grace_s = float(stage.recipe.get("train", {}).get("stop_grace_s", 120.0)) + _GRACE_S
    child = Child(command, env=environment, grace_s=grace_s, outputs=terminal())
    try:
        while (code := child.poll()) is None:
            time.sleep(_POLL_S)
    finally:
        child.stop()
    if code > 128 and code - 128 not in (*_STOPS, signal.SIGINT):
        raise LlmrlError(
            f"{folder}: the process of stage {stage.name} was ended by signal {code - 128}, which for 9 is mostly the "
            "system out of memory; the same command goes on"
        )
    return code


def _environment(port: int, alone: bool) -> dict[str, str]:
    """Our environment, for processes that meet at a port of their own, not at the launcher's."""
    if alone:
        ours = (*LAUNCHED, "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_CPU")
        return {k: v for k, v in os.environ.items() if k not in ours and not k.startswith("TORCHELASTIC_")}
    if "MASTER_PORT" not in os.environ:
        return dict(os.environ)
    return {**os.environ, "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}


@contextmanager
def _ranks(world: int) -> Iterator[Callable[[list[Any]], list[Any]]]:
    """Meet the other processes of the launch; gives what joins lists of all."""
    if world == 1:
        yield list
        return
    import torch.distributed as dist

    from llmrl.train.parallel import PATIENCE, gather

    dist.init_process_group("gloo", timeout=PATIENCE)
    yield partial(gather, world=world)
    dist.destroy_process_group()


@contextmanager
def _raising_signals() -> Iterator[None]:
    """Turn the first SIGTERM or SIGHUP into `Stopped`; further ones change nothing."""

    def handle(number: int, _frame: object) -> None:
        for each in _STOPS:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.getsignal(number) for number in _STOPS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # by nohup
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
