"""Serve answers by a search behind OpenAI's chat completions, and nothing else of that protocol."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmrl.clients.addresses import listening
from llmrl.clients.bearer import Guard, open_to_all, reaches_others
from llmrl.engines.server.process import KEY_VARIABLE
from llmrl.errors import LlmrlError, RecipeError
from llmrl.evaluation.run import EvalSetup, local_search
from llmrl.evaluation.search import SearchGenerator
from llmrl.plugins import construct
from llmrl.scoring.manager import GradingPool
from llmrl.serve.scoring import refused
from llmrl.types import Problem, Sampling

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

SAMPLED = ("temperature", "top_p", "top_k", "min_p", "max_tokens", "seed")  # what a request may set
KNOWN = {*SAMPLED, "model", "messages", "max_completion_tokens", "n", "stream", "user"}
DEFAULT = Sampling(temperature=0.7, max_tokens=1024)


def serve(
    checkpoint: str,
    setup: EvalSetup,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    name: str | None = None,
    max_tokens: int = DEFAULT.max_tokens,
) -> int:
    """Serve until ctrl-C.

    Args:
        checkpoint: a folder with model and tokenizer, or a hub name.
        setup: engine, strategy, judge and budget.
        api_key: bearer token that clients must send; None lets everyone in.
        name: of the model for clients; None is `checkpoint` itself.
        max_tokens: the most that a request may ask of an answer, and what one gets that asks for nothing.
    Returns:
        The exit code: 0 after ctrl-C.
    Raises:
        RecipeError: no such strategy or judge.
        CheckpointError, EngineError: the model does not load; the port is taken.
    """
    import uvicorn

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        listening(host, port) as sock,
        GradingPool(setup.reward_workers, setup.reward_timeout_s) as pool,
        local_search(checkpoint, setup, 0, max_tokens, pool) as generator,
    ):
        at, number = sock.getsockname()[:2]
        if api_key is None and reaches_others(at):
            print(open_to_all(f"{at}:{number}", KEY_VARIABLE), file=sys.stderr)
        served = app(generator, name or checkpoint, replace(DEFAULT, max_tokens=max_tokens), api_key)
        where = f"http://{at}:{number}/v1"
        print(f"llmrl: {name or checkpoint} answers by {setup.search} at {where}; ctrl-C ends it", flush=True)
        try:
            uvicorn.Server(uvicorn.Config(served, log_level="warning", access_log=False)).run(sockets=[sock])
        except KeyboardInterrupt:  # raised again once everything has ended
            print("llmrl: the server has stopped", file=sys.stderr)
    return 0


def app(generator: SearchGenerator, name: str, default: Sampling, api_key: str | None) -> Starlette:
    """Make the app with POST /v1/chat/completions, GET /v1/models and GET /health, which alone needs no key."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def complete(request: Request) -> Response:
        try:
            messages, sampling = asked(json.loads(await request.body()), name, default)
            played = await generator.generate(Problem(id="request", messages=messages), sampling)
        except (ValueError, TypeError) as error:  # LlmrlErrors of the request among them
            return refused(400, "bad_request", str(error))
        except LlmrlError as error:
            return refused(500, type(error).__name__, str(error))
        if played.trajectory.status == "error":
            return refused(400, "bad_request", played.trajectory.reason)
        return JSONResponse(reply(played.trajectory, played.tokens or 0, name))

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model", "owned_by": "llmrl"}]})

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ready"})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", complete, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
        ],
        middleware=[] if api_key is None else [Middleware(Guard, key=api_key)],
    )


def asked(body: Any, name: str, default: Sampling) -> tuple[list[dict[str, Any]], Sampling]:
    """Messages and sampling of a request.

    Raises:
        RecipeError: an option that is unknown, of another type, or that a search cannot serve.
    """
    messages = body.get("messages") if isinstance(body, dict) else None
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise RecipeError("expected an object with `messages`, a list of objects with role and content")
    unknown = sorted(set(body) - KNOWN)
    if unknown or body.get("stream") or body.get("n", 1) != 1:
        found = ", ".join(unknown) or ("stream" if body.get("stream") else "n")
        raise RecipeError(f"{found}: a search answers once and whole; expected {', '.join(sorted(KNOWN - {'stream'}))}")
    if body.get("model", name) != name:
        raise RecipeError(f"model {body['model']!r}: not served; expected {name!r}")
    given = {key: body[key] for key in SAMPLED if body.get(key) is not None}
    if body.get("max_completion_tokens") is not None:
        given["max_tokens"] = body["max_completion_tokens"]
    settings = {"temperature": default.temperature, "max_tokens": default.max_tokens} | given
    sampling: Sampling = construct(Sampling, settings, "request")
    if not 1 <= sampling.max_tokens <= default.max_tokens:
        raise RecipeError(f"max_tokens {sampling.max_tokens}: expected 1 to {default.max_tokens}")
    return messages, sampling


def reply(trajectory: Any, tokens: int, name: str) -> dict[str, Any]:
    """A chat completion; its usage counts what all branches generated, which is what the answer cost."""
    prompt = len(trajectory.turns[0].prompt_ids) if trajectory.turns else 0
    message = {"role": "assistant", "content": trajectory.text}
    finish = "length" if trajectory.truncated else "stop"
    return {
        "id": "chatcmpl-search",
        "object": "chat.completion",
        "model": name,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens},
    }
