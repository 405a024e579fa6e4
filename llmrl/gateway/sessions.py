"""Sessions that are open, within bounds."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmrl.gateway.session import Session
from llmrl.types import Sampling


class SessionsFullError(Exception):
    """No further session can be opened now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLimits:
    """Limits of a gateway."""

    max_sessions: int = 4096  # open at once
    max_body_mb: int = 16  # of a request, in MiB
    max_calls: int = 64  # of a session
    max_tokens: int = 4096  # of a prompt with its completion
    idle_s: float = 3600.0  # after which a session that a client opened is forgotten, where another needs its place

    def __post_init__(self) -> None:
        if min(self.max_sessions, self.max_body_mb, self.max_calls, self.max_tokens) < 1 or not self.idle_s > 0:
            raise ValueError(f"{self}: expected limits above 0")


@dataclass(slots=True, kw_only=True)
class Sessions:
    """Open sessions by id."""

    sampling: Sampling = field(default_factory=Sampling)  # of sessions that a client opens
    limits: GatewayLimits = field(default_factory=GatewayLimits)
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24))  # which opens sessions
    _open: dict[str, Session] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._open)

    def get(self, sid: str) -> Session | None:
        """The open session of this id."""
        return self._open.get(sid)

    def open(
        self,
        *,
        sampling: Callable[[int], Sampling] | None = None,
        max_calls: int | None = None,
        max_tokens: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Session:
        """Open a session.

        Args:
            sampling: of a call, by its number; the same for all where it is left out.
            max_calls, max_tokens: instead of the gateway's own limits.
        Raises:
            SessionsFullError: as many as allowed are open.
        """
        if len(self._open) >= self.limits.max_sessions:
            self._forget_idle()
        if len(self._open) >= self.limits.max_sessions:
            raise SessionsFullError(
                f"{len(self._open)} sessions are open, which is the limit; end some, or come back later"
            )
        session = Session(
            id=secrets.token_urlsafe(24),
            sampling=sampling or (lambda call: self.sampling),
            max_calls=max_calls or self.limits.max_calls,
            max_tokens=max_tokens or self.limits.max_tokens,
            metadata=metadata or {},
        )
        self._open[session.id] = session
        return session

    def close(self, session: Session) -> None:
        """End a session and forget it. Safe to call twice."""
        session.end("closed")
        self._open.pop(session.id, None)

    def _forget_idle(self) -> None:
        oldest = time.monotonic() - self.limits.idle_s
        for session in [session for session in self._open.values() if session.started < oldest]:
            self.close(session)
