"""Replies written beforehand, as real token ids: an engine for tests, which needs no model."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmrl.errors import EngineError
from llmrl.ops.stop_strings import StopStrings
from llmrl.types import Completion, Sampling

if TYPE_CHECKING:
    from torch import Tensor

Reply = Callable[[str, Sampling], str]
"""Text of the prompt, special tokens included, and the sampling settings, to text of the completion."""


@dataclass(frozen=True, kw_only=True)
class Scripted:
    """Options of the engine `scripted`."""

    replies: Sequence[str] | Reply = ("",)  # texts, given in the order of the calls and then again; or a function
    logprob: float = -1.0  # natural log-probability that every token is given
    end: bool = True  # the end-of-sequence token follows the text, if max_tokens leaves room
    concurrent: bool = False  # whether it is a server's stand-in: it never sleeps, and generates while others learn

    def __post_init__(self) -> None:
        if not callable(self.replies) and not self.replies:
            raise ValueError("replies: empty; expected at least one text, or a function of prompt and sampling")
        if self.logprob > 0:
            raise ValueError(f"logprob: {self.logprob} is above 0, which no probability is")

    def start(
        self, model: str, *, dtype: str, seed: int, max_model_len: int, stop_token_ids: Sequence[int]
    ) -> ScriptedEngine:
        """Start the engine with the tokenizer in `model`, a folder or hub name; no weights are read.

        Raises:
            EngineError: there is no tokenizer.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(model)
        except (OSError, ValueError) as error:
            raise EngineError(f"{model}: no tokenizer there: {error}; expected a folder with tokenizer.json") from error
        return ScriptedEngine(
            tokenizer=tokenizer, options=self, stop_token_ids=tuple(stop_token_ids), max_model_len=max_model_len
        )


@dataclass(kw_only=True)
class ScriptedEngine:
    """An `Engine` whose completions are known. It records its requests in `calls`."""

    tokenizer: Any  # with encode(text, add_special_tokens=False) -> ids and decode(ids) -> text
    options: Scripted
    stop_token_ids: Sequence[int] = ()
    max_model_len: int = 1 << 30
    version: int = 0
    calls: list[tuple[list[int], Sampling]] = field(default_factory=list)
    asleep: bool = False
    closed: bool = False

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Return the next reply, cut at a stop string, at `max_tokens` and at the model's length.

        Raises:
            EngineError: it sleeps or is closed, or the prompt leaves no room for a token.
        """
        self._ready()
        room = min(sampling.max_tokens, self.max_model_len - len(prompt_ids))
        if room < 1:
            raise EngineError(f"prompt of {len(prompt_ids)} tokens: no room below max_model_len={self.max_model_len}")
        ids = self._reply_ids(list(prompt_ids), sampling)
        match = StopStrings(self.tokenizer.decode, sampling.stop)(ids[:room]) if sampling.stop else None
        length, stopped_by = match or (room, None)
        ended = stopped_by is not None or (len(ids) <= room and ids[-1:] and ids[-1] in self.stop_token_ids)
        return Completion(
            token_ids=array("i", ids[:length]),
            logprobs=array("f", [self.options.logprob]) * len(ids[:length]),
            finish="stop" if ended else "length",
            version=self.version,
            stopped_by=stopped_by,
            semantics=sampling.semantics,
        )

    def _reply_ids(self, prompt_ids: list[int], sampling: Sampling) -> list[int]:
        replies = self.options.replies
        if callable(replies):
            text = replies(self.tokenizer.decode(prompt_ids), sampling)
        else:
            text = replies[len(self.calls) % len(replies)]
        self.calls.append((prompt_ids, sampling))
        ids = list(self.tokenizer.encode(text, add_special_tokens=False))
        return ids + list(self.stop_token_ids[:1]) if self.options.end else ids

    async def score(self, token_ids: Sequence[int]) -> list[float]:
        """`options.logprob` for every token after the first."""
        self._ready()
        return [self.options.logprob] * max(len(token_ids) - 1, 0)

    def load(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Read all the weights, which a sharded trainer gathers on every process, and keep only the version."""
        for _ in weights:
            pass
        self.version = version

    def sleep(self) -> None:
        self.asleep = not self.options.concurrent

    def wake(self) -> None:
        self.asleep = False

    def close(self) -> None:
        self.closed = True

    def _ready(self) -> None:
        if self.closed or self.asleep:
            raise EngineError(f"the engine is {'closed' if self.closed else 'asleep'}; call wake() or start another")


plugin = Scripted
