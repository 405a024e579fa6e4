"""Answer HTTP requests for scores, through a bounded queue before the reward."""

from __future__ import annotations

import asyncio
import json
import math
import time
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmrl import __version__
from llmrl.clients.bearer import Guard
from llmrl.errors import DataError, LlmrlError
from llmrl.recipe.ranges import Amount, Count, Seconds
from llmrl.scoring import serialization
from llmrl.scoring.manager import GroupScorer
from llmrl.scoring.serialization import TooLargeError
from llmrl.scoring.trl_functions import TrainerState
from llmrl.types import Score, Trajectory

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """Limits of a reward server."""

    batch: Count = 32  # groups scored at a time
    max_waiting: Count = 256  # groups that wait; further ones are sent away
    request_timeout_s: Seconds = 600.0  # of a group, waiting and scoring
    max_body_mb: Count = 256  # of a request, in MiB
    max_texts: Count = 4096  # answers of a request
    max_text_mb: Count = 64  # of their texts together, in MiB
    grace_s: Amount = 30.0  # for groups being scored when the server is stopped

    def __post_init__(self) -> None:
        if min(self.batch, self.max_waiting, self.max_body_mb, self.max_texts, self.max_text_mb) < 1:
            raise ValueError("expected batch, max_waiting, max_body_mb, max_texts and max_text_mb at least 1")
        if not (0 < self.request_timeout_s < math.inf and 0 <= self.grace_s < math.inf):
            raise ValueError("expected request_timeout_s above 0 and grace_s at least 0, both finite")


class FullError(Exception):
    """The queue is full; `after_s` is the time to wait before another try."""

    def __init__(self, waiting: int, after_s: int) -> None:
        super().__init__(f"{waiting} groups wait already; come back in {after_s} s")
        self.after_s = after_s


@dataclass(frozen=True, eq=False)
class _Waiting:
    group: Sequence[Trajectory]
    place: serialization.Place
    scores: asyncio.Future[list[Score]]


