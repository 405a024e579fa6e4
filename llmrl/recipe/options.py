"""The sections of a recipe. Defaults live here, with their reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil, inf
from typing import Annotated, Any, Literal

from annotated_types import Le

from llmrl.plugins import SECRET, Kind, build, build_held, construct, holds
from llmrl.protocols import (
    Agent,
    Algorithm,
    Dataset,
    EngineFactory,
    EnvFactory,
    Isolation,
    RewardPlugin,
    SourceFactory,
)
from llmrl.recipe.ranges import (
    Amount,
    Count,
    Positive,
    PositiveShare,
    Rate,
    Seconds,
    Seed,
    ShareBelowAll,
    Unlimited,
    Whole,
)
from llmrl.recipe.trackers import Tracker
from llmrl.types import POLICY

Spec = Mapping[str, Any]
"""A plug-in by name, with its options: `{name: grpo, beta: 0.01}`; see `llmrl.plugins.build`."""

PLUGINS: tuple[Kind, ...] = ("data", "reward", "algorithm", "engine", "source", "env", "agent")
"""Sections that name a plug-in."""
BY_DEFAULT: Mapping[str, str] = {"engine": "vllm", "source": "online", "env": "single_turn"}
"""Plug-ins of the sections that a recipe leaves out."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The policy: a folder or a hub name, and how to hold it."""

    policy: str
    model_revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the trained weights; bf16 alone loses small updates
    attn_implementation: str | None = None  # None: what Transformers chooses
    trust_remote_code: bool = False
    system_prompt: str | None = None
    chat_template_kwargs: Spec = field(default_factory=dict)
    use_peft: bool = False
    lora_r: Count = 16
    lora_alpha: Count = 32
    lora_dropout: ShareBelowAll = 0.0  # dropout makes the trained policy differ from the one that sampled
    lora_target_modules: Sequence[str] | str = "all-linear"
    sync_ref_model: bool = False  # whether the reference follows the policy; it is float32 then
    ref_model_mixup_alpha: PositiveShare = 0.6  # the share of the policy that it takes; 1 copies (arXiv 2404.09656)
    ref_model_sync_steps: Count = 512  # how often, in steps

    def __post_init__(self) -> None:
        if self.sync_ref_model and self.use_peft:
            raise ValueError(
                "sync_ref_model with use_peft: the reference of LoRA is the model below it and cannot move"
            )


@dataclass(frozen=True, kw_only=True)
class CriticOptions:
    """The second trained model, one number per token, for algorithms that need one; others build none."""

    model: str | None = None  # a folder or a hub name; None: the policy's network, at the policy's weights
    head: Spec = field(default_factory=lambda: {"name": "scalar"})  # docs/critic.md
    zero_init: bool = True  # its last layer begins at 0, so that a new critic claims nothing; False: at random
    learning_rate: Rate = 5e-6  # at its peak; the schedule is the policy's

    def __post_init__(self) -> None:
        if not 0 <= self.learning_rate < inf:
            raise ValueError(f"learning_rate {self.learning_rate}: expected at least 0")


@dataclass(frozen=True, kw_only=True)
class OpponentOptions:
    """Another model, which speaks for an agent where an environment has several: frozen, or learning by itself."""

    model: str | None = None  # a folder or a hub name, with the policy's tokenizer; None: the policy as the run began
    engine: EngineFactory = field(default_factory=partial(build, "engine", "hf"), metadata=holds("engine"))
    temperature: float | None = None  # of its sampling; None: rollout.temperature
    learns: bool = False  # from the agent's turns, as the policy does from all others; False: it stays as it is
    learning_rate: Rate | None = None  # at its peak, where it learns; None: train.learning_rate

    def __post_init__(self) -> None:
        build_held(self)
        if self.temperature is not None and not 0 <= self.temperature < inf:
            raise ValueError(f"temperature {self.temperature}: expected at least 0, or none")
        if self.learns and self.temperature == 0:
            raise ValueError("temperature 0 with learns: a model that learns has to sample; expected above 0, or none")
        if self.learning_rate is not None and not self.learns:
            raise ValueError(f"learning_rate {self.learning_rate}: it is frozen; expected learns: true, or none")
        if self.model is not None and self.model.partition(":")[0] == POLICY:
            raise ValueError(
                f"model {self.model}: the log calls the policies of the run so; expected a path, such as ./{self.model}"
            )

    @property
    def label(self) -> str:
        """Name of the model in the log."""
        return self.model or "frozen"


