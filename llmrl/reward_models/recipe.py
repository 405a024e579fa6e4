"""Recipe of a reward model as a frozen value: YAML and overrides in, `RewardRecipe` out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Literal

from llmrl.plugins import construct
from llmrl.recipe import tree
from llmrl.recipe.ranges import Amount, Count, Positive, Rate, Seed, ShareBelowAll
from llmrl.reward_models.card import CHAT, Kind, Positions

Columns = Literal["preference", "outcome", "stepwise", "prm800k", "first_error", "rollouts", "rollout_pairs"]
COLUMNS: dict[Kind, tuple[Columns, ...]] = {
    "outcome": ("preference", "rollout_pairs"),
    "verifier": ("outcome", "rollouts"),
    "token": ("outcome", "rollouts"),
    "process": ("stepwise", "prm800k", "first_error"),
}
"""What each kind learns from; the first is the default."""


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """The language model that becomes a reward model."""

    model_name_or_path: str
    model_revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the trained weights; the head is always float32
    attn_implementation: str | None = None  # None: Transformers chooses
    trust_remote_code: bool = False
    use_peft: bool = False  # LoRA, merged when the model is saved
    lora_r: Count = 16
    lora_alpha: Count = 32
    lora_dropout: ShareBelowAll = 0.0
    lora_target_modules: Sequence[str] | str = "all-linear"


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The rows to learn from, and those to test on."""

    train: str  # .jsonl, .json or .parquet
    test: str | None = None  # None: a share of the problems of `train`
    test_share: ShareBelowAll = 0.1  # of the problems, never of the rows; 0 tests on nothing
    columns: Columns | None = None  # None: the first that the kind can learn from
    neutral_as: Literal["positive", "ignore", "negative"] = "positive"  # PRM800K's rating 0
    balance: Count | None = None  # at most so many right and as many wrong answers per problem; None takes all
    limit: Count | None = None  # the first rows only
    seed: Seed = 0  # of the test share and of balancing


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """Options of the model's input: template, separator, length."""

    template: str = CHAT  # the tokenizer's chat template, or Jinja2 with prompt, response and your variables
    separator: str = "\n"  # behind each step
    max_length: int = 1024  # tokens; a longer training row is left out and counted

    def __post_init__(self) -> None:
        if self.max_length < 2 or not self.separator:
            raise ValueError("expected max_length at least 2 and a separator that is not empty")


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Options of the loss; each belongs to one kind."""

    margin: bool = False  # outcome: demand the margin that the rows name
    center_rewards_coefficient: Amount = 0.0  # outcome: above 0 pins the mean of rewards to 0; 0.01 is usual
    weigh: Literal["pair", "problem"] = "pair"  # outcome: the unit of equal weight
    positions: Positions = "last_token"  # verifier: which tokens are asked
    average: Literal["token", "sequence"] = "token"  # verifier with all_tokens: over all tokens, or by answer first


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Options of the optimisation; the names are those of Transformers' TrainingArguments."""

    num_train_epochs: Positive = 1.0  # more than one overfits most reward models
    max_steps: int | None = None  # instead of epochs
    learning_rate: Rate = 1e-5  # ten times as much with LoRA
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "linear"
    warmup_steps: int = 0
    weight_decay: Amount = 0.0
    max_grad_norm: Amount = 1.0
    per_device_train_batch_size: int = 16  # rows, or pairs
    gradient_accumulation_steps: int = 1
    bf16: bool = False  # autocast; the weights stay in model.dtype
    gradient_checkpointing: bool = False
    logging_steps: int = 10
    seed: Seed = 0
    output_dir: str = "runs/reward_models"  # the model is output_dir/run_name
    run_name: str | None = None  # None: the recipe's file name
    calibration_rows: int = 512  # answers on which mean and range of the scores are taken

    def __post_init__(self) -> None:
        least: dict[str, float] = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1}
        least |= {"logging_steps": 1, "warmup_steps": 0, "learning_rate": 0, "calibration_rows": 2}
        for name, bound in least.items():
            if not bound <= getattr(self, name) < inf:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least {bound}")
        if self.num_train_epochs <= 0 or (self.max_steps is not None and self.max_steps < 1):
            raise ValueError("num_train_epochs must be above 0 and max_steps at least 1, or null")


@dataclass(frozen=True, kw_only=True)
class RewardRecipe:
    """Every setting of a reward model's training."""

    kind: Kind
    model: BackboneOptions
    data: DataOptions
    input: InputOptions = field(default_factory=InputOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    train: FitOptions = field(default_factory=FitOptions)

    def __post_init__(self) -> None:
        loss, fits = self.loss, COLUMNS[self.kind]
        if self.data.columns is not None and self.data.columns not in fits:
            raise ValueError(f"data.columns {self.data.columns!r}: a {self.kind} model learns from {' or '.join(fits)}")
        if self.kind != "outcome" and (loss.margin or loss.center_rewards_coefficient or loss.weigh != "pair"):
            raise ValueError(
                f"loss.margin, loss.center_rewards_coefficient and loss.weigh are for outcome, not for {self.kind}"
            )
        if self.kind != "verifier" and (loss.positions != "last_token" or loss.average != "token"):
            raise ValueError(f"loss.positions and loss.average are for verifier, not for {self.kind}")
        if loss.average == "sequence" and loss.positions == "last_token":
            raise ValueError("loss.average sequence needs loss.positions all_tokens: there is one token to average")
        if self.data.balance is not None and self.columns not in ("outcome", "rollouts"):
            raise ValueError(f"data.balance: {self.kind} models learn from rows that are not right or wrong as a whole")

    @property
    def columns(self) -> Columns:
        """Layout of the rows."""
        return self.data.columns or COLUMNS[self.kind][0]

    def as_dict(self) -> dict[str, Any]:
        """Convert to plain values for YAML, every default spelled out."""
        return asdict(self)


def read(path: str | Path, overrides: Sequence[str] = ()) -> RewardRecipe:
    """Read the recipe in a YAML file, with `section.key=value` overrides applied.

    Raises:
        RecipeError: no such file, not YAML, an unknown key, or a value of the wrong type; names file and key.
    """
    made: RewardRecipe = construct(RewardRecipe, tree(path, overrides), f"{path}:")
    return made
