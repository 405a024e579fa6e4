"""vLLM in the training process: the policy samples where it is trained, on a CPU or sharing the GPU."""

from __future__ import annotations

import asyncio
import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from llmrl.aio import wait
from llmrl.chat import load_tokenizer
from llmrl.engines.vllm import pictures
from llmrl.engines.vllm.outputs import kept_ids, sampled_logprobs
from llmrl.errors import EngineError
from llmrl.ops.stop_strings import StopStrings
from llmrl.recipe.ranges import Amount, Count, PositiveShare
from llmrl.types import Completion, Ragged, Sampling
from llmrl.vision.engines import require_alone

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.engines.vllm.mask_policy import MaskPolicy

_CPU_BATCHED_TOKENS = 8192
_CPU_BLOCK = 32  # tokens, the least that its kernels take
_RECEIVER = "llmrl.engines.vllm.worker.WeightReceiver"


@dataclass(frozen=True)
class Vllm:
    """Options of the engine; the names are vLLM's."""

    gpu_memory_utilization: PositiveShare = 0.3  # share of the GPU for weights and KV cache; the trainer needs the rest
    enforce_eager: bool | None = None  # None: eager on a CPU, where compiling costs 45 s, compiled on a GPU
    max_num_seqs: Count = 256  # sequences in flight
    enable_prefix_caching: bool = True  # the completions of a prompt share its prefill
    enable_sleep_mode: bool = True  # where the platform has it
    cpu_kvcache_space: Count = 1  # GiB, on a CPU
    block_size: Count | None = (
        None  # tokens; None: 32 on a CPU, where vLLM's 128 cache no short prompt, else vLLM's own
    )
    return_kept_ids: bool = False  # where top_p is below 1, say among which tokens each was sampled (NLPO)
    min_tokens_to_keep: Count = 1  # that top_p then leaves in any case; the tokens that end a completion come on top
    mask_update_steps: int | None = None  # top_p is then a copy's, which takes the weights every so many steps (NLPO)
    critic: str | None = None  # a folder final/critic, whose Q moves the logits (ILQL); never for answers that train
    critic_beta: Amount = 4.0  # by how much: logits + critic_beta * (Q - V)
    critic_top_k: int = 50  # among so many of the policy's likeliest tokens; 0: among all
    engine_kwargs: dict[str, Any] = field(default_factory=dict, hash=False)  # anything else that vllm.LLM takes

    sees: ClassVar[bool] = True
    concurrent: ClassVar[bool] = False  # it is stepped by the thread that trains, and sleeps meanwhile

    def __post_init__(self) -> None:
        if self.mask_update_steps is not None and (self.mask_update_steps < 1 or not self.return_kept_ids):
            raise ValueError("mask_update_steps: expected at least 1, and return_kept_ids: true")
        if self.critic_top_k < 0:
            raise ValueError(f"critic_top_k {self.critic_top_k}: expected at least 0")

    def start(
        self, model: str, *, dtype: str, seed: int, max_model_len: int, stop_token_ids: Sequence[int]
    ) -> Colocated:
        """Start the engine.

        Raises:
            EngineError: vLLM is not installed, or refuses the model.
        """
        # before the import: in process, so that weights pass by reference and a step can be repeated to the bit
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(self.cpu_kvcache_space))
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        try:
            from vllm import LLM
            from vllm.platforms import current_platform
        except ImportError as error:
            raise EngineError(
                f"engine vllm: cannot be imported: {error}; install llmrl[gpu], or requirements/cpu.txt without a GPU "
                "(`make .venv`), or choose engine.name=hf"
            ) from error
        on_cpu = current_platform.is_cpu()
        options: dict[str, Any] = {
            "enforce_eager": on_cpu if self.enforce_eager is None else self.enforce_eager,
            "max_num_seqs": self.max_num_seqs,
            "enable_prefix_caching": self.enable_prefix_caching,
            "distributed_executor_backend": "uni",
            "worker_extension_cls": _RECEIVER,
            "logprobs_mode": "processed_logprobs",  # of the distribution that was sampled from
            "skip_tokenizer_init": True,
            "disable_log_stats": True,
            **pictures.options(model),
        }
        if self.block_size:
            options["block_size"] = self.block_size
        if on_cpu:
            # A prompt cut in two makes vLLM turn a seeded generator back, which CPU generators cannot ("does not use
            # offset"): prompts are taken whole.
            options["enable_chunked_prefill"] = False
            options.setdefault("block_size", _CPU_BLOCK)
            options["max_num_batched_tokens"] = max(max_model_len, _CPU_BATCHED_TOKENS)
        else:
            options["gpu_memory_utilization"] = self.gpu_memory_utilization
            options["enable_sleep_mode"] = self.enable_sleep_mode
        if processors := self._processors():
            options["logits_processors"] = processors
        try:
            llm = LLM(
                model=model, dtype=dtype, seed=seed, max_model_len=max_model_len, **(options | self.engine_kwargs)
            )
        except Exception as error:
            raise EngineError(f"engine vllm: {model} did not load: {type(error).__name__}: {error}") from error
        least = self.min_tokens_to_keep if self.return_kept_ids else None
        engine = Colocated(llm, model, stop_token_ids, max_model_len, bool(options.get("enable_sleep_mode")), least)
        self._beside(engine, model, dtype, "cpu" if on_cpu else "cuda")
        return engine

    def _beside(self, engine: Colocated, model: str, dtype: str, device: str) -> None:
        """Care for the models beside: the trainer's own, and those that read along, a mask policy and a critic."""
        from llmrl.critics import action_values
        from llmrl.engines.vllm.mask_policy import MaskPolicy, load
        from llmrl.engines.vllm.shared_classes import spare_trainer

        spare_trainer()
        if self.mask_update_steps is not None:
            engine.follow(load(model, dtype, device), self.mask_update_steps)
        if self.critic is not None:
            network = action_values.load(self.critic, dtype, device)
            engine.listen(MaskPolicy(network), self.critic_beta, self.critic_top_k)

    def _processors(self) -> list[type]:
        """Logits processors that these options need."""
        from llmrl.engines.vllm import nucleus, perturbation

        kept, moved = self.return_kept_ids, self.critic is not None
        return [made() for made, asked in ((nucleus.processor, kept), (perturbation.processor, moved)) if asked]


