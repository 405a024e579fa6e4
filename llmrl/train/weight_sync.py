"""Send the policy's weights into the engine, and prove that they arrived."""

from __future__ import annotations

import hashlib
import math
import re
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from llmrl.aio import wait
from llmrl.critics.language_model import layer_norms
from llmrl.errors import LlmrlError, SyncError, TrainingError
from llmrl.protocols import Engine
from llmrl.train.network import plain_model
from llmrl.train.parallel import gather, gathered_parameters

if TYPE_CHECKING:
    from llmrl.train.learner import Learner

BOUNDS = {"float32": 2e-5, "bfloat16": 5e-2}
"""The largest mean gap between the engine's and the trainer's log-probabilities of the probe, in nats. Kernels alone
leave 5e-7 in float32 and 3e-3 in bfloat16 (docs/engines.md); a tied head left stale left 0.37."""

PROBE = 64  # tokens
_LAYER = re.compile(r".*?\.\d+\.")
"""The beginning of the names of a layer's weights."""
_OF_HEAD = re.compile(r"(?<!attn_)logit.*(cap|scal)|tie_word|padded_vocab")
"""Options of configurations that change what a head makes of states."""


class WeightSync:
    """Keeps an engine at the policy's weights whenever it generates next, and asleep while it does not.

    Args:
        policy: whose weights they are.
        engine: that samples from them; None where nothing is generated in the run.
        dtype: in which both compute, which decides how far their log-probabilities may differ.
        due: tells if somebody generates with a version of the weights; others are not sent.
    """

    def __init__(
        self, policy: Learner, engine: Engine | None, dtype: str, due: Callable[[int], bool] = lambda _: True
    ) -> None:
        self._policy = policy
        self._engine = engine
        self._dtype = dtype
        self._due = due
        self._awake = True
        self.metrics: dict[str, float] = {}  # of the last step; none where nothing was sent

    def __call__(self, version: int) -> None:
        """Wake the engine, load the policy's weights into it, and prove it, where it is due; see `send`. Collective."""
        self.metrics = {}
        if self._engine is not None and self._due(version):
            self._engine.wake()
            self._awake = True
            self.metrics = send(self._policy, self._engine, version, self._dtype)

    def sleep(self) -> None:
        """Give the engine's memory to the trainer, until the next time."""
        if self._engine is not None and self._awake:
            self._engine.sleep()
            self._awake = False


def probed(policy: Learner) -> str:
    """Hash of the log-probabilities that the policy gives the probe, which changes with its weights. Collective."""
    scores = score(policy, probe(policy.vocabulary))
    return hashlib.sha256(array("d", scores).tobytes()).hexdigest()[:16]


def named_weights(model: Learner) -> Iterator[tuple[str, Tensor]]:
    """Yield the `full_weights` of the policy."""
    return full_weights(model.net.model, model.sharded)


def full_weights(network: nn.Module, sharded: bool) -> Iterator[tuple[str, Tensor]]:
    """Yield every full weight under its Hugging Face name, one at a time: gathered from ZeRO-3, LoRA merged.

    All ranks must exhaust it together.
    """
    adapted = plain_model(network) is not network
    layers = {name: module for name, module in network.named_modules() if hasattr(module, "get_delta_weight")}
    for name, parameter in network.named_parameters(remove_duplicate=True):
        if "lora_" in name:
            continue
        owner: Any = (
            layers.get(name.removesuffix(".base_layer.weight")) if name.endswith(".base_layer.weight") else None
        )
        with gathered_parameters([parameter, *(_adapter(owner) if owner is not None else [])], sharded):
            value = parameter.detach()
            if owner is not None:
                for active in owner.active_adapters:
                    value = value + owner.get_delta_weight(active).to(value.dtype)
            # a copy: the engine keeps tensors until a layer is complete, ZeRO-3 takes its own back at once
            value = value.clone()
        yield _hugging_face_name(name) if adapted else name, value


