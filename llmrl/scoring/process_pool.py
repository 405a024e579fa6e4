"""Call functions that may hang or crash: in worker processes, one item at a time each, killed when their time is up."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing import Pipe
from queue import SimpleQueue
from typing import Any, Literal, Self

from llmrl.errors import RewardError
from llmrl.scoring.pool_worker import KEPT

START_S = 120.0  # for a process to start and to import what a function needs; not part of an item's time
RECYCLE = 5000  # items a worker takes before a fresh one replaces it: symbolic algebra caches grow
_LOOK_S = 0.1  # between two looks at whether somebody still awaits an item
CLOSED = "the grading pool is closed: nothing more can be graded with it"


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """Outcome of a call in a worker: its `value` where kind is `value`, else a `reason` for people."""

    kind: Literal["value", "raised", "timeout", "died"]
    value: Any = None
    reason: str = ""
    seconds: float = 0.0  # from handing the item to a ready worker to its end


class _Outcome(Future[CallOutcome]):
    """A future whose `cancel` also ends the call where it runs: its worker is killed."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped = False

    def cancel(self) -> bool:
        self.dropped = True
        return super().cancel()


@dataclass(slots=True)
class _Job:
    target: bytes  # the pickled function
    name: str
    args: bytes
    limit_s: float
    future: _Outcome


