"""Run vLLM's own OpenAI server so that it demands a key on every route, and shuts down in order.

vLLM (0.31) demands its key under /v1, /v2, /inference and /cohere only; here everything that uvicorn serves is behind
`llmrl.clients.bearer.Guard`, so that a route which a later vLLM adds is guarded too. The key comes from the environment
variable LLMRL_API_KEY.

vLLM (0.31) stops its engine, has the sockets to it closed, and only then cancels the task that reads answers from them.
On a busy machine the task notices the closed sockets first and logs a crash, with a traceback, where nothing crashed;
on an idle one the requests in flight are forgotten, and the server waits for them for ever. Here the task ends first,
and with it those requests.
"""

from __future__ import annotations

import asyncio
import os
import runpy
import sys
from collections.abc import Callable
from typing import Any

from llmrl.clients.bearer import Guard, read_key
from llmrl.engines.server.process import KEY_VARIABLE, names_key


def guarded(load: Callable[[Any], None], key: str) -> Callable[[Any], None]:
    """A `uvicorn.Config.load` after which the loaded application demands the key.

    vLLM has a CORS middleware, which answers preflights: they pass without it.
    """

    def loaded(self: Any) -> None:
        load(self)
        self.loaded_app = Guard(self.loaded_app, key, preflight=True)

    return loaded


def in_order(shutdown: Callable[..., None]) -> Callable[..., None]:
    """Wrap a shutdown so that it first ends the reader and the requests of its client; callable from any thread.

    Args:
        shutdown: that of vLLM's engine client.
    """

    def ended(self: Any, *args: Any, **options: Any) -> None:
        reader: asyncio.Task[None] | None = getattr(self, "output_handler", None)
        if reader is not None and not reader.done():
            # The loop takes its calls in turn: this one comes before any that `shutdown` makes.
            reader.get_loop().call_soon_threadsafe(_end, self, reader)
        shutdown(self, *args, **options)

    return ended


def _end(client: Any, reader: asyncio.Task[None]) -> None:
    reader.cancel()
    requests = client.output_processor
    requests.abort_requests(list(requests.request_states), internal=True)  # their replies end with reason "abort"


def main() -> None:
    """Serve; the arguments are those of `vllm serve`, without `--api-key`."""
    import uvicorn
    from vllm.v1.engine.async_llm import AsyncLLM

    if names_key(sys.argv[1:]):
        sys.exit(f"llmrl: --api-key: found on the command line, which others can read; set {KEY_VARIABLE} instead")
    key = read_key(os.environ.pop(KEY_VARIABLE, None), where=KEY_VARIABLE)  # the engine's process inherits none
    if key is not None:
        uvicorn.Config.load = guarded(uvicorn.Config.load, key)  # type: ignore[assignment, method-assign]
    AsyncLLM.shutdown = in_order(AsyncLLM.shutdown)  # type: ignore[method-assign]
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")


if __name__ == "__main__":  # the engine's own process imports this file again
    main()
