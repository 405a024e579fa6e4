"""Warnings about a recipe before it runs: small functions, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmrl.planning.batches import BatchArithmetic
from llmrl.planning.lengths import Lengths
from llmrl.planning.memory import ModelFacts
from llmrl.plugins import name_of
from llmrl.recipe import Recipe
from llmrl.recipe.options import option

LARGE = 100_000_000
"""Parameters from which on rates of full fine-tuning are judged."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a run before it begins."""

    recipe: Recipe
    lengths: Lengths | None
    facts: ModelFacts
    batch: BatchArithmetic


def warnings(known: Known) -> list[str]:
    """All warnings, in the order of `ADVICE`."""
    return [text for advise in ADVICE if (text := advise(known)) is not None]


def truncation(known: Known) -> str | None:
    """References that no answer could spell out."""
    lengths, most = known.lengths, known.recipe.rollout.max_completion_length
    if lengths is None or not lengths.reference_over:
        return None
    return (
        f"rollout.max_completion_length {most}: {lengths.reference_over} of {lengths.references} references are longer "
        f"({lengths.over_share:.0%}; the longest has {lengths.reference_max} tokens): such answers are cut off and "
        "count as wrong; a policy that reasons needs still more"
    )


def long_prompts(known: Known) -> str | None:
    """Prompts that are left out, or end the run."""
    lengths, rollout = known.lengths, known.recipe.rollout
    if lengths is None or not lengths.too_long:
        return None
    way = "left out" if rollout.drop_long_prompts else "refused before the first step"
    return (
        f"rollout.max_prompt_length {rollout.max_prompt_length}: {lengths.too_long} of {lengths.measured} prompts are "
        f"longer, the longest has {lengths.prompt_max} tokens: they are {way}"
    )


def positions(known: Known) -> str | None:
    """Episodes that are longer than the model was made for."""
    most, length = known.facts.positions, known.recipe.rollout.max_length
    if most is None or length <= most:
        return None
    return (
        f"an episode may have {length} tokens (prompt, completions and replies), and the model was made for {most}: "
        "lower rollout.max_prompt_length or rollout.max_completion_length"
    )


def idle_divergence(known: Known) -> str | None:
    """A penalty for the distance from a reference that is always the policy itself, or that weighs nothing."""
    recipe = known.recipe
    weight = next((w for name in ("beta", "kl_coef") if isinstance(w := option(recipe.algorithm, name), float)), 0.0)
    model, once = recipe.model, known.batch.steps_per_generation * known.batch.num_iterations == 1
    if not weight or "ref_logprobs" not in recipe.algorithm.needs():
        return None
    if model.sync_ref_model and model.ref_model_sync_steps == 1 and model.ref_model_mixup_alpha == 1.0 and once:
        return (
            "the KL penalty never acts: the reference copies the policy after every step (model.ref_model_sync_steps "
            "1, ref_model_mixup_alpha 1), so that the divergence is 0 where it is measured; raise ref_model_sync_steps"
        )
    if known.batch.optimiser_steps == 1:
        return (
            "the KL penalty never acts: in the only optimiser step the policy is the reference; drop it, or take more"
        )
    if weight < 1e-5 and name_of("algorithm", recipe.algorithm) in ("grpo", "rloo", "ppo", "reinforce_pp"):
        return f"the KL penalty hardly acts: its weight is {weight:g}, which costs a reference model; set it to 0"
    return None


def idle_clipping(known: Known) -> str | None:
    """Clipping of a ratio that is always 1."""
    recipe, batch = known.recipe, known.batch
    if not recipe.source.plays or batch.steps_per_generation * batch.num_iterations > 1:
        return None
    if option(recipe.source, "overlaps") or option(recipe.algorithm, "epsilon") in (None, 0.2):
        return None
    return (
        f"algorithm.epsilon {option(recipe.algorithm, 'epsilon')}: with one optimiser step for each generation the "
        "ratio is 1 and nothing is clipped; it acts with num_iterations or minibatches above 1"
    )


def schedule(known: Known) -> str | None:
    """A schedule that hardly trains."""
    train = known.recipe.train
    if train.warmup_steps * 2 > train.max_steps:
        return (
            f"train.warmup_steps {train.warmup_steps} of train.max_steps {train.max_steps}: the rate reaches its peak "
            "in the second half of the run, if at all; expected a tenth"
        )
    every = known.recipe.eval.every
    if every > train.max_steps:
        return f"eval.every {every} with train.max_steps {train.max_steps}: only the end of the run is evaluated"
    return None


def staleness(known: Known) -> str | None:
    """Episodes much older than the policy."""
    bound = option(known.recipe.source, "max_staleness") or 0
    if bound <= 4:
        return None
    return (
        f"source.max_staleness {bound}: episodes of weights that are up to {bound} steps old have ratios far from 1, "
        "which are clipped or truncated away; 1 to 4 hide generation behind training as well"
    )


def rates(known: Known) -> str | None:
    """Learning rates of adapters and of whole models, which differ by about ten."""
    model, train, size = known.recipe.model, known.recipe.train, known.facts.parameters
    if model.use_peft and train.learning_rate < 5e-6:
        return (
            f"train.learning_rate {train.learning_rate:g} with LoRA: adapters learn at about ten times the rate of a "
            "whole model; expected about 1e-5 to 1e-4"
        )
    if not model.use_peft and size >= LARGE and train.learning_rate > 2e-5 and known.recipe.source.plays:
        return (
            f"train.learning_rate {train.learning_rate:g} for all {size / 1e9:.2g}B parameters: reinforcement learning "
            "of whole models uses about 1e-6, and entropy collapses far above it"
        )
    return None


def uneven(known: Known) -> str | None:
    """Rows that do not divide evenly."""
    batch = known.batch
    if batch.rows_of_update % batch.processes:
        return (
            f"{batch.rows_of_update} rows of an optimiser step on {batch.processes} processes do not divide evenly: "
            "some wait for others"
        )
    return None


def few_problems(known: Known) -> str | None:
    """A step that has the same problem twice."""
    lengths, rollout = known.lengths, known.recipe.rollout
    if lengths is None or not lengths.problems or lengths.problems >= rollout.prompts_per_step:
        return None
    return (
        f"{lengths.problems} problems with rollout.prompts_per_step {rollout.prompts_per_step}: a step asks some of "
        "them twice, in groups that are not compared"
    )


ADVICE: Sequence[Callable[[Known], str | None]] = (
    long_prompts,
    truncation,
    positions,
    few_problems,
    idle_divergence,
    idle_clipping,
    schedule,
    staleness,
    rates,
    uneven,
)