@dataclass(frozen=True, kw_only=True)
class RolloutOptions:
    """Options of running and scoring episodes."""

    num_generations: int = 8  # episodes per problem: one group
    prompts_per_step: int = 8  # over all ranks
    max_completion_length: int = 1024  # tokens per turn; too small and every answer is cut off
    max_prompt_length: int = 2048  # a longer prompt is an error, never cut
    drop_long_prompts: bool = False  # leave such problems out of the data, with a warning; in benchmarks: unjudged
    max_reply_length: int = 512  # tokens that the environment adds after a turn, on average: room is kept for them
    temperature: Annotated[float, Le(100)] = 1.0
    top_p: float = 1.0  # below 1 the sampled log-probabilities are of another distribution
    top_k: int = 0
    min_p: float = 0.0
    max_turns: int = 1
    overlong_turns: Literal["end", "answer"] = "end"  # one that was cut ends its episode, or is answered as it is
    max_open_envs: int | None = None  # environments open at once, of a process; None: the environment's own bound
    env_isolation: Isolation | None = None  # where environments run; None: where the environment says, else inline
    env_timeout_s: Seconds = 120.0  # for an environment to begin, to answer and to close, each; then the episode breaks
    episode_timeout_s: Seconds | None = None  # of a whole episode, waiting for the engine included; None: no limit
    max_error_share: float = 0.1  # of the step's scores that no grader could give; above it the run stops
    reward_timeout_s: Seconds = 5.0  # per item; a grader that takes longer is killed or cancelled
    reward_workers: int = 2  # processes
    log_completions: float = 1.0  # share of the episodes written to rollouts.jsonl
    log_tokens_mb: Unlimited = 1000.0  # size of that file from which on episodes are written without their tokens
    log_trainer: bool = False  # write the trainer's log-probability and entropy of each token: one forward pass more
    opponents: Mapping[str, Any] = field(default_factory=dict, hash=False)  # by agent; the policy speaks for all others
    search: Any = field(default=None, metadata=holds("search"))  # a strategy that answers; None: plain sampling
    judge: RewardPlugin | None = field(default=None, metadata=holds("reward"))  # of the search; sees no reference
    search_tokens: int | None = None  # that the search of an answer may generate

    def __post_init__(self) -> None:
        build_held(self)
        opponents = {
            agent: construct(OpponentOptions, given, f"opponents.{agent}") if isinstance(given, Mapping) else given
            for agent, given in self.opponents.items()
        }
        object.__setattr__(self, "opponents", opponents)
        if self.search is None and (self.judge, self.search_tokens) != (None, None):
            raise ValueError("judge and search_tokens are of a search; expected search: {name: best_of_n}, or neither")
        if self.search is not None and self.judge is None and getattr(self.search, "judged", True):
            raise ValueError(
                "search: it compares answers by a judge; expected judge: a reward without reference answer"
            )
        if self.search_tokens is not None and self.search_tokens < 1:
            raise ValueError(f"search_tokens {self.search_tokens}: expected at least 1")
        if self.num_generations < 1 or self.prompts_per_step < 1 or self.max_completion_length < 1:
            raise ValueError("num_generations, prompts_per_step and max_completion_length must be at least 1")
        if self.temperature <= 0:
            raise ValueError(f"temperature {self.temperature}: training needs a policy that samples; expected above 0")
        if not self.log_tokens_mb >= 0:
            raise ValueError(f"log_tokens_mb {self.log_tokens_mb}: expected at least 0")
        if self.max_reply_length < 0 or self.max_prompt_length < 1:
            raise ValueError(
                f"max_prompt_length {self.max_prompt_length}, max_reply_length {self.max_reply_length}: expected at "
                "least 1 and at least 0"
            )
        shares = {name: getattr(self, name) for name in ("min_p", "max_error_share", "log_completions")}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} {share}: expected from 0 to 1")
        if not 0 < self.top_p <= 1 or self.top_k < 0:
            raise ValueError(f"top_p {self.top_p}, top_k {self.top_k}: expected above 0 and at most 1, at least 0")
        if self.max_turns < 1 or self.reward_workers < 1 or self.reward_timeout_s <= 0:
            raise ValueError("max_turns and reward_workers must be at least 1, reward_timeout_s above 0")
        if self.max_open_envs is not None and self.max_open_envs < 1:
            raise ValueError(f"max_open_envs {self.max_open_envs}: expected at least 1, or none")
        for name in ("env_timeout_s", "episode_timeout_s"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} {seconds}: expected above 0")

    @property
    def episodes_per_step(self) -> int:
        """Episodes of a step, over all ranks."""
        return self.prompts_per_step * self.num_generations

    @property
    def max_length(self) -> int:
        """Tokens of a whole episode, prompt, completions and replies; one that needs more ends there."""
        replies = self.max_reply_length * (self.max_turns - 1)
        answers = max(self.max_turns, getattr(self.search, "contexts", 1))  # in a context, those that a search revises
        return self.max_prompt_length + self.max_completion_length * answers + replies


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of training."""

    max_steps: int = 100
    num_train_epochs: Positive | None = None  # passes over the data, in place of max_steps
    learning_rate: Rate = 1e-6
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: Amount = 0.0  # below 1 a share of all steps, rounded up
    warmup_rollouts: int = 0  # episodes that are generated before anything learns; whole steps of them
    normalize_rewards: bool = False  # standardise them by the running moments of all episodes so far
    weight_decay: Amount = 0.0
    adam_beta1: ShareBelowAll = 0.9
    adam_beta2: ShareBelowAll = 0.999
    max_grad_norm: Unlimited = 1.0
    # of a micro-batch, padding included; changes memory and speed, never the gradient. None: 2048 on a CPU, else 16384
    tokens_per_device: int | None = None
    bf16: bool = False  # autocast; the weights stay in model.dtype
    gradient_checkpointing: bool = False  # recompute activations: less memory, a third more time
    packing: bool | Literal["auto"] = "auto"  # rows without padding: where the model's attention keeps them apart
    logits_chunk_mb: int = 256  # log-probabilities are computed in pieces whose float32 logits are no larger
    seed: Seed = 0
    save_steps: int = 50  # 0: only at the end
    save_total_limit: int = 2  # the best by eval is kept besides
    max_nonfinite_updates: int = 3  # in a row, skipped and reported, before the run stops
    stop_grace_s: Seconds = 120.0  # from a signal to the end of the process at the latest, saved or not
    output_dir: str = "runs"
    run_name: str | None = None  # None: the recipe's file name
    report_to: Tracker | Sequence[Tracker] = "tensorboard"  # one tracker or several; none
    table_rows: Whole = 8  # completions of each step in the table of trackers that have one; 0: no table
    push_to_hub: bool = False  # put the model, and its card, onto the hub; see docs/sharing.md
    hub_model_id: str | None = None  # owner/name; None: the name of the run's folder, in the token's namespace
    hub_strategy: Literal["end", "every_save", "checkpoint", "all_checkpoints"] = "every_save"
    hub_private_repo: bool | None = None  # None: as the owner's default is
    hub_revision: str | None = None  # a branch; None: main
    hub_token: str | None = field(default=None, repr=False, metadata=SECRET)  # None: HF_TOKEN, or `hf auth login`

    def __post_init__(self) -> None:
        least = {"max_steps": 1, "logits_chunk_mb": 1, "save_total_limit": 1}
        least |= {"max_nonfinite_updates": 1, "save_steps": 0, "learning_rate": 0}
        least |= {"warmup_rollouts": 0}
        for name, bound in least.items():
            if not bound <= getattr(self, name) < inf:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least {bound}")
        if self.warmup_steps >= 1 and self.warmup_steps % 1:
            raise ValueError(f"warmup_steps {self.warmup_steps}: expected whole steps, or a share below 1")
        if not isinstance(self.report_to, str) and "none" in self.report_to and len(self.report_to) > 1:
            raise ValueError(f"report_to {list(self.report_to)}: none beside others; expected either")
        if self.tokens_per_device is not None and self.tokens_per_device < 1:
            raise ValueError(f"tokens_per_device {self.tokens_per_device}: expected at least 1")
        if (self.hub_model_id or self.hub_token or self.hub_revision) and not self.push_to_hub:
            raise ValueError("hub_model_id, hub_revision, hub_token: they need push_to_hub: true")
        if not self.stop_grace_s > 0:
            raise ValueError(f"stop_grace_s {self.stop_grace_s}: expected above 0")
        if not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm {self.max_grad_norm}: expected above 0; .inf clips nothing")

    @property
    def warmup(self) -> int:
        """Steps in which the learning rate rises."""
        return ceil(self.warmup_steps * self.max_steps if self.warmup_steps < 1 else self.warmup_steps)

    @property
    def trackers(self) -> list[str]:
        """Names of the trackers; none where nothing is reported."""
        named = [self.report_to] if isinstance(self.report_to, str) else self.report_to
        return [name for name in dict.fromkeys(named) if name != "none"]


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """Benchmarks during training."""

    every: Whole = 0  # steps; 0: never
    on_start: bool = False  # also before the first step
    benchmarks: Sequence[str] = ()
    data: Dataset | None = field(default=None, metadata=holds("data"))  # own problems, by the run's env and reward
    limit: Count | None = None  # the first problems only
    samples: Count | None = None  # None: the benchmark's own
    max_completion_length: Count | None = None  # tokens of an answer; None: the benchmark's own

    def __post_init__(self) -> None:
        build_held(self)

    @property
    def asks(self) -> bool:
        """True if there is something to evaluate on."""
        return bool(self.benchmarks) or self.data is not None


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Options of the gold reward, from which nothing learns. See docs/audit.md."""

    reward: RewardPlugin | None = field(default=None, metadata=holds("reward"))  # None: no audit
    share: float = 0.25  # of a step's episodes, chosen by a hash of the seed, the step and the episode
    every: int = 1  # steps
    window: int = 20  # audited steps over which training reward and gold reward are compared
    stop: bool = False  # whether an alarm ends the run

    def __post_init__(self) -> None:
        build_held(self)
        if not 0 < self.share <= 1 or self.every < 1 or self.window < 4:
            raise ValueError("share must be above 0 and at most 1, every at least 1, window at least 4")


