"""Transformers' own generation, for machines without vLLM: a choice, never a fallback of another engine."""

from __future__ import annotations

import asyncio
import copy
import threading
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from llmrl import aio
from llmrl.chat import load_tokenizer
from llmrl.engines.hf.requests import Request, batches
from llmrl.engines.hf.sampler import Keeper, SecondModel, TokenSampler, ending
from llmrl.engines.hf.scorer import scored
from llmrl.errors import EngineError, SyncError
from llmrl.ops.stop_strings import StopStrings
from llmrl.recipe.ranges import Amount, Count
from llmrl.types import Completion, Ragged, Sampling
from llmrl.vision.engines import require_alone

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


_HOPS = 4  # turns of the event loop from a group that is begun to its requests: the group, its episodes, the engine


@dataclass(frozen=True, kw_only=True)
class Hf:
    """Options of the engine `hf`."""

    max_num_seqs: Count = 64  # sequences in one batch; every one is prefilled, also where prompts are equal
    device: str | None = None  # None: the first GPU, else the CPU
    attn_implementation: str | None = None  # None: Transformers chooses
    logits_chunk_mb: int = 256  # of float32 logits in one piece, when a text is scored
    return_kept_ids: bool = False  # where top_p is below 1, say among which tokens each was sampled
    min_tokens_to_keep: Count = 1  # that top_p then leaves in any case; the tokens that end a completion come on top
    mask_update_steps: int | None = None  # top_p is then a copy's, which takes the weights every so many steps (NLPO)
    critic: str | None = None  # a folder final/critic, whose Q moves the logits (ILQL); never for answers that train
    critic_beta: Amount = 4.0  # by how much: logits + critic_beta * (Q - V)
    critic_top_k: int = 50  # among so many of the policy's likeliest tokens; 0: among all

    sees: ClassVar[bool] = True
    concurrent: ClassVar[bool] = True  # its copy of the weights is its own; trainer and engine share the processor

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1 or self.logits_chunk_mb < 1 or self.min_tokens_to_keep < 1:
            raise ValueError("max_num_seqs, logits_chunk_mb and min_tokens_to_keep must be at least 1")
        if self.mask_update_steps is not None and (self.mask_update_steps < 1 or not self.return_kept_ids):
            raise ValueError("mask_update_steps: expected at least 1, and return_kept_ids: true")
        if self.critic_top_k < 0:
            raise ValueError(f"critic_top_k {self.critic_top_k}: expected at least 0")

    def start(
        self, model: str, *, dtype: str, seed: int, max_model_len: int, stop_token_ids: Sequence[int]
    ) -> HfEngine:
        """Start the engine with its own copy of the model in `dtype`.

        Raises:
            EngineError: the folder or hub name holds no causal language model.
        """
        import torch
        from transformers import GenerationConfig
        from transformers.integrations.deepspeed import unset_hf_deepspeed_config

        from llmrl.critics import action_values
        from llmrl.critics.language_model import LanguageModel, pretrained

        unset_hf_deepspeed_config()  # under ZeRO-3 Transformers would shard this model too, which samples by itself
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            network = pretrained(
                LanguageModel,
                model,
                dtype=getattr(torch, dtype),
                attn_implementation=self.attn_implementation,
            )
        except (OSError, ValueError) as error:
            raise EngineError(f"engine hf: {model} did not load: {error}") from error
        # generate() fills whatever a request leaves open from here: a repetition penalty would change the distribution
        network.generation_config = GenerationConfig()
        critic = None if self.critic is None else action_values.load(self.critic, dtype, device)
        return HfEngine(network.to(device).eval(), self, seed, max_model_len, stop_token_ids, model, critic)


