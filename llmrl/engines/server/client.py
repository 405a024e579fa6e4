"""Client of the engine `server`: token ids to requests, replies to completions, weights to a file."""

from __future__ import annotations

import asyncio
import shutil
import threading
from array import array
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from llmrl.engines.server import weight_file
from llmrl.engines.server.fleet import Fleet, Piece
from llmrl.engines.server.process import ApiServer
from llmrl.errors import EngineError
from llmrl.types import Completion, Sampling

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.engines.server.options import ServerOptions

T = TypeVar("T")


class VllmClient:
    """Client of running servers. Its own thread and event loop let it serve any loop of the caller."""

    checkpoint_names = True  # of the weights that it loads: servers read them from a file

    def __init__(
        self,
        options: ServerOptions,
        running: Sequence[ApiServer],
        *,
        dtype: str,
        max_model_len: int,
        stop_token_ids: Sequence[int],
    ) -> None:
        self._options = options
        self._dtype = dtype
        self._max_model_len = max_model_len
        self._stop = list(stop_token_ids)
        self._running = list(running)
        self._fleet = Fleet(options, running)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="llmrl-remote", daemon=True)
        self._thread.start()
        try:
            self._wait(self._fleet.connect())
        except BaseException:
            self.close()
            raise

    @property
    def version(self) -> int:
        """Version of the weights that the servers hold."""
        return self._fleet.version

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Sample a completion on the server with the fewest requests; a group stays together to share its prefill.

        Raises:
            EngineError: refused, not answered in time, or answered without ids and log-probabilities for every token.
        """
        room = self._room(prompt_ids)
        body = {
            "prompt": list(prompt_ids),
            "max_tokens": min(sampling.max_tokens, room),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repetition_penalty": 1.0,
            "seed": sampling.seed,
            "logprobs": 0,
            "stop_token_ids": self._stop,
            **_stopping(sampling.stop),
            "ignore_eos": True,  # the stop set is ours: all of the model's end tokens, not the one in its config
        }
        return _completion(await self._ask(body), sampling)

    async def score(self, token_ids: Sequence[int]) -> list[float]:
        if len(token_ids) < 2:
            return []
        self._room(token_ids)
        entries = (await self._ask(_scoring(token_ids)))[-1][0].get("prompt_logprobs") or []
        if len(entries) != len(token_ids):
            raise EngineError(f"engine server: {len(entries)} scores for {len(token_ids)} tokens; is it vLLM 0.31?")
        return [float(entry[str(token)]["logprob"]) for entry, token in zip(entries[1:], token_ids[1:], strict=True)]

    def load(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Give all servers the weights, once running requests have ended or were cut off; later requests wait.

        Ranks of one training run that share servers (`urls`) load them once: rank 0 sends, the others wait for it.

        Raises:
            SyncError: a server did not take them.
            EngineError: no folder has room for the file.
        """
        import torch.distributed as dist

        shared = bool(self._options.urls) and dist.is_available() and dist.is_initialized()
        if not shared or dist.get_rank() == 0:
            held: AbstractContextManager[str | None] = weight_file.write(
                weights, version, self._dtype, self._options.sync_dir
            )
        else:
            held = nullcontext()
            for _ in weights:  # a sharded trainer gathers each of them on every rank
                pass
        with held as path:
            self._wait(self._fleet.halt())
            try:
                if shared:
                    dist.barrier()  # nobody's requests run
                if path is not None:
                    self._wait(self._fleet.reload(path))
                if shared:
                    dist.barrier()
                self._wait(self._fleet.loaded(version))
            finally:
                self._wait(self._fleet.go_on())

    def layer_norms(self, token_ids: Sequence[int]) -> list[list[float]]:
        """(layers, tokens) norm of the residual stream after each decoder layer, to find where two models differ."""
        norms = self._wait(self._fleet.layer_norms(_scoring(token_ids)))
        return [layer[: len(token_ids)] for layer in norms]

    def sleep(self) -> None:
        if self._options.enable_sleep_mode:
            self._wait(self._fleet.everywhere("/sleep?level=1"))

    def wake(self) -> None:
        if self._options.enable_sleep_mode:
            self._wait(self._fleet.everywhere("/wake_up"))

    def close(self) -> None:
        if not self._loop.is_closed():
            self._wait(self._fleet.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
        for server in self._running:
            server.child.stop()
            if self._options.log_dir is None and server.child.log:
                shutil.rmtree(server.child.log.parent, ignore_errors=True)

    def _room(self, token_ids: Sequence[int]) -> int:
        """Number of tokens that may follow."""
        room = self._max_model_len - len(token_ids)
        if room < 1 or not token_ids:
            raise EngineError(
                f"engine server: a prompt of {len(token_ids)} tokens; expected at least 1 and fewer than "
                f"max_model_len={self._max_model_len}; raise rollout.max_prompt_length, or drop such problems"
            )
        return room

    def _wait(self, job: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(job, self._loop).result()

    async def _ask(self, body: dict[str, Any]) -> list[Piece]:
        if self._loop.is_closed():
            raise EngineError("engine server: it is closed; start another")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._fleet.complete(body), self._loop))


def _scoring(token_ids: Sequence[int]) -> dict[str, Any]:
    return {"prompt": list(token_ids), "max_tokens": 1, "temperature": 1.0, "prompt_logprobs": 0}


def _stopping(stop: Sequence[str]) -> dict[str, Any]:
    """Options of a request that ends at these strings, special tokens among them; their tokens are kept."""
    if not stop:
        return {}
    return {"stop": list(stop), "include_stop_str_in_output": True, "skip_special_tokens": False}


def _completion(pieces: Sequence[Piece], sampling: Sampling) -> Completion:
    """Join the server's choices to one completion; several where weights changed in its midst."""
    ids, logprobs, versions = array("i"), array("f"), array("i")
    for choice, version in pieces:
        tokens, given = choice.get("token_ids") or [], (choice.get("logprobs") or {}).get("token_logprobs") or []
        if len(tokens) != len(given) or None in given or not (tokens or choice["finish_reason"] == "abort"):
            counts = f"{len(tokens)} token ids and {len(given)} log-probabilities"
            raise EngineError(f"engine server: an answer with {counts}; expected as many of both: is it vLLM 0.31?")
        ids.extend(tokens)
        logprobs.extend(given)
        versions += array("i", [version]) * len(tokens)
    finish, reason = pieces[-1][0]["finish_reason"], pieces[-1][0].get("stop_reason")
    return Completion(
        token_ids=ids,
        logprobs=logprobs,
        finish=finish if finish in ("stop", "length") else "abort",
        version=versions[0] if versions else pieces[-1][1],
        versions=versions if len(set(versions)) > 1 else None,
        stopped_by=reason if isinstance(reason, str) else None,
        semantics=sampling.semantics,
    )