def checkpoint_weights(plain: Any, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Yield weights under the names and in the shapes of the model's files, which are others of some architectures.

    Experts, for example, are one tensor in memory and one for each expert in files. Weights of one layer are held at a
    time.
    """
    from transformers.core_model_loading import revert_weight_conversion

    def layer_of(pair: tuple[str, Tensor]) -> str:
        found = _LAYER.match(pair[0])
        return found[0] if found else ""

    for _, layer in groupby(weights, key=layer_of):
        yield from revert_weight_conversion(plain, dict(layer)).items()


def adapter_weights(model: Learner) -> Iterator[tuple[str, Tensor]]:
    """Yield the LoRA weights under PEFT's names, gathered likewise; none without adapters. Collective."""
    for name, parameter in model.net.model.named_parameters():
        if "lora_" in name:
            with gathered_parameters([parameter], model.sharded):
                value = parameter.detach().clone()
            yield name, value


def send(model: Learner, engine: Engine, version: int, dtype: str) -> dict[str, float]:
    """Load the policy's weights into the engine and prove it; returns metrics for the log.

    Raises:
        SyncError: the engine does not take them, or its log-probabilities of the probe differ from the trainer's.
    """
    started = time.perf_counter()
    weights = named_weights(model)
    if getattr(engine, "checkpoint_names", False):
        weights = checkpoint_weights(plain_model(model.net.model), weights)
    try:
        engine.load(weights, version)
    except LlmrlError:
        raise
    except Exception as error:  # engines know weights by names of their own
        reason = (str(error).splitlines() or [""])[0]
        raise SyncError(
            f"weight sync to version {version}: the engine does not take the trainer's weights: "
            f"{type(error).__name__}: {reason:.300}. Nothing was sampled from them. engine.name=hf samples by the "
            "trainer's own code"
        ) from error
    gap = prove(model, engine, version, dtype)
    return {"sync/seconds": time.perf_counter() - started, "sync/probe_logp_gap": gap}


def prove(model: Learner, engine: Engine, version: int, dtype: str) -> float:
    """Measure the mean gap, in nats, between the engine's and the trainer's log-probabilities of a fixed probe.

    Raises:
        TrainingError: the trainer's own are not finite, so that no engine could have them; names the weights.
        SyncError: the gap is above the bound for `dtype`; names the layers after which the two differ most.
    """
    token_ids = probe(model.vocabulary)
    ours = score(model, token_ids)
    if not all(gather([all(map(math.isfinite, ours))], model.accelerator.num_processes)):
        raise not_finite(model, version, dtype)
    theirs = wait(engine.score(token_ids))
    gaps = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    gap = sum(gaps) / len(gaps)
    largest = torch.tensor([gap], dtype=torch.float64)
    if model.accelerator.num_processes > 1:  # all ranks stop or none does
        torch.distributed.all_reduce(largest, op=torch.distributed.ReduceOp.MAX)
    bound = BOUNDS[dtype]
    if not largest.item() <= bound:
        raise SyncError(
            f"weight sync to version {version}: the engine does not hold the trainer's weights: the mean gap of a "
            f"probe's log-probabilities is {largest.item():.3g} nats, expected at most {bound:g} in {dtype}; "
            f"{_where(model, engine, token_ids)}. Nothing was sampled from these weights. {_advice(engine, version)}"
        )
    return largest.item()


def probe(vocabulary: int) -> list[int]:
    """Draw token ids at random, the same in every run, so that many weights take part in scoring them."""
    return [Random(f"probe/{vocabulary}/{i}").randrange(vocabulary) for i in range(PROBE)]


def score(model: Learner, token_ids: Sequence[int]) -> list[float]:
    """Log-probability, at temperature 1, of every token after the first, by the trained network."""
    device = model.accelerator.device
    ids = torch.tensor([list(token_ids)], device=device)
    wanted = torch.ones_like(ids, dtype=torch.bool)
    positions = torch.arange(len(token_ids), device=device)[None]
    model.module.eval()
    with torch.no_grad():
        logprobs, _ = model.module(ids, positions, wanted, torch.zeros_like(ids), 1.0, 1)
    scores: list[float] = logprobs[0, 1:].tolist()
    return scores


def not_finite(model: Learner, version: int, dtype: str) -> TrainingError:
    """Make the error for a policy that scores nothing. Collective."""
    weights = [(name, bool(weight.isfinite().all())) for name, weight in named_weights(model)]
    broken = [name for name, finite in weights if not finite]
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        found = f"{len(broken)} of its {len(weights)} weights hold NaN or infinity: {', '.join(broken[:3])}{more}"
    else:
        found = f"its weights are finite, so its activations overflow in {dtype}; try float32"
    return TrainingError(
        f"the policy of version {version} gives a probe log-probabilities that are not finite: {found}. The weight "
        "sync is not at fault. If the run has just begun, mend the folder in model.policy; else go on from an older "
        "checkpoint with --resume-from"
    )


def _where(model: Learner, engine: Engine, token_ids: Sequence[int]) -> str:
    """Name the layers whose output differs most, if the engine can tell."""
    plain = plain_model(model.net.model)
    ours = layer_norms(plain, lambda: score(model, token_ids))  # on every rank: under ZeRO-3 it is collective
    if not hasattr(engine, "layer_norms"):
        return "this engine does not say after which layer"
    try:
        theirs = engine.layer_norms(token_ids)
        gaps = [
            sum(abs(a - b) / (abs(a) + 1e-9) for a, b in zip(left, right, strict=True)) / len(left)
            for left, right in zip(ours, theirs, strict=True)
        ]
    except Exception as error:  # engines know not every model so well; the gap itself is the news
        return f"after which layer is not known ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
    grown = {f"layer {i}": gap - (gaps[i - 1] if i else 0.0) for i, gap in enumerate(gaps)}
    worst = sorted(grown, key=lambda name: -grown[name])[:3]
    if not worst:
        return "after which layer is not known"
    if grown[worst[0]] < 1e-4:
        return f"the decoder layers agree, so the final norm or the output head differs (lm_head{_head_options(plain)})"
    return "the residual stream parts most at " + ", ".join(f"{name} (by {grown[name]:.2g})" for name in worst)


def _head_options(plain: Any) -> str:
    """Options of a model's configuration that change its head, for a message."""
    options = plain.config.get_text_config().to_dict().items()
    said = [f"{k} {v}" for k, v in options if isinstance(v, int | float) and _OF_HEAD.search(k)]
    return f" with {', '.join(said)}" if said else ""


def _advice(engine: Engine, version: int) -> str:
    """Advise what to try next."""
    same = "Both hold what the folder holds, so they compute this model differently. " if version == 0 else ""
    if type(engine).__module__.startswith("llmrl.engines.hf"):
        return f"{same}Please report it, with the model's config.json; engine.name=vllm may know the model better"
    return (
        f"{same}model.attn_implementation=eager computes attention as it is written; `llmrl doctor` checks vLLM "
        "against Transformers on this machine; engine.name=hf samples without it"
    )


def _adapter(layer: Any) -> list[nn.Parameter]:
    return [parameter for name, parameter in layer.named_parameters() if "lora_" in name]


def _hugging_face_name(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")
