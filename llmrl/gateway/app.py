"""GatewayRoutes of the gateway: OpenAI's for agents, by session, and a few of its own."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from llmrl.errors import EngineError, LlmrlError, RecipeError
from llmrl.gateway.recorder import CallRecorder, LimitError
from llmrl.gateway.replies import chat_reply, completion_reply, streamed
from llmrl.gateway.requests import Wanted, chat_request, completion_request
from llmrl.gateway.responses import responses_reply, responses_request, responses_streamed
from llmrl.gateway.session import Call, Session
from llmrl.gateway.sessions import Sessions, SessionsFullError
from llmrl.scoring.trl_functions import finite
from llmrl.tool_calls.forms import Parsed
from llmrl.types import Verdict

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

Served = Callable[["Request", Session], Awaitable["Response"]]
Reply = Callable[..., dict[str, Any]]
Events = Callable[[dict[str, Any], Wanted], Iterator[str]]
log = logging.getLogger(__name__)


def app(sessions: Sessions, recorder: CallRecorder) -> Starlette:
    """Make the app. A session's routes take its id as bearer token; POST /sessions takes the gateway's key."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    routes = GatewayRoutes(sessions, recorder)
    own: Mapping[str, tuple[Served, str]] = {
        "/v1/chat/completions": (routes.chat, "POST"),
        "/v1/completions": (routes.complete, "POST"),
        "/v1/responses": (routes.respond, "POST"),
        "/v1/models": (routes.models, "GET"),
        "/reward": (routes.reward, "POST"),
        "/end": (routes.end, "POST"),
        "/trace": (routes.trace, "GET"),
    }
    return Starlette(
        routes=[
            Route("/health", routes.health),
            Route("/sessions", routes.open, methods=["POST"]),
            *(
                Route("/sessions/{sid}" + path, partial(routes.within, served), methods=[method])
                for path, (served, method) in own.items()
            ),
        ]
    )


