"""Opponents: other models that speak for agents of an environment, each in an engine of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from llmrl.chat import Chat, load_tokenizer
from llmrl.errors import CheckpointError
from llmrl.recipe import Recipe
from llmrl.rollout.episode import Opponent
from llmrl.train.weight_sync import PROBE
from llmrl.types import own_policy


def started_opponents(
    recipe: Recipe, chat: Chat, stop_token_ids: Sequence[int], started: ExitStack
) -> dict[str, Opponent]:
    """Start the engines of `rollout.opponents`; what one learns is loaded by its `WeightSync`, and into others nothing.

    Args:
        chat: of the policy, whose tokenizer makes their prompts.
        stop_token_ids: of the policy.
        started: gets what closes them.
    Raises:
        CheckpointError: an opponent has another vocabulary than the policy.
        EngineError: its engine does not start.
    """
    made = {}
    for agent, options in recipe.rollout.opponents.items():
        if options.model is not None:
            vocabulary = load_tokenizer(options.model, None, recipe.model.trust_remote_code).get_vocab()
            if vocabulary != chat.tokenizer.get_vocab():
                raise CheckpointError(
                    f"rollout.opponents.{agent}.model {options.model}: its vocabulary is not the policy's; expected a "
                    "model with the same tokenizer"
                )
        engine = options.engine.start(
            options.model or recipe.model.policy,
            dtype=recipe.compute_dtype,
            seed=recipe.train.seed,
            max_model_len=max(recipe.rollout.max_length, PROBE + 1),
            stop_token_ids=stop_token_ids,
        )
        started.callback(engine.close)
        label = own_policy(agent) if options.learns else options.label
        made[agent] = Opponent(label, engine, options.temperature)
    return made
