"""Checks across the sections of a recipe. Each is a small function; `CHECKS` has them in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmrl.columns import filled_by
from llmrl.errors import RecipeError
from llmrl.plugins import find, name_of
from llmrl.recipe import sampling
from llmrl.recipe.agent_checks import learning_opponents, several_agents
from llmrl.recipe.options import ModelOptions, Sections, option


def check(recipe: Sections) -> None:
    """Run all checks.

    Raises:
        RecipeError: the first complaint.
    """
    counted = recipe.train.num_train_epochs is None  # epochs are no number of steps before the data is read
    for complaint in (complains(recipe) for complains in CHECKS if counted or complains not in OF_STEPS):
        if complaint is not None:
            raise RecipeError(complaint)


def playing(recipe: Sections) -> str | None:
    """Require problems and a reward where the source generates answers, and no gold reward where it does not."""
    name = name_of("source", recipe.source)
    if not recipe.source.plays:
        if recipe.audit.reward is None:
            return None
        return f"audit.reward: source {name} generates no episodes to score; leave it out"
    missing = next((section for section in ("data", "reward") if getattr(recipe, section) is None), None)
    if missing is None:
        return None
    return f"{missing}: missing; it has no default where answers are generated and scored, as source {name} does"


def agents_own_episodes(recipe: Sections) -> str | None:
    """Require the default environment and no search where a program plays: it does both by itself."""
    if recipe.agent is None:
        return None
    if recipe.rollout.search is not None:
        return "rollout.search with agent: a program asks the policy itself; leave one of them out"
    env = name_of("env", recipe.env)
    if env == "single_turn":
        return None
    return (
        f"env {env} with agent {name_of('agent', recipe.agent)}: a program plays its episodes by itself, and no "
        "environment is asked; leave one of them out"
    )


def overlapping_engine(recipe: Sections) -> str | None:
    """Require an engine that generates during training, where the source does."""
    if not option(recipe.source, "overlaps") or option(recipe.engine, "concurrent"):
        return None
    return (
        f"source {name_of('source', recipe.source)} generates while the trainer learns, which engine "
        f"{name_of('engine', recipe.engine)} cannot as it is set here: it sleeps, or shares the trainer's memory. "
        "Choose engine.name=server with engine.enable_sleep_mode=false, or source.max_staleness=0"
    )


def overlapping_correction(recipe: Sections) -> str | None:
    """Samples of older weights need an algorithm that corrects for them."""
    if not option(recipe.source, "overlaps"):
        return None
    if (option(recipe.algorithm, "importance_sampling_correction") or "none") != "none":
        return None
    return (
        f"source {name_of('source', recipe.source)} gives samples of older weights, which algorithm "
        f"{name_of('algorithm', recipe.algorithm)} does not correct as it is set here; expected an "
        "algorithm.importance_sampling_correction, such as token_truncate, or source.max_staleness=0"
    )


def group_size(recipe: Sections) -> str | None:
    """An episode that is compared with its siblings, or with others of its step, needs some; stored ones are there."""
    if not recipe.source.plays:
        return None
    played, least = recipe.rollout.num_generations, option(recipe.algorithm, "least_generations") or 1
    if played < least:
        return (
            f"rollout.num_generations {played}: algorithm {name_of('algorithm', recipe.algorithm)} as it is set here "
            f"compares episodes of a problem with each other; expected rollout.num_generations={least} or more, or an "
            "algorithm without a group, such as ppo"
        )
    for what, held in (("problems", recipe.rollout.prompts_per_step), ("episodes", recipe.rollout.episodes_per_step)):
        if held < (least := option(recipe.algorithm, f"least_{what}") or 1):
            return (
                f"rollout.prompts_per_step {recipe.rollout.prompts_per_step}: {name_of('algorithm', recipe.algorithm)} "
                f"compares the {what} of a step, {least} at least; expected rollout.prompts_per_step={least} or more"
            )
    if played < 2 and option(recipe.source, "dynamic_sampling"):
        return (
            "source.dynamic_sampling with rollout.num_generations 1: a single episode is never right and wrong, so "
            "every group would be refused; set rollout.num_generations=2 or more, or source.dynamic_sampling=false"
        )
    return None


def schedule(recipe: Sections) -> str | None:
    """A rate that falls after its warm-up needs steps to fall in."""
    train = recipe.train
    if train.lr_scheduler_type == "constant" or train.warmup < train.max_steps:
        return None
    return (
        f"train.warmup_steps {train.warmup_steps:g} of train.max_steps {train.max_steps}: the "
        f"{train.lr_scheduler_type} schedule ends before it begins; expected fewer steps of warm-up, such as "
        f"train.warmup_steps={train.max_steps // 10}, or train.lr_scheduler_type=constant"
    )


def collecting(recipe: Sections) -> str | None:
    """Require that something is learned after the warm-up rollouts."""
    steps, rollouts = recipe.train.max_steps, recipe.train.warmup_rollouts
    most = (steps - 1) * recipe.rollout.episodes_per_step
    if rollouts <= most:
        return None
    return (
        f"train.warmup_rollouts {rollouts}: the train.max_steps {steps} steps of {recipe.rollout.episodes_per_step} "
        f"episodes are all played before anything learns; expected train.warmup_rollouts={most} or fewer, or "
        f"train.max_steps={recipe.collect_only_steps + 1} or more"
    )


def learning_policy(recipe: Sections) -> str | None:
    """The policy learns in the last step, unless its warm-up may end early, or the run is for values alone."""
    if option(recipe.algorithm, "warmup_explained_variance") is not None or option(recipe.algorithm, "values_only"):
        return None
    last = recipe.train.max_steps - 1 - recipe.collect_only_steps
    trained = {update.model for update in recipe.algorithm.updates(last)}
    if not trained or "policy" in trained:
        return None
    warmups = [name for name in ("critic_warmup", "critic_only_steps") if option(recipe.algorithm, name)]
    where = " and ".join(f"algorithm.{name} {option(recipe.algorithm, name)}" for name in warmups) or "algorithm"
    return (
        f"{where}: in {last + 1} learning steps (train.max_steps {recipe.train.max_steps}) only "
        f"{', '.join(sorted(trained))} learns, and never the policy; expected "
        f"{' or '.join(f'algorithm.{name}={last // 2}' for name in warmups) or 'another algorithm'}, or a larger "
        "train.max_steps"
    )


def moving_reference(recipe: Sections) -> str | None:
    """A reference that follows the policy is there, and moves."""
    model, steps = recipe.model, recipe.train.max_steps
    if not model.sync_ref_model:
        return None
    if recipe.algorithm.needs().isdisjoint(filled_by("reference")):
        return (
            f"model.sync_ref_model: algorithm {name_of('algorithm', recipe.algorithm)} as it is set here has no "
            "reference; set model.sync_ref_model=false, or a weight of the divergence (algorithm.beta, kl_coef)"
        )
    if model.ref_model_sync_steps > steps:
        return (
            f"model.ref_model_sync_steps {model.ref_model_sync_steps} of train.max_steps {steps}: the reference never "
            f"moves; expected model.ref_model_sync_steps={steps} or fewer, or model.sync_ref_model=false"
        )
    return None


def evaluation(recipe: Sections) -> str | None:
    """Require that the benchmarks to evaluate are named, and known."""
    wanted = [name for name in ("every", "on_start") if getattr(recipe.eval, name)]
    if recipe.eval.data is not None and (recipe.reward is None or recipe.agent is not None):
        what = "no reward judges it; expected a section `reward`" if recipe.reward is None else "a program plays"
        return f"eval.data: {what}, or benchmarks by name in eval.benchmarks"
    if recipe.eval.data is not None and not wanted:
        return "eval.data: nothing is evaluated; expected eval.every, such as eval.every=10, or eval.on_start=true"
    if wanted and not recipe.eval.asks:
        given = ", ".join(f"eval.{name} {getattr(recipe.eval, name)}" for name in wanted)
        return (
            f"{given}: without eval.benchmarks nothing is evaluated; expected names, such as "
            f"eval.benchmarks='[gsm8k]', problems of your own in eval.data, or "
            f"{' '.join(f'eval.{name}={_off(recipe.eval, name)}' for name in wanted)}"
        )
    for name in recipe.eval.benchmarks:
        find("benchmark", name, "eval.benchmarks")
    return None


def stopping_audit(recipe: Sections) -> str | None:
    """An alarm that shall stop a run can be raised."""
    audit, steps = recipe.audit, recipe.train.max_steps
    if not audit.stop:
        return None
    if audit.reward is None:
        return (
            "audit.stop: without audit.reward there is no alarm; expected audit.reward={name: ...}, or audit.stop=false"
        )
    audited = -(-steps // audit.every)
    if audited < audit.window:
        return (
            f"audit.stop with audit.window {audit.window}: train.max_steps {steps} with audit.every {audit.every} are "
            f"{audited} audited steps, and an alarm needs a full window; expected a shorter audit.window, or "
            "audit.stop=false"
        )
    return None


def continuation(recipe: Sections) -> str | None:
    """A limit of what goes on from a snapshot is below that of an answer."""
    most, whole = option(recipe.source, "max_continuation_length"), recipe.rollout.max_completion_length
    if most is None or most < whole:
        return None
    return (
        f"source.max_continuation_length {most}: rollout.max_completion_length {whole} ends every answer before; "
        "expected less, or source.max_continuation_length=null"
    )


def adapters(recipe: Sections) -> str | None:
    """Options of adapters have adapters."""
    model, plain = recipe.model, ModelOptions(policy="")
    names = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules")
    given = [] if model.use_peft else [name for name in names if getattr(model, name) != getattr(plain, name)]
    if not given:
        return None
    return (
        f"model.{given[0]} {getattr(model, given[0])} without model.use_peft: every weight would be trained, and no "
        f"adapter; expected model.use_peft=true, or no model.{given[0]}"
    )


def moved_decoding(recipe: Sections) -> str | None:
    """Answers that train are the policy's own, of no critic's."""
    if option(recipe.engine, "critic") is None or not recipe.source.plays:
        return None
    return (
        f"engine.critic with source {name_of('source', recipe.source)}: the answers that train would be of another "
        "distribution than the policy; expected engine.critic=null, or a source that does not play, whose evaluations "
        "it moves"
    )


def searched_answers(recipe: Sections) -> str | None:
    """Answers that a search has chosen are no samples of the policy, whose gradient they would bias."""
    if recipe.rollout.search is None:
        return None
    if not recipe.source.plays:
        return (
            f"rollout.search with source {name_of('source', recipe.source)}, which generates nothing; expected "
            "rollout.search: null"
        )
    if option(recipe.algorithm, "importance_sampling_correction") is None:
        return None
    return (
        f"rollout.search with algorithm {name_of('algorithm', recipe.algorithm)}: it learns by the ratio of policies, "
        "and a chosen answer is a sample of none; expected an algorithm that imitates or compares, such as bc or "
        "preference, or rollout.search: null"
    )


def replayed_episodes(recipe: Sections) -> str | None:
    """Episodes of earlier policies need an algorithm that does not compare them with the policy before the step."""
    if not option(recipe.source, "replays") or option(recipe.algorithm, "importance_sampling_correction") is None:
        return None
    return (
        f"source {name_of('source', recipe.source)} with algorithm {name_of('algorithm', recipe.algorithm)}: it learns "
        "by the ratio to the policy before the step, which has not chosen the turns of earlier ones; expected archer, "
        "ilql or bc, or source.name=online"
    )


def present_policy(recipe: Sections) -> str | None:
    """An algorithm that learns from turns of the policy as it stands needs a source that plays."""
    if recipe.source.plays or not option(recipe.algorithm, "samples_policy"):
        return None
    return (
        f"source {name_of('source', recipe.source)} with algorithm {name_of('algorithm', recipe.algorithm)}: as it is "
        "set here it learns from turns of the policy as it stands, and nothing is generated; expected "
        "algorithm.v_target=expectile and algorithm.actor_loss=awr, or a source that plays"
    )


def rewards_as_given(recipe: Sections) -> str | None:
    """An algorithm that compares a reward with a bound of its own needs it as it was given."""
    if not recipe.train.normalize_rewards or not option(recipe.algorithm, "bounds_rewards"):
        return None
    return (
        f"train.normalize_rewards with algorithm {name_of('algorithm', recipe.algorithm)}: it tells success from "
        "failure by the reward itself; expected train.normalize_rewards=false"
    )


def restored_environment(recipe: Sections) -> str | None:
    """Episodes that begin between turns need an environment that can be brought there, and nothing else that plays."""
    if option(recipe.source, "at") != "turn":
        return None
    place = f"source {name_of('source', recipe.source)} with at: turn"
    if recipe.agent is not None or recipe.rollout.search is not None:
        return f"{place}: a program or a search begins at the beginning; expected source.at=line, or neither"
    if recipe.rollout.max_turns < 2:
        return f"{place}: no state lies between turns with rollout.max_turns 1; expected 2 or more"
    if option(recipe.env, "agents"):
        return f"{place}: several agents speak in env {name_of('env', recipe.env)}; expected source.name=online"
    if not option(recipe.env, "restores"):
        return (
            f"{place}: env {name_of('env', recipe.env)} has no snapshots to go on from; expected a text game, or an "
            "environment with restores = True, snapshot() and restore()"
        )
    return None


def _off(section: Any, name: str) -> str:
    return "false" if isinstance(getattr(section, name), bool) else "0"


CHECKS: Sequence[Callable[[Sections], str | None]] = (
    playing,
    agents_own_episodes,
    overlapping_engine,
    overlapping_correction,
    group_size,
    schedule,
    collecting,
    learning_policy,
    moving_reference,
    evaluation,
    stopping_audit,
    continuation,
    *sampling.CHECKS,
    adapters,
    moved_decoding,
    searched_answers,
    replayed_episodes,
    present_policy,
    rewards_as_given,
    restored_environment,
    several_agents,
    learning_opponents,
)
OF_STEPS = frozenset({schedule, collecting, learning_policy, moving_reference, stopping_audit})
"""Checks that compare something with `train.max_steps`."""
