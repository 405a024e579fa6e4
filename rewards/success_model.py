"""Success of an episode by a language model that answers YES or NO."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from llmrl.errors import RewardError
from llmrl.recipe.ranges import Count, Share
from llmrl.reward_models.outcomes import NO, YES, question
from llmrl.scoring.by_model import ByModel
from llmrl.scoring.manager import GradingPool
from llmrl.types import Score, Trajectory


@dataclass(frozen=True, kw_only=True)
class SuccessModel:
    """1 where the model's probability of YES against NO is at least `threshold`, else 0; part: `p_yes`.

    The model reads the task, the actions and the final state (`llmrl.reward_models.outcomes`): fine-tune it on data
    `outcomes`. Where an environment has a verifier, use that.

    Raises:
        RewardError: the model does not load, or YES or NO is no single token of its tokenizer.

    Source: the outcome reward model of WebRL (arXiv 2411.02337).
    """

    path: str  # a folder or a name on the hub, of a causal language model
    threshold: Share = 0.5
    yes: str = YES  # tokens that it answers with, each a single one
    no: str = NO
    max_length: Count = 16_384  # tokens of a question; a longer one is an error without a value
    device: str | None = None  # None: the first GPU, or the CPU
    dtype: Literal["float32", "bfloat16"] = "float32"

    def as_group_reward(self, pool: GradingPool) -> SuccessReward:
        """Make the group reward; the model loads at the first score."""
        return SuccessReward("success_model", options=self)


@dataclass
class SuccessReward(ByModel):
    """Asks the model about each episode, off the event loop; not bound by `rollout.reward_timeout_s`."""

    options: SuccessModel = field(kw_only=True)

    def judged(self, episode: Trajectory) -> Score:
        from llmrl.reward_models.model import sigmoid

        chat, model, answers = self._loaded
        ids = chat.prompt_ids(question(episode))
        if len(ids) > self.options.max_length:
            why = f"{len(ids)} tokens of a question; at most {self.options.max_length} are read (max_length)"
            return Score(None, "error", reason=f"problem {episode.problem.id}: success_model: {why}")
        import torch

        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids], device=model.device), logits_to_keep=1).logits[0, -1].float()
        yes, no = (float(logits[token]) for token in answers)
        chance = sigmoid(yes - no)
        good = chance >= self.options.threshold
        return Score(float(good), "correct" if good else "wrong", {"p_yes": chance})

    @cached_property
    def _loaded(self) -> tuple[Any, Any, tuple[int, int]]:
        """Chat, model, and the ids of YES and NO."""
        import torch
        from transformers import AutoModelForCausalLM

        from llmrl.chat import Chat, load_tokenizer

        options = self.options
        tokenizer = load_tokenizer(options.path)
        yes, no = (_single(tokenizer, word, options.path) for word in (options.yes, options.no))
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(options.path, dtype=getattr(torch, options.dtype))
        except (OSError, ValueError) as error:
            raise RewardError(f"success_model: {options.path} did not load: {error}") from error
        model.to(options.device or ("cuda" if torch.cuda.is_available() else "cpu")).eval().requires_grad_(False)
        return Chat(tokenizer), model, (yes, no)


def _single(tokenizer: Any, word: str, path: str) -> int:
    """Id of a word that is a single token."""
    ids = tokenizer.encode(word, add_special_tokens=False)
    if len(ids) != 1:
        raise RewardError(
            f"success_model: {word!r} is {len(ids)} tokens for {path}; expected one: set `yes` and `no` to such words"
        )
    return int(ids[0])


plugin = SuccessModel
