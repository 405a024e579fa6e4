"""Places where environments run: the shared event loop, a thread of their own, or a process that can be killed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from llmrl.errors import RecipeError, RewardError
from llmrl.protocols import Env, EnvFactory
from llmrl.scoring.process_pool import Pool

T = TypeVar("T")


class EnvPlace(Protocol):
    """Runs one environment at a time. It is `lost` once a call goes on that nobody awaits: then it serves no other."""

    lost: bool

    async def call(self, seconds: float, method: str, *args: Any) -> Any:
        """Call `make(problem)`, `reset()`, `step(message)` or `close()`.

        Raises:
            TimeoutError: it took longer than `seconds`.
            Exception: whatever the environment raised.
        """
        ...

    def release(self) -> bool:
        """End the use by an episode; True where the place can serve another."""
        ...


class Inline:
    """Runs an environment on the loop of the caller: one that blocks stops everything, and cannot be stopped."""

    def __init__(self, factory: EnvFactory) -> None:
        self.lost = False
        self._factory = factory
        self._env: Env | None = None

    async def call(self, seconds: float, method: str, *args: Any) -> Any:
        if method == "make":
            self._env = self._factory.make(*args)
            return None
        return await within(seconds, getattr(self._env, method)(*args), method)

    def release(self) -> bool:
        return False


class EnvHost:
    """Holds an environment and the event loop on which its methods run, for callers that wait: `host(method, *args)`.

    It pickles without both: a process unpickles it once, and serves one episode after the other.
    """

    def __init__(self, factory: EnvFactory) -> None:
        self._factory = factory
        self._env: Env | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_factory": self._factory, "_env": None, "_loop": None}

    def __call__(self, method: str, *args: Any) -> Any:
        if method == "make":
            self._env = self._factory.make(*args)
            return None
        self._loop = self._loop or asyncio.new_event_loop()
        return self._loop.run_until_complete(getattr(self._env, method)(*args))

    def end(self) -> None:
        """Close the loop."""
        if self._loop is not None:
            self._loop.close()


class OwnThread:
    """Runs an environment in a thread of its own, which may block. One that hangs is left behind: nothing ends it."""

    def __init__(self, factory: EnvFactory) -> None:
        self.lost = False
        self._host = EnvHost(factory)
        self._calls: SimpleQueue[tuple[Future[Any], tuple[Any, ...]] | None] = SimpleQueue()
        threading.Thread(target=self._serve, name="llmrl-env", daemon=True).start()

    async def call(self, seconds: float, method: str, *args: Any) -> Any:
        future: Future[Any] = Future()
        self._calls.put((future, (method, *args)))
        try:
            return await within(seconds, asyncio.wrap_future(future), method)
        finally:
            self.lost = future.running()

    def release(self) -> bool:
        if self.lost:
            self._calls.put((Future(), ("close",)))  # if ever it returns
        self._calls.put(None)
        return False

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            future, args = call
            if future.set_running_or_notify_cancel():
                _settle(future, self._host, args)
        self._host.end()


class OwnProcess:
    """Runs environments in a process of its own, one after the other; it is killed when a call takes too long."""

    def __init__(self, factory: EnvFactory) -> None:
        self.lost = False
        self._host = EnvHost(factory)
        self._pool = Pool(workers=1, timeout_s=1.0)  # each call brings its own limit

    async def call(self, seconds: float, method: str, *args: Any) -> Any:
        """Call in the process.

        Raises:
            RecipeError: the factory cannot be sent there.
            TimeoutError, RuntimeError: it took too long; it raised, or the process ended.
        """
        self.lost = True  # until an answer comes: an episode that is cancelled meanwhile kills the process
        try:
            outcome = await asyncio.wrap_future(self._pool.submit(self._host, method, *args, timeout_s=seconds))
        except RewardError as error:
            raise RecipeError(
                f"rollout.env_isolation process: the environment cannot run in a process of its own: {error}; mend "
                "that, or choose rollout.env_isolation=thread"
            ) from error
        self.lost = outcome.kind in ("timeout", "died")
        if outcome.kind == "timeout":
            raise TimeoutError(_late(method, seconds) + "; its process was killed")
        if outcome.kind != "value":
            raise RuntimeError(f"{method}: {outcome.reason}")
        return outcome.value

    def release(self) -> bool:
        if self.lost:
            self._pool.close()
        return not self.lost


PLACES: dict[str, Callable[[EnvFactory], EnvPlace]] = {"inline": Inline, "thread": OwnThread, "process": OwnProcess}


async def within(seconds: float, work: Awaitable[T], method: str) -> T:
    """Await for at most so many seconds; work that goes on nevertheless, deaf to its cancellation, is left alone.

    Raises:
        TimeoutError: it took longer.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if done:
        return task.result()
    task.cancel()
    task.add_done_callback(_forget)
    raise TimeoutError(_late(method, seconds))


def _late(method: str, seconds: float) -> str:
    return f"the environment's {method} took longer than {seconds:g} s (rollout.env_timeout_s)"


def _forget(task: asyncio.Future[Any]) -> None:
    """Read the error of a task that nobody awaits, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()


def _settle(future: Future[Any], host: EnvHost, args: tuple[Any, ...]) -> None:
    try:
        value = host(*args)
    except BaseException as error:  # told to the episode, whatever it is
        future.set_exception(error)
    else:
        future.set_result(value)