@dataclass
class Scoring:
    """Queue before a reward, which scores up to `limits.batch` groups at a time.

    Groups of another step of training, which rewards may read, begin when those of the step before have ended.
    """

    reward: GroupScorer
    state: TrainerState
    limits: ServerLimits
    running: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _queue: asyncio.Queue[_Waiting] = field(default_factory=asyncio.Queue, init=False)
    _held: int = field(default=0, init=False)  # taken from the queue, not yet begun
    _place: serialization.Place = field(default_factory=serialization.Place, init=False)
    _seconds: float = field(default=1.0, init=False)  # of a group, by the last ones

    @property
    def waiting(self) -> int:
        """Number of groups that are not being scored yet."""
        return self._queue.qsize() + self._held

    async def score(self, group: Sequence[Trajectory], place: serialization.Place) -> list[Score]:
        """Queue a group and wait for the reward's scores.

        Raises:
            FullError: too many groups wait.
        """
        if self.waiting >= self.limits.max_waiting:
            seconds = self._seconds * self.waiting / self.limits.batch
            raise FullError(self.waiting, max(1, min(60, math.ceil(seconds))))
        entry = _Waiting(group, place, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(entry)
        return await entry.scores

    async def run(self) -> None:
        """Score waiting groups, until cancelled."""
        try:
            while True:
                entry = await self._queue.get()
                self._held = 1
                while len(self.running) >= self.limits.batch:
                    await asyncio.wait(self.running, return_when=asyncio.FIRST_COMPLETED)
                if entry.place != self._place and self.running:
                    await asyncio.wait(self.running)
                self._held = 0
                if not entry.scores.done():  # its client did not give up
                    self._begin(entry)
        finally:
            for task in list(self.running):
                task.cancel()

    def _begin(self, entry: _Waiting) -> None:
        self._place = entry.place
        self.state.global_step, self.state.max_steps = entry.place.global_step, entry.place.max_steps
        self.state.epoch = entry.place.epoch
        task = asyncio.create_task(self._score(entry))
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        entry.scores.add_done_callback(lambda scores: task.cancel() if scores.cancelled() else None)

    async def _score(self, entry: _Waiting) -> None:
        start = time.monotonic()
        try:
            scores = await self.reward.score(entry.group)
            if len(scores) != len(entry.group):
                raise RuntimeError(f"the reward gave {len(scores)} scores for {len(entry.group)} answers")
        except Exception as error:
            if not entry.scores.done():
                entry.scores.set_exception(error)
        else:
            if not entry.scores.done():
                entry.scores.set_result(scores)
            self._seconds += 0.1 * (time.monotonic() - start - self._seconds)
            self.reward.latencies()  # which nobody reads here


@dataclass(frozen=True)
class Routes:
    """HTTP routes of the server, with their checks of key and request."""

    scoring: Scoring
    name: str  # of the reward

    async def health(self, request: Request) -> Response:
        """Report whether groups are accepted, how many wait and are scored, and the reward's name. Needs no key."""
        from starlette.responses import JSONResponse

        full = self.scoring.waiting >= self.scoring.limits.max_waiting
        body = {"status": "full" if full else "ready", "waiting": self.scoring.waiting}
        body |= {"scoring": len(self.scoring.running), "reward": self.name, "version": __version__}
        return JSONResponse(body)

    async def score(self, request: Request) -> Response:
        """Answer with the scores of a group; work for a client that has gone is dropped."""
        from starlette.requests import ClientDisconnect

        limits = self.scoring.limits
        try:
            async with asyncio.timeout(limits.request_timeout_s):
                data = await self._body(request)
        except ClientDisconnect:
            return refused(499, "gone", "the client has gone")  # which nobody reads
        except TimeoutError:
            return refused(408, "timeout", f"the request did not arrive within {limits.request_timeout_s:g} s")
        except TooLargeError as error:
            return refused(413, "too_large", str(error))
        scored, gone = asyncio.create_task(self._scored(data)), asyncio.create_task(_gone(request))
        try:
            await asyncio.wait({scored, gone}, return_when=asyncio.FIRST_COMPLETED)
            return scored.result() if scored.done() else refused(499, "gone", "the client has gone")
        finally:
            scored.cancel()
            gone.cancel()

    async def _body(self, request: Request) -> bytes:
        """Read the whole body. A larger one is read on, so that its client sees the answer, but not kept.

        Raises:
            TooLargeError: it is above the limit.
        """
        most, size, data = self.scoring.limits.max_body_mb << 20, 0, bytearray()
        async for piece in request.stream():
            size += len(piece)
            if size <= most:
                data += piece
            elif size > 4 * most:
                break
        if size <= most:
            return bytes(data)
        found = f"{'above ' if size > 4 * most else ''}{size / 2**20:.1f} MiB"
        raise TooLargeError(
            f"a body of {found}; expected at most {most >> 20} MiB: send fewer texts at a time, or start the "
            f"server with --max-body-mb {math.ceil(size / 2**20)}"
        )

    async def _scored(self, data: bytes) -> Response:
        from starlette.responses import Response

        limits = self.scoring.limits
        bounds = serialization.RequestLimits(limits.max_texts, limits.max_text_mb)
        try:
            group, place = await asyncio.to_thread(serialization.request_from_json, data, bounds)
        except TooLargeError as error:
            return refused(413, "too_large", str(error))
        except DataError as error:
            return refused(400, "bad_request", str(error))
        try:
            async with asyncio.timeout(limits.request_timeout_s) as limit:
                scores = await self.scoring.score(group, place) if group else []
            reply = {"scores": serialization.scores_to_json(scores)}
            return Response(await asyncio.to_thread(json.dumps, reply, allow_nan=False), media_type="application/json")
        except FullError as error:
            return refused(503, "full", str(error), {"Retry-After": str(error.after_s)})
        except LlmrlError as error:  # it would have stopped a run that has the reward in its own process
            return refused(422, type(error).__name__, str(error))
        except Exception as error:
            if limit.expired():
                return refused(504, "timeout", f"not scored within {limits.request_timeout_s:g} s")
            traceback.print_exc()
            return refused(500, "internal", f"{type(error).__name__}: {error}")


async def _gone(request: Request) -> None:
    """Wait until the client closes the connection; the body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def refused(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """Make the response of an error, as JSON."""
    from starlette.responses import JSONResponse

    return JSONResponse({"error": {"type": kind, "message": message}}, status, headers)


def app(scoring: Scoring, name: str, api_key: str | None) -> Starlette:
    """Make the app with POST /score and GET /health; with a key, /health alone is answered without it."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.routing import Route

    routes = Routes(scoring, name)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        queue = asyncio.create_task(scoring.run())
        yield
        queue.cancel()
        with suppress(asyncio.CancelledError):
            await queue

    async def no_such(request: Request, error: Any) -> Response:
        return refused(error.status_code, "no_such_route", f"{error.detail}: expected POST /score or GET /health")

    return Starlette(
        routes=[Route("/score", routes.score, methods=["POST"]), Route("/health", routes.health)],
        middleware=[] if api_key is None else [Middleware(Guard, key=api_key)],
        exception_handlers={HTTPException: no_such},
        lifespan=lifespan,
    )
