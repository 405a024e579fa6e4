"""Checks of a run that need no weights: `--dry-run` asks them, before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmrl.chat import Chat, load_tokenizer
from llmrl.critics.language_model import vocabulary_of
from llmrl.encoding.soundness import require_within
from llmrl.errors import CheckpointError
from llmrl.recipe import ModelOptions, Recipe
from llmrl.recipe.trackers import require_installed
from llmrl.run_folder.launch import require_launch
from llmrl.train.adapters import adapted


def require_possible(recipe: Recipe) -> None:
    """Refuse a recipe that could not run on this machine, as far as that is known without weights.

    A model folder that is not here, such as one of another machine, is not asked, nor is a hub.

    Raises:
        RecipeError: variables of a launcher without one, a tracker that is not installed, adapters that do not fit.
        CheckpointError: the model's folder lacks what a run needs.
    """
    require_launch()
    require_installed(recipe.train.trackers)
    if (Path(recipe.model.policy) / "config.json").is_file():
        _require_model(recipe.model)


def _require_model(options: ModelOptions) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    name = f"model.policy: {options.policy}"
    tokenizer = load_tokenizer(options.policy, options.model_revision, options.trust_remote_code)
    try:
        config = AutoConfig.from_pretrained(options.policy, trust_remote_code=options.trust_remote_code)
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=options.trust_remote_code)
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
