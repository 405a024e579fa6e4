"""Checks of the distribution that tokens are sampled from, against what an algorithm computes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmrl.plugins import name_of
from llmrl.recipe.options import Sections, option


def whole_distribution(recipe: Sections) -> str | None:
    """Require the whole distribution where ratios of policies are corrected for the engine that sampled.

    Tokens that top-p, top-k or min-p leaves are of another distribution than the trainer's: a ratio against the
    engine's log-probabilities looks right and is wrong.
    """
    corrects = (option(recipe.algorithm, "importance_sampling_correction") or "none") != "none"
    if not (recipe.source.plays and corrects and _cut(recipe)) or option(recipe.algorithm, "needs_kept_ids"):
        return None
    return (
        f"{_told(recipe)} with algorithm {name_of('algorithm', recipe.algorithm)}: its ratios need log-probabilities "
        "of the whole distribution, and the engine's are of what is left; expected rollout.top_p=1 rollout.top_k=0 "
        "rollout.min_p=0, or algorithm.importance_sampling_correction=none, which never reads them"
    )


def kept_ids(recipe: Sections) -> str | None:
    """Require the tokens among which each was sampled where an algorithm learns over these alone."""
    if not (recipe.source.plays and option(recipe.algorithm, "needs_kept_ids")):
        return None
    returned = option(recipe.engine, "return_kept_ids")
    engine = name_of("engine", recipe.engine)
    if recipe.rollout.top_p < 1 and (returned or (returned is None and engine not in ("server", "scripted"))):
        return None
    return (
        f"algorithm {name_of('algorithm', recipe.algorithm)} with engine {engine} and rollout.top_p "
        f"{recipe.rollout.top_p:g}: it learns over the tokens that top-p left, which the engine must return; expected "
        "engine.return_kept_ids=true (engine vllm or hf) and rollout.top_p below 1, such as 0.9"
    )


def kept_tokens(recipe: Sections) -> str | None:
    """An engine says which tokens top-p left only where it leaves some out."""
    if not option(recipe.engine, "return_kept_ids") or recipe.rollout.top_p < 1:
        return None
    return (
        f"engine.return_kept_ids with rollout.top_p {recipe.rollout.top_p}: no token is left out, so none is returned; "
        "expected rollout.top_p=0.9, say, or engine.return_kept_ids=false"
    )


def top_p_alone(recipe: Sections) -> str | None:
    """An engine that says which tokens were left knows of top-p alone."""
    rollout = recipe.rollout
    if not option(recipe.engine, "return_kept_ids") or not (rollout.top_k or rollout.min_p):
        return None
    return (
        f"engine.return_kept_ids with rollout.top_k {rollout.top_k} and rollout.min_p {rollout.min_p:g}: it knows of "
        "top_p alone; expected rollout.top_k=0 and rollout.min_p=0, or engine.return_kept_ids=false"
    )


def _cut(recipe: Sections) -> bool:
    return bool(_told(recipe))


def _told(recipe: Sections) -> str:
    rollout = recipe.rollout
    cuts = {"top_p": rollout.top_p < 1, "top_k": rollout.top_k > 0, "min_p": rollout.min_p > 0}
    return ", ".join(f"rollout.{name} {getattr(rollout, name):g}" for name, cut in cuts.items() if cut)


CHECKS: Sequence[Callable[[Sections], str | None]] = (whole_distribution, kept_ids, kept_tokens, top_p_alone)