@dataclass(frozen=True, kw_only=True)
class Sections:
    """The sections of a recipe by name, and what follows from several of them."""

    model: ModelOptions
    data: Dataset | None = field(default=None, metadata=holds("data"))  # only a source that plays needs it,
    reward: RewardPlugin | None = field(default=None, metadata=holds("reward"))  # and this
    algorithm: Algorithm = field(metadata=holds("algorithm"))
    engine: EngineFactory = field(
        default_factory=partial(build, "engine", BY_DEFAULT["engine"]), metadata=holds("engine")
    )
    source: SourceFactory = field(
        default_factory=partial(build, "source", BY_DEFAULT["source"]), metadata=holds("source")
    )
    env: EnvFactory = field(default_factory=partial(build, "env", BY_DEFAULT["env"]), metadata=holds("env"))
    agent: Agent | None = field(default=None, metadata=holds("agent"))  # a program that plays in place of `env`
    critic: CriticOptions = field(default_factory=CriticOptions)
    rollout: RolloutOptions = field(default_factory=RolloutOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    eval: EvalOptions = field(default_factory=EvalOptions)
    audit: AuditOptions = field(default_factory=AuditOptions)

    @property
    def collect_only_steps(self) -> int:
        """Steps, from the first, in which nothing learns: `train.warmup_rollouts` in whole steps."""
        return -(-self.train.warmup_rollouts // self.rollout.episodes_per_step)

    @property
    def evaluates(self) -> bool:
        """True if benchmarks are asked at some time in the run."""
        return self.eval.asks and (self.eval.every > 0 or self.eval.on_start)

    @property
    def compute_dtype(self) -> Literal["float32", "bfloat16"]:
        """The dtype of forward passes in trainer and engine: that of the weights, or bfloat16 under autocast."""
        return "bfloat16" if self.train.bf16 else self.model.dtype


def option(plugin: Any, name: str) -> Any:
    """An option that not every plug-in of a kind has; None where it has none."""
    return getattr(plugin, name, None)
