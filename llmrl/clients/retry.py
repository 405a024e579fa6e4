"""Requests to a server that may be busy, slow, broken or away: tried again within bounds of number and time."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from llmrl.clients.bearer import header

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
PASSING = (408, 409, 425, 429)  # HTTP statuses that another try may cure, besides those from 500 on
REFUSALS = (401, 403, 404)  # a wrong key, address or model: every request would fail
_ADVICE = {
    401: "it wants another key, or any: give it with --api-key, or in OPENAI_API_KEY",
    403: "the key may not do this: give another with --api-key, or in OPENAI_API_KEY",
}
AWAY = 0  # in place of a status: nobody took the connection, or it broke
LATE = -1  # and: no whole reply within the time of a try
LONGEST_PAUSE_S = 60.0
_random = Random()  # of its own: pauses must not move the global generator, on which runs depend


class UnansweredError(Exception):
    """No usable reply after all tries, with the reason. `status` is the last HTTP status, `AWAY` or `LATE`."""

    def __init__(self, failure: str, status: int) -> None:
        super().__init__(failure)
        self.status = status


def advice(status: int, url: str) -> str:
    """Advice about a request that a server has refused for good, as after `HTTP 401`."""
    if status == 404 and not url.rstrip("/").endswith("/v1"):
        return f"the server runs, and has no such address: is /v1 missing? Expected {url.rstrip('/')}/v1"
    return _ADVICE.get(status, "the server runs, and refuses every such request: check its address and options")


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Bounds of one request: number of tries and time."""

    timeout_s: float  # of one try
    retries: int  # after the first try
    pause_s: float  # before the first retry, up to half of it less; doubles up to a minute
    patience_s: float  # of all tries and pauses together

    def __post_init__(self) -> None:
        for name in ("timeout_s", "patience_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} {getattr(self, name)}: expected above 0 and finite")
        if self.retries < 0 or not 0 <= self.pause_s < math.inf:
            raise ValueError("expected retries and pause_s at least 0")
        if self.patience_s < self.timeout_s:
            raise ValueError(
                f"patience_s {self.patience_s:g} is below timeout_s {self.timeout_s:g}: not even one try has its time"
            )

    def pause(self, number: int) -> float:
        """Seconds before retry `number`, from 0 on; spread, so that many requests do not come back at once."""
        return min(LONGEST_PAUSE_S, self.pause_s * 2.0 ** min(number, 32)) * _random.uniform(0.5, 1.0)


class RateLimit:
    """Limits requests to so many at a time and so many a minute. Belongs to one event loop."""

    def __init__(self, concurrency: int, per_minute: float | None = None) -> None:
        self.slots = asyncio.Semaphore(concurrency)
        self._gap_s = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0  # when the next one may begin, by the loop's clock

    async def turn(self) -> None:
        """Wait until a request may begin."""
        now = asyncio.get_running_loop().time()
        at = max(now, self._next)
        self._next = at + self._gap_s
        await asyncio.sleep(at - now)

    def hold(self, seconds: float) -> None:
        """Let no request begin for so long: the server asked for a pause."""
        self._next = max(self._next, asyncio.get_running_loop().time() + seconds)


@dataclass
class Gates:
    """The gate of whichever event loop runs."""

    concurrency: int
    per_minute: float | None = None
    _kept: tuple[asyncio.AbstractEventLoop, RateLimit] | None = field(default=None, init=False)

    def here(self) -> RateLimit:
        """The gate of the running loop."""
        loop = asyncio.get_running_loop()
        if self._kept is None or self._kept[0] is not loop:
            self._kept = loop, RateLimit(self.concurrency, self.per_minute)
        return self._kept[1]


@dataclass(frozen=True)
class _Failure:
    reason: str
    status: int
    after_s: float = 0.0  # for which the server asks us to wait
    final: bool = False  # whether this request would always fail


async def tried(
    send: Callable[[], Awaitable[httpx.Response]],
    read: Callable[[httpx.Response], T],
    bounds: Bounds,
    gate: RateLimit,
    waits_for: Collection[int] = (),
) -> T:
    """Send a request until its reply is usable, and return it as read.

    Args:
        read: raises a ValueError where a reply of status 200 is not usable; it counts as a failed try.
        gate: its slot is held until the end, its turn is waited for before each try.
        waits_for: statuses that do not count as retries: only `patience_s` bounds them.
    Raises:
        UnansweredError: this request is refused, or retries or patience are spent.
    """
    clock = asyncio.get_running_loop().time
    async with gate.slots:
        await gate.turn()
        end, number, counted = clock() + bounds.patience_s, 0, 0
        failure: _Failure | None = None
        while True:
            limit_s = min(bounds.timeout_s, max(end - clock(), 1e-3))
            result = await _try(send, read, limit_s)
            if not isinstance(result, _Failure):
                return result
            cut_short = result.status == LATE and limit_s < bounds.timeout_s  # by our patience, which explains nothing
            failure = failure if failure is not None and cut_short else result
            if failure.final:
                raise UnansweredError(failure.reason, failure.status)
            number, counted = number + 1, counted + (failure.status not in waits_for)
            if counted > bounds.retries:
                raise UnansweredError(f"{failure.reason} (given up after {number} tries)", failure.status)
            pause = max(bounds.pause(number - 1), failure.after_s)
            if clock() + pause >= end:
                raise UnansweredError(
                    f"{failure.reason} (patience_s {bounds.patience_s:g} spent after {number} tries)", failure.status
                )
            if failure.after_s:
                gate.hold(failure.after_s)
            await asyncio.sleep(pause)
            await gate.turn()


async def _try(
    send: Callable[[], Awaitable[httpx.Response]], read: Callable[[httpx.Response], T], timeout_s: float
) -> T | _Failure:
    import httpx

    try:
        async with asyncio.timeout(timeout_s):
            reply = await send()
    except (TimeoutError, httpx.TimeoutException) as error:
        away = isinstance(error, httpx.ConnectTimeout)
        return _Failure(f"{type(error).__name__}: no reply in {timeout_s:.3g} s", AWAY if away else LATE)
    except (httpx.TransportError, httpx.DecodingError) as error:
        return _Failure(f"{type(error).__name__} {error}".rstrip(), AWAY)
    status = reply.status_code
    if status != 200:
        final = status < 500 and status not in PASSING
        return _Failure(f"HTTP {status}: {reply.text[:300]}", status, retry_after(reply), final)
    try:
        return read(reply)
    except (ValueError, RecursionError) as error:
        return _Failure(str(error), status)


def retry_after(reply: httpx.Response) -> float:
    """Seconds for which the server asks us to wait, by its header: a number or a date; 0.0 without a header."""
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    header = reply.headers.get("Retry-After", "")
    try:
        seconds = float(header)
    except ValueError:
        try:
            at = parsedate_to_datetime(header)
        except ValueError:
            return 0.0
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def client(url: str, api_key: str | None, concurrency: int) -> httpx.AsyncClient:
    """Open connections to `url`; use as an async context manager, in one event loop. The caller sets time limits."""
    import httpx

    limits = httpx.Limits(max_connections=concurrency)
    verify = _certificates() if url.startswith("https:") else False
    return httpx.AsyncClient(headers=header(api_key), timeout=None, limits=limits, verify=verify)


@cache
def _certificates() -> ssl.SSLContext:
    """Read the certificates once: it takes longer than a request."""
    import httpx

    return httpx.create_ssl_context()


async def together(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines together; their results, in order. Where one raises, the others are cancelled and ended first."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