class GatewayRoutes:
    """Answers to requests."""

    def __init__(self, sessions: Sessions, recorder: CallRecorder) -> None:
        self._sessions, self._recorder = sessions, recorder

    async def within(self, served: Served, request: Request) -> Response:
        """Serve a request of a session, once it has shown that it knows it; refusals are answers."""
        from starlette.requests import ClientDisconnect

        session = self._sessions.get(request.path_params["sid"])
        if session is None or not _bears(request, session.id):
            return refused(401, "unauthorized", "expected `Authorization: Bearer` with the id of an open session")
        try:
            return await served(request, session)
        except ClientDisconnect:  # nobody reads this answer
            return refused(400, "disconnected", "the client went away before its request had come")
        except LimitError as error:
            return refused(error.status, error.code, str(error))
        except EngineError as error:
            return refused(500, type(error).__name__, str(error))
        except (LlmrlError, ValueError) as error:
            return refused(400, "bad_request", str(error))

    async def chat(self, request: Request, session: Session) -> Response:
        """POST /v1/chat/completions."""
        return await self._answered(request, session, chat_request, self._recorder.chat_call, chat_reply)

    async def complete(self, request: Request, session: Session) -> Response:
        """POST /v1/completions."""
        return await self._answered(request, session, completion_request, self._recorder.text_call, completion_reply)

    async def respond(self, request: Request, session: Session) -> Response:
        """POST /v1/responses."""
        read, write, events = responses_request, responses_reply, responses_streamed
        return await self._answered(request, session, read, self._recorder.chat_call, write, events)

    async def _answered(
        self,
        request: Request,
        session: Session,
        read: Callable[[Any], Wanted],
        answer: Callable[[Session, Wanted], Awaitable[tuple[Call, Parsed]]],
        write: Reply,
        events: Events = streamed,
    ) -> Response:
        """Record, then answer. A client that has gone away meanwhile has read no answer, and made no turn."""
        from starlette.responses import JSONResponse, StreamingResponse

        wanted = read(await self._body(request))
        if session.ended is not None:
            raise RecipeError(f"the session has ended: {session.ended}")
        call, parsed = await answer(session, wanted)
        if await request.is_disconnected():
            call.status = "aborted"
        reply = write(call, parsed, wanted, self._decode)
        if wanted.stream:
            return StreamingResponse(events(reply, wanted), media_type="text/event-stream")
        return JSONResponse(reply)

    def _decode(self, token: int) -> str:
        return self._recorder.chat.text([token])

    async def models(self, request: Request, session: Session) -> Response:
        """GET /v1/models: any name is answered by the policy."""
        from starlette.responses import JSONResponse

        return JSONResponse({"object": "list", "data": [{"id": "policy", "object": "model", "owned_by": "llmrl"}]})

    async def reward(self, request: Request, session: Session) -> Response:
        """POST /reward {value, call_id?, verdict?}: of a call, or of the episode; a later one replaces it."""
        from starlette.responses import JSONResponse

        body = await self._body(request)
        value = body.get("value") if isinstance(body, Mapping) else None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise RecipeError(f"value {value!r:.80}: expected a finite number")
        try:
            value = finite(value)
        except ValueError as error:
            raise RecipeError(f"value: {str(error).removeprefix('returned ')}") from None
        verdict = body.get("verdict")
        if verdict is not None and verdict not in get_args(Verdict):
            raise RecipeError(f"verdict {verdict!r}: expected one of {', '.join(get_args(Verdict))}")
        call_id = body.get("call_id")
        if call_id is None:
            session.reward, session.rewarded = value, True
        else:
            call = next((call for call in session.answered if call.id == call_id), None)
            if call is None:
                raise RecipeError(f"call_id {call_id!r}: no answer has this id; expected the `id` of one")
            call.reward = value
        session.verdict = verdict or session.verdict
        return JSONResponse({"ok": True})

    async def end(self, request: Request, session: Session) -> Response:
        """POST /end {status?}: the agent has done its work; the session answers nothing more."""
        from starlette.responses import JSONResponse

        body = await self._body(request)
        status = body.get("status") if isinstance(body, Mapping) else None
        session.end(str(status or "done"))
        return JSONResponse(session.trace())

    async def trace(self, request: Request, session: Session) -> Response:
        """GET /trace."""
        from starlette.responses import JSONResponse

        return JSONResponse(session.trace())

    async def open(self, request: Request) -> Response:
        """POST /sessions {metadata?}, with the gateway's key."""
        from starlette.responses import JSONResponse

        if not _bears(request, self._sessions.key):
            return refused(401, "unauthorized", "expected `Authorization: Bearer` with the gateway's key")
        try:
            body = await self._body(request)
            session = self._sessions.open(metadata=body if isinstance(body, Mapping) else {})
        except SessionsFullError as error:
            return refused(429, "full", str(error))
        except RecipeError as error:
            return refused(400, "bad_request", str(error))
        base = f"{str(request.base_url).rstrip('/')}/sessions/{session.id}"
        return JSONResponse({"session_id": session.id, "base_url": f"{base}/v1"}, status_code=201)

    async def health(self, request: Request) -> Response:
        """GET /health, for everyone."""
        from starlette.responses import JSONResponse

        return JSONResponse({"status": "ready", "sessions": len(self._sessions)})

    async def _body(self, request: Request) -> Any:
        """The body as JSON; an empty one is an empty object.

        Raises:
            RecipeError: it is too large, or no JSON.
        """
        held, most = bytearray(), self._sessions.limits.max_body_mb << 20
        async for chunk in request.stream():
            held += chunk
            if len(held) > most:
                raise RecipeError(f"a body of more than {most >> 20} MiB; expected a shorter request")
        try:
            return json.loads(held or b"{}")
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"the body is no JSON: {error}") from None


def refused(status: int, code: str, message: str) -> Response:
    """An error in the form that OpenAI's clients read."""
    from starlette.responses import JSONResponse

    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse({"error": {"message": message, "type": kind, "code": code, "param": None}}, status_code=status)


def _bears(request: Request, key: str) -> bool:
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(sent.strip().encode(), key.encode())