class HfEngine:
    """A running model. Requests that wait at the same time with the same settings are one left-padded batch.

    Every request draws from a generator of its own, so that its completion does not depend on its neighbours (beyond
    rounding, which differs with the padding). Log-probabilities are of the distribution that was sampled from, in
    float32; at temperature 0 they are those of the softmax at temperature 1, as in vLLM.
    """

    sees: Literal[True] = True

    def __init__(
        self,
        network: PreTrainedModel,
        options: Hf,
        seed: int,
        max_model_len: int,
        stop_token_ids: Sequence[int],
        folder: str,
        critic: Any = None,
    ) -> None:
        self._network: Any = network
        self._options = options
        self._seed = seed
        self._max_model_len = max_model_len
        self._stop = list(stop_token_ids)
        self._folder = folder  # where the tokenizer lies, which only stop strings need
        self._waiting: list[Request] = []
        self._pump: asyncio.Task[None] | None = None
        self._busy = threading.Lock()  # a batch runs in a thread; weights change between batches only
        self._mask: Any = copy.deepcopy(network) if options.mask_update_steps is not None else None
        self._critic = critic
        self._loaded = False
        self._tokenizer: Any = None
        self.version = 0

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling, images: Sequence[str] = ()) -> Completion:
        """Sample a completion of a prompt and its pictures.

        See `HfEngine` for batching and for the meaning of the log-probabilities.

        Raises:
            EngineError: the prompt is empty or leaves no room, or the engine is closed.
        """
        require_alone(images, self._mask is not None or self._critic is not None, "hf")
        room = self._max_model_len - len(prompt_ids)
        if room < 1 or not prompt_ids:
            raise EngineError(
                f"engine hf: a prompt of {len(prompt_ids)} tokens; expected at least 1 and fewer than "
                f"max_model_len={self._max_model_len}; raise rollout.max_prompt_length, or drop such problems"
            )
        self._open()
        if sampling.seed is None:
            self._seed += 1
            sampling = replace(sampling, seed=self._seed)
        sampling = replace(sampling, max_tokens=min(sampling.max_tokens, room))
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append(Request(list(prompt_ids), sampling, future, list(images)))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.ensure_future(self._run())
        return await future

    async def score(self, token_ids: Sequence[int]) -> list[float]:
        self._open()
        if len(token_ids) < 2:
            return []
        return await asyncio.to_thread(self._score, list(token_ids))

    def load(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Write the weights into the model, in place; waits for the requests that were begun before.

        A mask policy takes them at the first load, and whenever `version` is a multiple of `mask_update_steps`.

        Raises:
            SyncError: a name or a shape that the model does not have, or a weight that was not given. The model then
                holds old and new weights and must not be used.
        """
        import torch

        self._open()
        if aio.in_background():  # else nobody can have begun anything that is not over
            aio.wait(self._quiet())
        with self._busy, torch.no_grad():
            own = self._network.state_dict()
            fresh: set[int] = set()  # tied weights are one tensor under two names
            for name, tensor in weights:
                if name not in own:
                    raise SyncError(
                        f"engine hf: weight {name!r} is unknown to the model; it has {next(iter(own))}, ..."
                    )
                if own[name].shape != tensor.shape:
                    raise SyncError(
                        f"engine hf: weight {name}: {tuple(tensor.shape)}, expected {tuple(own[name].shape)}"
                    )
                own[name].copy_(tensor)
                fresh.add(own[name].data_ptr())
            stale = [n for n, p in self._network.named_parameters() if p.data_ptr() not in fresh]
            if stale:
                raise SyncError(f"engine hf: {len(stale)} weights were not given, among them {', '.join(stale[:3])}")
            every = self._options.mask_update_steps
            if every is not None and (version % every == 0 or not self._loaded):
                self._mask.load_state_dict(own)
            self._loaded = True
            self.version = version

    def layer_norms(self, token_ids: Sequence[int]) -> list[list[float]]:
        """(layers, tokens) norm of the residual stream after each decoder layer, to find where two models differ."""
        import torch

        from llmrl.critics.language_model import layer_norms

        with self._busy, torch.inference_mode():
            ids = torch.tensor([list(token_ids)], device=self._network.device)
            return layer_norms(self._network, lambda: self._network(ids, use_cache=False))

    def sleep(self) -> None:
        """Do nothing: the model stays where it is."""

    def wake(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        self._network = self._mask = None

    def _open(self) -> None:
        if self._network is None:
            raise EngineError("engine hf: it is closed; start another")

    async def _quiet(self) -> None:
        """Wait until every request begun before has ended, so that timing does not decide which weights sample it."""
        while True:
            for _ in range(_HOPS):
                await asyncio.sleep(0)
            if self._pump is None or self._pump.done():
                return
            await asyncio.wait([self._pump])

    async def _run(self) -> None:
        """Run the waiting requests, batch by batch, until none waits."""
        taken: list[Request] = []
        try:
            while True:
                await asyncio.sleep(0)  # whoever can ask now, asks first
                taken, self._waiting = self._waiting, []
                if not taken:
                    return
                for batch in batches(taken, self._options.max_num_seqs):
                    completions = await asyncio.to_thread(self._generate, batch)
                    for request, completion in zip(batch, completions, strict=True):
                        if not request.future.done():
                            request.future.set_result(completion)
        except Exception as error:
            for request in taken + self._waiting:
                if not request.future.done():
                    request.future.set_exception(EngineError(f"engine hf: {type(error).__name__}: {error}"))
            self._waiting = []

    def _generate(self, batch: list[Request]) -> list[Completion]:
        import torch
        from transformers import GenerationConfig

        with self._busy, torch.inference_mode():
            self._open()
            device = self._network.device
            width = max(len(r.prompt_ids) for r in batch)
            rows = [[0] * (width - len(r.prompt_ids)) + r.prompt_ids for r in batch]
            mask = [[0] * (width - len(r.prompt_ids)) + [1] * len(r.prompt_ids) for r in batch]
            attended = torch.tensor(mask, device=device)
            keeper = self._keeper(batch[0].sampling, attended)
            sampler = TokenSampler([r.sampling for r in batch], device, keeper, self._moved(attended))
            strings = self._strings(batch[0].sampling.stop)
            with self._fed(torch.tensor(rows, device=device), [r.images for r in batch]) as (prompts, pictures):
                self._network.generate(
                    input_ids=prompts,
                    attention_mask=attended,
                    **pictures,
                    logits_processor=[sampler],
                    stopping_criteria=None if strings is None else ending(strings, width),
                    generation_config=GenerationConfig(
                        do_sample=False,  # the sampler draws; the highest of its scores is the draw
                        max_new_tokens=batch[0].sampling.max_tokens,
                        eos_token_id=self._stop or None,
                        pad_token_id=self._stop[0] if self._stop else 0,
                    ),
                )
            columns = [sampler.rows(i) for i in range(len(batch))]
            kept = [None if keeper is None else keeper.kept(i) for i in range(len(batch))]
            return [self._completion(r.sampling, strings, *c, k) for r, c, k in zip(batch, columns, kept, strict=True)]

    def _fed(
        self, prompts: Tensor, images: list[list[str]]
    ) -> AbstractContextManager[tuple[Tensor, dict[str, Tensor]]]:
        """Prompts for the model, and inputs of their pictures."""
        from llmrl.vision import sight

        if not any(images):
            return nullcontext((prompts, {}))
        return sight.load(self._folder).fed(self._network, self._network, prompts, images)

    def _strings(self, stop: Sequence[str]) -> StopStrings | None:
        if not stop:
            return None
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self._folder)
        return StopStrings(self._tokenizer.decode, stop)

    def _keeper(self, sampling: Sampling, attended: Tensor) -> Keeper | None:
        """Make the processor that applies top-p and records the kept ids, where that is asked for."""
        if not self._options.return_kept_ids or sampling.top_p >= 1.0 or sampling.temperature == 0:
            return None
        if sampling.top_k > 0 or sampling.min_p > 0.0:
            raise EngineError("engine hf: return_kept_ids knows top_p alone; set rollout.top_k=0 and rollout.min_p=0")
        return Keeper(sampling, self._options.min_tokens_to_keep, self._stop, self._mask, attended)

    def _moved(self, attended: Tensor) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Make what moves the logits of a batch by the critic's numbers, where there is one."""
        if self._critic is None:
            return None
        from llmrl.ops.perturbation import perturbed

        critic, options = SecondModel(self._critic, attended), self._options
        return lambda ids, logits: perturbed(logits, critic.logits(ids), options.critic_beta, options.critic_top_k)

    def _completion(
        self,
        sampling: Sampling,
        strings: StopStrings | None,
        ids: list[int],
        logprobs: list[float],
        kept: list[array[int]] | None,
    ) -> Completion:
        """Make a completion of a row up to its first stop; the draws behind it belong to a finished row."""
        length = next((i + 1 for i, token in enumerate(ids) if token in self._stop), len(ids))
        ended = ids[length - 1] in self._stop
        match = None if strings is None else strings(ids[: length - ended])
        length, stopped_by = match or (length, None)
        return Completion(
            token_ids=array("i", ids[:length]),
            logprobs=array("f", logprobs[:length]),  # which are float32, as Transformers gives the scores
            support_ids=None if kept is None else Ragged.of(kept[:length]),
            finish="stop" if ended or stopped_by else "length",
            stopped_by=stopped_by,
            version=self.version,
            semantics=sampling.semantics,
        )

    def _score(self, token_ids: list[int]) -> list[float]:
        import torch

        with self._busy, torch.inference_mode():
            self._open()
            return scored(self._network, token_ids, self._options.logits_chunk_mb)


plugin = Hf