class Colocated:
    """A running `vllm.LLM`. Requests of many coroutines are batched: between two steps everyone who can ask, asks."""

    sees: Literal[True] = True

    def __init__(
        self,
        llm: Any,
        folder: str,
        stop_token_ids: Sequence[int],
        max_model_len: int,
        sleeps: bool,
        least: int | None = None,
    ) -> None:
        self._llm = llm
        self._folder = folder  # where the tokenizer lies, which only stop strings need
        self._tokenizer: Any = None
        self._strings: dict[str, StopStrings] = {}  # of the requests that have any
        self._stop = list(stop_token_ids)
        self._max_model_len = max_model_len
        self._sleeps = sleeps
        self._least = least  # tokens that top_p keeps in any case, where kept ids are wanted
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._mask: MaskPolicy | None = None
        self.checkpoint_names = True  # of weights; a mask policy takes those of modules
        self._mask_steps, self._loaded = 1, False
        self._moved: tuple[float, int] | None = None  # by a critic: beta and top-k
        self._requests = self._named = 0
        self._pump: asyncio.Task[None] | None = None
        self.version = 0

    def follow(self, mask: MaskPolicy, steps: int) -> None:
        """Take top-p from `mask`, which gets the weights at the first load and every `steps` steps."""
        from llmrl.engines.vllm.mask_policy import policies

        self._mask, self._mask_steps, self.checkpoint_names = mask, steps, False
        policies[str(id(self))] = mask

    def listen(self, critic: MaskPolicy, beta: float, top_k: int) -> None:
        """Move the logits of all completions by the critic's numbers."""
        from llmrl.engines.vllm.mask_policy import policies

        policies[f"{id(self)}/critic"] = critic
        self._moved = (beta, top_k)

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling, images: Sequence[str] = ()) -> Completion:
        from vllm import SamplingParams

        require_alone(images, self._mask is not None or self._moved is not None, "vllm")
        room = self._max_model_len - len(prompt_ids)
        if room < 1:
            raise EngineError(
                f"engine vllm: a prompt of {len(prompt_ids)} tokens leaves no room in {self._max_model_len}; raise "
                "rollout.max_prompt_length, or drop such problems"
            )
        nucleus = self._nucleus(sampling)
        params = SamplingParams(
            temperature=sampling.temperature,
            top_p=1.0 if nucleus else sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            max_tokens=min(sampling.max_tokens, room),
            seed=sampling.seed,
            logprobs=0,
            flat_logprobs=True,
            stop_token_ids=self._stop,
            ignore_eos=True,  # the stop set is ours: all of the model's end tokens, not the one in its config
            detokenize=False,
            extra_args=self._perturbation() | (nucleus or {}) or None,
        )
        strings = self._stop_strings(sampling.stop)
        answered = await self._ask(prompt_ids, params, strings, images)
        if images:
            pictures.require_same(answered.prompt_token_ids, prompt_ids)
        output = answered.outputs[0]
        ids = array("i", output.token_ids)
        match = None if strings is None else strings(ids, len(ids) - 1)
        stopped_by = None if match is None or output.finish_reason == "stop" else match[1]
        finish: Any = "stop" if stopped_by else output.finish_reason
        return Completion(
            token_ids=ids,
            support_ids=Ragged.of(kept_ids(nucleus, ids)) if nucleus else None,
            logprobs=sampled_logprobs(output.logprobs, ids),
            finish=finish if finish in ("stop", "length") else "abort",
            version=self.version,
            stopped_by=stopped_by,
            semantics=sampling.semantics,
        )

    def _stop_strings(self, stop: Sequence[str]) -> StopStrings | None:
        if not stop:
            return None
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self._folder)
        return StopStrings(self._tokenizer.decode, stop)

    def _nucleus(self, sampling: Sampling) -> dict[str, Any] | None:
        """Arguments that ask llmrl's own top-p for the kept ids, where they are wanted and some are left out."""
        if self._least is None or sampling.top_p >= 1.0 or sampling.temperature == 0:
            return None
        if sampling.top_k > 0 or sampling.min_p > 0.0:
            raise EngineError("engine vllm: return_kept_ids knows top_p alone; set rollout.top_k=0 and rollout.min_p=0")
        from llmrl.engines.vllm.nucleus import OPTION

        self._named += 1
        policy = None if self._mask is None else str(id(self))
        return {OPTION: [f"{id(self)}/{self._named}", sampling.top_p, self._least, self._stop, policy]}

    def _perturbation(self) -> dict[str, Any]:
        """Arguments that ask for logits moved by the critic, where there is one."""
        if self._moved is None:
            return {}
        from llmrl.engines.vllm.perturbation import OPTION

        self._named += 1
        return {OPTION: [f"{id(self)}/{self._named}", f"{id(self)}/critic", *self._moved]}

    async def score(self, token_ids: Sequence[int]) -> list[float]:
        from vllm import SamplingParams

        output = await self._ask(token_ids, SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False))
        entries = output.prompt_logprobs[1:]
        return [entry[token].logprob for token, entry in zip(token_ids[1:], entries, strict=True)]

    def load(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        if self._mask is not None and (version % self._mask_steps == 0 or not self._loaded):
            weights = self._mask.following(weights)
        self._llm.collective_rpc("receive", args=(weights,))
        self._llm.reset_prefix_cache()  # it holds what the old weights computed
        self._llm.llm_engine.engine_core.reset_encoder_cache()  # of pictures, which the worker has just forgotten
        self._loaded = True
        self.version = version

    def layer_norms(self, token_ids: Sequence[int]) -> list[list[float]]:
        """(layers, tokens) norm of the residual stream after each decoder layer, to find where two models differ."""
        self._llm.reset_prefix_cache()
        self._llm.collective_rpc("watch_layers")
        wait(self.score(token_ids))
        norms: list[list[float]] = self._llm.collective_rpc("layer_norms")[0]
        return [layer[: len(token_ids)] for layer in norms]

    def sleep(self) -> None:
        if self._mask is not None:
            self._mask.forget()
        if self._sleeps:
            self._llm.sleep(level=1)

    def wake(self) -> None:
        if self._sleeps:
            self._llm.wake_up()

    def close(self) -> None:
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
        if self._mask is not None or self._moved is not None:
            from llmrl.engines.vllm.mask_policy import policies

            policies.pop(str(id(self)), None)
            policies.pop(f"{id(self)}/critic", None)
            self._mask = None

    async def _ask(
        self, prompt_ids: Sequence[int], params: Any, strings: StopStrings | None = None, images: Sequence[str] = ()
    ) -> Any:
        self._requests += 1
        request = str(self._requests)
        future = asyncio.get_running_loop().create_future()
        self._waiting[request] = future
        if strings is not None:
            self._strings[request] = strings
        self._llm.llm_engine.add_request(request, pictures.prompt(self._folder, prompt_ids, images), params)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.ensure_future(self._run())
        try:
            return await future
        except asyncio.CancelledError:
            self._waiting.pop(request, None)
            self._llm.llm_engine.abort_request([request])
            raise
        finally:
            self._strings.pop(request, None)

    async def _run(self) -> None:
        """Step the engine while anyone waits."""
        engine = self._llm.llm_engine
        try:
            while engine.has_unfinished_requests():
                await asyncio.sleep(0)
                for output in engine.step():
                    ended = output.finished or self._cut(output)
                    future = self._waiting.pop(output.request_id, None) if ended else None
                    if future is not None and not future.done():
                        future.set_result(output)
        except Exception as error:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(EngineError(f"engine vllm: {type(error).__name__}: {error}"))
            self._waiting.clear()

    def _cut(self, output: Any) -> bool:
        """End a request whose newest token completes a stop string: vLLM has no tokenizer here to find it by."""
        strings = self._strings.get(output.request_id)
        ids = output.outputs[0].token_ids
        if strings is None or strings(ids, len(ids) - 1) is None:
            return False
        self._llm.llm_engine.abort_request([output.request_id])
        return True


plugin = Vllm
