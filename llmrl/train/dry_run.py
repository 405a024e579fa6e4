"""Checks of a run that need no weights: `--dry-run` asks them, before anything is loaded."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from llmrl.chat import Chat, load_tokenizer
from llmrl.clients.hub import require_present
from llmrl.critics.language_model import LanguageModel, vocabulary_of
from llmrl.datafiles.rows import HubDataError, without_hub
from llmrl.encoding.soundness import require_within
from llmrl.errors import CheckpointError
from llmrl.evaluation.evaluate import problems_of
from llmrl.recipe import ModelOptions, Recipe
from llmrl.recipe.trackers import require_installed
from llmrl.run_folder.launch import require_launch
from llmrl.scoring.manager import GradingPool, GroupScorer, as_group_reward
from llmrl.scoring.reserved import require_free
from llmrl.train.adapters import adapted
from llmrl.train.benchmarks import asked
from llmrl.train.epochs import in_steps
from llmrl.train.prompts import problems_to_play
from llmrl.train.publisher import repo_of
from llmrl.types import Problem


@dataclass(frozen=True)
class Rewards:
    """The rewards of a recipe, ready to score: every part of a mix, and whatever else a reward holds, is built."""

    reward: GroupScorer | None
    judge: GroupScorer | None
    gold: GroupScorer | None

    @classmethod
    def of(cls, recipe: Recipe, pool: GradingPool) -> Rewards:
        """Build them; models of rewards are looked for, and not loaded.

        Raises:
            LlmrlError: a name, an option or a folder anywhere inside of them is wrong.
        """
        given = (recipe.reward, recipe.rollout.judge, recipe.audit.reward)
        return cls(*(None if reward is None else as_group_reward(reward, pool) for reward in given))

    def require_free(self, problems: Sequence[Problem]) -> None:
        """Refuse problems with columns that one of them, or a part of one, fills itself.

        Raises:
            DataError: names the problem and the column.
        """
        for reward in (self.reward, self.gold):
            require_free(reward, problems)


@dataclass(frozen=True)
class Possible:
    """Parts of a recipe that its checks have read."""

    recipe: Recipe  # its epochs as steps, where its data is on this machine
    chat: Chat | None  # None where the model's folder is not on this machine
    config: Any  # of the model; None likewise


def require_possible(recipe: Recipe) -> Possible:
    """Refuse a recipe that could not run on this machine, as far as that is known without weights.

    Rewards are built, with all that they hold; the data, the benchmarks and the stored answers that are on this machine
    are read. No hub is asked: what only a hub has is named on standard error, and not looked at.

    Raises:
        RecipeError: variables of a launcher without one, a tracker that is not installed, a reward that does not build,
            adapters that do not fit.
        CheckpointError: the model's folder is not there, or lacks what a run needs.
        DataError: a file is not there, a column or a row of it is wrong, or prompts are too long.
    """
    require_launch()
    require_installed(recipe.train.trackers)
    if recipe.train.push_to_hub:
        repo_of(recipe.train, "run").require_token()
    require_present(recipe.model.policy, "model.policy", recipe.model.model_revision)
    pool = GradingPool(recipe.rollout.reward_workers, recipe.rollout.reward_timeout_s)
    try:
        rewards = Rewards.of(recipe, pool)
    finally:
        pool.close()
    chat, config = None, None
    if (Path(recipe.model.policy) / "config.json").is_file():
        chat, config = _require_model(recipe.model)
    _require_data(recipe, chat, rewards)
    with _here():
        recipe = in_steps(recipe)
    return Possible(recipe, chat, config)


@contextmanager
def _here() -> Iterator[None]:
    """Look at data as far as it is on this machine; a line on standard error names what only a hub has."""
    try:
        with without_hub():
            yield
    except HubDataError as error:
        print(f"llmrl: not looked at: {error}", file=sys.stderr)


def _require_data(recipe: Recipe, chat: Chat | None, rewards: Rewards) -> None:
    """Read what is on this machine; without a tokenizer the lengths of prompts are not known."""
    with _here():
        if chat is not None:
            problems = problems_to_play(recipe, chat, main=True)
        else:
            problems = [] if recipe.data is None else list(recipe.data.problems())
        if recipe.source.plays:
            rewards.require_free(problems)
    for name, each in asked(recipe).items():
        with _here():
            deque(islice(problems_of(each.benchmark, name), recipe.eval.limit), maxlen=0)
    if units := getattr(recipe.source, "units", None):
        with _here():
            next(iter(units()), None)


def _require_model(options: ModelOptions) -> tuple[Chat, Any]:
    import torch
    from transformers import AutoConfig, GenerationConfig

    name = f"model.policy: {options.policy}"
    tokenizer = load_tokenizer(options.policy, options.model_revision, options.trust_remote_code)
    try:
        config = AutoConfig.from_pretrained(options.policy, trust_remote_code=options.trust_remote_code)
        with torch.device("meta"):
            model: Any = LanguageModel.from_config(config, trust_remote_code=options.trust_remote_code)
            model.tie_weights()
    except Exception as error:  # configurations and remote code fail in many ways
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"{name} does not load: {type(error).__name__}: {reason}; expected the folder of a causal language model"
        ) from error
    require_within(tokenizer, vocabulary_of(config), name)
    try:
        generation: Any = GenerationConfig.from_pretrained(options.policy)
    except OSError:  # many have none
        generation = None
    except ValueError as error:
        raise CheckpointError(f"{name}: generation_config.json: {' '.join(str(error).split())}; mend it") from error
    chat = Chat(tokenizer, options.system_prompt, options.chat_template_kwargs)
    chat.stop_token_ids(generation, config)
    if options.use_peft:
        adapted(model, options, task_type="CAUSAL_LM")
    return chat, config
