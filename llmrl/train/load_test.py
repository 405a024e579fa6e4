"""Tests of a loaded policy before the first step: what would be found out at the end, or never, is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmrl.encoding import soundness
from llmrl.errors import CheckpointError
from llmrl.recipe import Recipe
from llmrl.rollout.concerted import concerted
from llmrl.train.export_trial import try_export
from llmrl.train.learners import Learners
from llmrl.train.network import plain_model
from llmrl.train.parallel import gather
from llmrl.train.policy import Policy
from llmrl.train.weight_sync import BOUNDS, not_finite, probe

QUIET = 1e-6
"""Gap, in nats, up to which two passes of the same weights over the same tokens agree."""


def require_ready(
    recipe: Recipe, learners: Learners, tokenizer: Any, stop_token_ids: Sequence[int], folder: Path
) -> None:
    """Test all that a run will ask of its models and of their export, in the run's folder. Collective.

    Raises:
        CheckpointError: something will not do; see `require_sound`, `try_export` and `llmrl.encoding.soundness`.
        TrainingError: weights or log-probabilities are not finite.
    """
    policy, name = learners.policy, recipe.model.policy
    processes = policy.accelerator
    soundness.require_within(tokenizer, policy.vocabulary, f"model.policy {name}")
    require_sound(policy, tokenizer, name, recipe.compute_dtype)
    policy.stop_at(stop_token_ids)

    def alone() -> None:
        if processes.is_main_process:
            soundness.warn_of_losses(tokenizer, f"model.policy {name}")
            others = list(learners.exported.values())
            try_export(policy, others, tokenizer, folder, trust_remote_code=recipe.model.trust_remote_code)

    concerted(alone, partial(gather, world=processes.num_processes))


def require_sound(policy: Policy, tokenizer: Any, name: str, dtype: str) -> None:
    """Test the policy's log-probabilities on a text of random tokens. Collective.

    They are compared with the logits of the model's own forward pass; with those of the beginning of the text alone,
    which nothing behind it may change; and with those in training mode, which nothing may draw at random.

    Args:
        tokenizer: whose special tokens are left out of the text: of some models they stand for images.
        name: of the model, for messages.
        dtype: in which it computes.
    Raises:
        CheckpointError: the model is not one that llmrl trains right; says in which way, by how many nats.
        TrainingError: its log-probabilities are not finite.
    """
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    ids = [token for token in probe(policy.vocabulary) if token not in special] or probe(policy.vocabulary)
    kind = f"model.policy {name}: {type(plain_model(policy.net.model)).__name__}"
    own = _tried(lambda: _scores(policy, ids), f"{kind} cannot be read as a decoder under a head")
    theirs = _tried(lambda: _model_scores(policy, ids), f"{kind} does not read a text")
    bound = BOUNDS[dtype]
    if not all(gather([all(map(isfinite, own))], policy.accelerator.num_processes)):
        raise not_finite(policy, 0, dtype)
    if not (gap := _gap(own, theirs)) <= bound:
        raise CheckpointError(
            f"{kind}: its own logits and the log-probabilities that would be trained differ by {gap:.3g} nats a token, "
            f"expected at most {bound:g} in {dtype}: it does something that llmrl does not know. Report it, with its "
            "config.json, and take a model of another architecture"
        )
    half = len(ids) // 2
    if not (gap := _gap(_scores(policy, ids[:half]), own[: half - 1])) <= bound:
        raise CheckpointError(
            f"{kind} is not causal: tokens change the log-probabilities of those before them, by {gap:.3g} nats; "
            "expected a model that reads from left to right (of an encoder, is_decoder: true in its config.json)"
        )
    if not (gap := _gap(_scores(policy, ids, training=True), own)) <= (QUIET if dtype == "float32" else bound):
        raise CheckpointError(
            f"{kind} draws at random while it trains (dropout, jitter or dropped layers): log-probabilities differ by "
            f"{gap:.3g} nats from those that sampled; set these options to 0 in its config.json"
        )


def _gap(left: Sequence[float], right: Sequence[float]) -> float:
    """Mean absolute difference."""
    pairs = list(zip(left, right, strict=True))
    return sum(abs(a - b) for a, b in pairs) / max(1, len(pairs))


def _scores(policy: Policy, ids: Sequence[int], *, training: bool = False) -> list[float]:
    """Log-probability of every token after the first, as training computes it."""
    device = policy.accelerator.device
    row = torch.tensor([list(ids)], device=device)
    positions = torch.arange(len(ids), device=device)[None]
    wanted = torch.ones_like(row, dtype=torch.bool)
    policy.module.train(training)
    with torch.no_grad():
        logprobs, _ = policy.module(row, positions, wanted, torch.zeros_like(row), 1.0, 1)
    policy.module.eval()
    scores: list[float] = logprobs[0, 1:].tolist()
    return scores


def _model_scores(policy: Policy, ids: Sequence[int]) -> list[float]:
    """The same by the model's own forward pass."""
    row = torch.tensor([list(ids)], device=policy.accelerator.device)
    with torch.no_grad(), policy.accelerator.autocast():
        logits: Tensor = plain_model(policy.net.model)(input_ids=row, use_cache=False).logits[0]
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    chosen = wide[:-1].log_softmax(-1).gather(-1, row[0, 1:, None])[:, 0]
    scores: list[float] = chosen.tolist()
    return scores


def _tried(read: Callable[[], list[float]], refusal: str) -> list[float]:
    """Call `read`, and blame the model where it raises.

    Raises:
        CheckpointError: it raises, whatever it is: models of others may raise anything.
    """
    try:
        return read()
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, RuntimeError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"{refusal}: {type(error).__name__}: {reason}; take a causal language model") from error