class Pool:
    """Worker processes for functions that may hang, crash or eat memory. Usable from any thread and any event loop.

    Workers are fresh interpreters (never forks: the caller may hold threads of torch and vLLM). An item that takes
    longer than its limit ends with its whole process group; the next item gets a new worker. Starting a worker,
    unpickling a function and its `warm_up()`, if it has one, happen before an item's clock starts.

    Args:
        workers: how many processes, at least 1.
        timeout_s: seconds an item may take.
        memory_mb: private memory a worker may hold; an allocation above it raises MemoryError in the worker.
    """

    def __init__(self, workers: int, timeout_s: float, memory_mb: int = 4096) -> None:
        if workers < 1 or timeout_s <= 0:
            raise RewardError(f"pool of {workers} workers, {timeout_s} s: expected at least 1 worker and more than 0 s")
        self.workers = workers
        self.timeout_s = timeout_s
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._state = _State(memory_mb)
        self._finalizer = weakref.finalize(self, _close, self._state, self._jobs, workers)
        self._threads = [
            threading.Thread(target=_serve_jobs, args=(self._jobs, self._state), daemon=True, name=f"grading-{i}")
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, target: Callable[..., Any], *args: Any, timeout_s: float | None = None) -> Future[CallOutcome]:
        """Queue `target(*args)` for a worker; cancelling the future drops it, and kills the worker that runs it.

        Raises:
            RewardError: `target` or `args` cannot be pickled, or the pool is closed; and, from the future, `target`
                cannot be loaded in a fresh process.
        """
        if self._state.closed:
            raise RewardError(CLOSED)
        name = getattr(target, "__qualname__", type(target).__qualname__)
        job = _Job(_dumps(target, name), name, _dumps(args, name), timeout_s or self.timeout_s, _Outcome())
        self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Kill every worker and fail what waits. Safe to call twice; also happens when the interpreter exits."""
        self._finalizer()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=5.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _State:
    """State of the threads and the finalizer; it holds no reference to the pool, which would keep the pool alive."""

    def __init__(self, memory_mb: int) -> None:
        self.memory_mb = memory_mb
        self.closed = False
        self.lock = threading.Lock()
        self.processes: set[subprocess.Popen[bytes]] = set()

    def started(self, process: subprocess.Popen[bytes]) -> None:
        with self.lock:
            self.processes.add(process)
            closed = self.closed
        if closed:
            self.ended(process)

    def ended(self, process: subprocess.Popen[bytes]) -> None:
        _kill(process)
        with self.lock:
            self.processes.discard(process)


def _close(state: _State, jobs: SimpleQueue[_Job | None], workers: int) -> None:
    with state.lock:
        state.closed = True
        processes = list(state.processes)
    for process in processes:
        state.ended(process)
    while not jobs.empty():
        job = jobs.get()
        if job is not None and job.future.set_running_or_notify_cancel():
            job.future.set_exception(RewardError(CLOSED))
    for _ in range(workers):
        jobs.put(None)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a worker and whatever it started, and collect it so that no zombie stays."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)


def _serve_jobs(jobs: SimpleQueue[_Job | None], state: _State) -> None:
    """Run a thread of the pool: it owns one worker and hands it items until a None in the queue ends it."""
    worker: _Worker | None = None
    while (job := jobs.get()) is not None:
        if not job.future.set_running_or_notify_cancel():
            continue
        outcome: CallOutcome | None = None
        problem: Exception | None = None
        try:
            worker = worker or _Worker(state)
            outcome = worker.run(job)
        except Exception as error:
            problem = error if isinstance(error, RewardError) else RewardError(f"{job.name}: {error!r}")
        if worker and (outcome is None or outcome.kind in ("timeout", "died") or worker.items >= RECYCLE):
            worker.stop()
            worker = None
        if outcome is not None and not state.closed:
            job.future.set_result(outcome)
        else:
            job.future.set_exception(problem if problem and not state.closed else RewardError(CLOSED))
    if worker:
        worker.stop()


class _Worker:
    """The parent's end of one worker process."""

    def __init__(self, state: _State) -> None:
        self.state = state
        self.items = 0
        self.loaded: dict[bytes, None] = {}
        self.connection, theirs = Pipe()
        code = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            f"from llmrl.scoring.pool_worker import serve; serve({theirs.fileno()}, {state.memory_mb})"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env=_environment(os.environ),
        )
        state.started(self.process)
        theirs.close()
        if self._answer(START_S) is None:
            raise RewardError(f"a grading process did not start{self._how()}; run `llmrl doctor`")

    def run(self, job: _Job) -> CallOutcome:
        self._load(job)
        self.items += 1
        start = time.monotonic()
        self._tell(("call", job.target, job.args, job.limit_s))
        answer = self._answer(job.limit_s, job.future)
        seconds = time.monotonic() - start
        if answer is not None:
            return CallOutcome(answer[0], answer[1], answer[2], seconds)
        if job.future.dropped:
            return CallOutcome("died", None, "nobody awaits it any more; it was killed", seconds)
        if self.process.poll() is None and seconds >= job.limit_s:
            return CallOutcome("timeout", None, f"took longer than {job.limit_s:g} s and was killed", seconds)
        return CallOutcome("died", None, f"the grading process ended{self._how()}", seconds)

    def stop(self) -> None:
        self.state.ended(self.process)
        self.connection.close()

    def _load(self, job: _Job) -> None:
        if job.target in self.loaded:
            return
        self._tell(("load", job.target))
        answer = self._answer(START_S)
        if answer is None or answer[0] != "value":
            why = answer[2] if answer else f"no answer in {START_S:g} s, or it ended the process{self._how()}"
            raise RewardError(
                f"{job.name} cannot be loaded in a grading process: {why}; expected something that lives in a module "
                "on the Python path, not in a script or a notebook"
            )
        self.loaded[job.target] = None
        if len(self.loaded) > KEPT:  # the worker drops the same one
            del self.loaded[next(iter(self.loaded))]

    def _tell(self, message: tuple[Any, ...]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a dead worker shows as no answer
            self.connection.send_bytes(pickle.dumps(message))

    def _answer(self, limit_s: float, awaited: _Outcome | None = None) -> tuple[Any, Any, str] | None:
        """Receive the worker's reply; None where it is dead, took longer than `limit_s`, or nobody awaits it."""
        end = time.monotonic() + limit_s
        try:
            while not self.connection.poll(max(0.0, min(_LOOK_S, end - time.monotonic()))):
                if time.monotonic() >= end or (awaited is not None and awaited.dropped):
                    return None
            answer: tuple[Any, Any, str] = pickle.loads(self.connection.recv_bytes())
            return answer
        except (EOFError, ConnectionResetError):
            return None

    def _how(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.process.wait(timeout=1.0)
            return f" by signal {signal.Signals(-code).name}" if code < 0 else f" with exit code {code}"
        return ""


def _dumps(value: Any, name: str) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as error:
        raise RewardError(
            f"{name} cannot be sent to a grading process: {type(error).__name__}: {error}; expected something that "
            "pickles: a frozen dataclass or a function at the top of a module, with plain values as options"
        ) from error


def _environment(mine: Mapping[str, str]) -> dict[str, str]:
    """Environment of a grader: one core and no accelerator, for those belong to the engine and the trainer."""
    return {**mine, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
