"""The extension points. A plug-in is a frozen dataclass: its fields are options, its methods behaviour."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from llmrl.columns import Columns
from llmrl.types import Completion, Message, Observation, Problem, Sampling, Score, Status, Trajectory

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.batch import Batch
    from llmrl.samples import Sample

Column = str  # name of a token column, one of `llmrl.columns.COLUMNS`


class Forward(Columns):
    """Output of a model for a batch, in float32: each is (B, T) and about token t itself. What it lacks is an error."""

    __slots__ = ("columns",)
    logprobs: Tensor  # of the tokens that were chosen
    entropy: Tensor  # in nats, of the distribution they were chosen from
    kept_logprobs: Tensor  # over `Batch.support_ids` alone, where the samples have them
    kept_entropy: Tensor
    peak_logprobs: Tensor  # of the likeliest tokens, whichever they are; see `Update.peaks`
    peak_ids: Tensor  # (B, T) int64, those tokens
    other_logprobs: Tensor  # of the tokens `Batch.ref_peak_ids`, where the samples have them
    values: Tensor  # a critic's number for the state before the token, by its first head of states; with gradient
    next_values: Tensor  # and for the state after it
    value_loss: Callable[[Tensor], Tensor]  # (B, T) targets to (B, T) terms: that head's own loss
    head_losses: Mapping[str, Callable[[Tensor], Tensor]]  # by head of states: as `value_loss`, of each
    baselines: Tensor  # advantage of the turn that a critic expects before the token
    action_values: Tensor  # the least number of the token by heads of the vocabulary, by their Polyak copies if any
    heads: Mapping[str, Tensor]  # by head: the number of the state before the token, or of the token; with gradient
    next_heads: Mapping[str, Tensor]  # by head of states: the number of the state after the token
    head_logprobs: Mapping[str, Tensor]  # by head of the vocabulary: the token's log-softmax over all numbers
    target_heads: Mapping[str, Tensor]  # `heads` of the Polyak copies, and `next_heads` of them; constants
    next_target_heads: Mapping[str, Tensor]

    def __init__(self, **columns: Any) -> None:
        self.columns = {name: column for name, column in columns.items() if column is not None}

    def with_columns(self, **columns: Any) -> Forward:
        """A copy with these as they are given; None takes one away."""
        return Forward(**{**self.columns, **columns})

    def _remedy(self, name: str) -> str:
        return f"this model gives {', '.join(self.columns) or 'nothing'}; the `model` of an Update decides which it is"


@dataclass(frozen=True, slots=True)
class Loss:
    """The result of a loss function: (B, T) terms to minimise, never averaged, and (B, T) quantities worth logging.

    `metrics` are averaged over the tokens that learn, each alike; `means` as the terms are, by their weights, for what
    belongs to an answer or a pair. Neither depends on ranks and micro-batches.
    """

    terms: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    means: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A trunk under heads, asked for by name; terms are weighed by `value_weights`. `critic` fills critics' columns."""

    trunk: str = "policy"  # policy: as the policy begins, or recipe.critic.model. reference: that, frozen. Or a folder
    trains: bool = True
    heads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by name, as critic.head; none: `value`, that
    target_tau: float | None = None  # share that a Polyak copy takes after every optimiser step
    target: Literal["heads", "model"] = "heads"  # what is copied: heads, on the trunk as it is, or all
    columns: Mapping[str, Callable[[Forward], Tensor]] = field(default_factory=dict)  # `Forward`'s, of its heads


@dataclass(frozen=True, slots=True)
class Update:
    """Trains a model on a loss: `epochs` passes over the step's samples in `minibatches` optimiser steps each."""

    model: str
    loss: Callable[[Forward, Batch], Loss]
    epochs: int = 1
    minibatches: int = 1
    keep_groups: bool = False  # samples of a group stay in one micro-batch, for losses that compare them
    entropy_grad: bool = False  # whether the loss may send a gradient through `Forward.entropy`
    peaks: bool = False  # the loss reads `Forward.peak_logprobs` or `other_logprobs`
    rows: Callable[[Sample], bool] | None = None  # samples that it learns from; None: all

    def chosen(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples that it learns from."""
        return [sample for sample in samples if self.rows is None or self.rows(sample)]


@runtime_checkable
class Algorithm(Protocol):
    """Turns a step's samples into updates. A value: frozen, comparable, picklable; it holds options, never tensors.

    Where it compares, it says how many a group needs, by `least_generations`, and a step, by `least_episodes`.
    """

    def needs(self) -> frozenset[Column]:
        """Columns of `Sample` that the models must fill before `credit`, by name."""

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """Set advantages and weights; samples without a gradient are dropped. Gets the whole step."""

    def updates(self, step: int) -> Sequence[Update]:
        """The updates of this step, in order. A step may leave a model as it is: a warm-up does."""


@runtime_checkable
class Modelled(Protocol):
    """An algorithm that asks for other models than the policy, its reference and a critic with one head."""

    def models(self) -> Mapping[str, ModelSpec]:
        """Models by name; each is trained by the updates of that name."""


@runtime_checkable
class Adaptive(Protocol):
    """An algorithm whose options follow its metrics: a coefficient under control, a phase that ends."""

    def adapted(self, step: int, metrics: Mapping[str, float]) -> Algorithm:
        """The algorithm for the next step, from a step's metrics; checkpoints keep its options."""


@runtime_checkable
class Compares(Protocol):
    """An algorithm that asks the models about more rows than the step's, such as answers to other problems."""

    def compared(self, samples: Sequence[Sample]) -> list[Sample]:
        """Rows to annotate with the step's samples; `credit` gets both, and gives back the step's alone."""


@runtime_checkable
class Measured(Protocol):
    """An algorithm with metrics of a step as a whole, which are no averages over tokens."""

    def metrics(self, rows: Sequence[Sample]) -> Mapping[str, float]:
        """Metrics for the log, and for `adapted`, of the samples that `credit` returned: those of all ranks."""


@runtime_checkable
class Fitted(Protocol):
    """An algorithm with an option that follows `rollout.max_completion_length` where it is left out."""

    def fitted(self, max_completion_length: int) -> Algorithm:
        """The algorithm with that option set; what a recipe holds.

        Raises:
            ValueError: another length is given; names both.
        """


class Source(Protocol):
    """Produces the samples of a step. Its state is all that a resumed run needs to go on exactly."""

    played: Sequence[Sequence[Trajectory]]  # the last step's groups of episodes, for the log; none of stored data
    metrics: Mapping[str, float]  # of the source in that step, for the log
    data: Mapping[str, Any]  # what it reads: counts and hashes, for the manifest

    def next(self, step: int) -> list[Sample]:
        """Return a step's samples, those of all ranks, the same on every rank."""

    def timings(self) -> Mapping[str, float]:
        """Metrics of the seconds that its phases have taken since the last call, such as `time/generate`."""

    def state(self) -> Mapping[str, Any]: ...

    def restore(self, state: Mapping[str, Any]) -> None: ...

    def close(self) -> None:
        """Cancel running episodes; safe to call twice."""


@runtime_checkable
class SourceFactory(Protocol):
    """The plug-in behind a `Source`. By `overlaps` it tells that episodes are generated while the trainer learns."""

    plays: bool  # it generates episodes: a run starts an engine and graders for it, and needs `data` and `reward`

    def fills(self) -> frozenset[Column]:
        """Columns of models that its samples have already: no model of the run computes them."""

    def start(self, context: Any) -> Source:
        """The source, at its beginning; `context` is a `llmrl.rollout.context.SourceContext`."""


@runtime_checkable
class Engine(Protocol):
    """Token ids in, token ids out, with the log-probability of every sampled token. It batches whatever is waiting.

    The plug-in behind it tells by `concurrent` that it can generate while the trainer learns: it has a copy of the
    weights, does not sleep, and takes `load` while requests run.
    """

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Generate a completion of the prompt."""

    async def score(self, token_ids: Sequence[int]) -> list[float]:
        """Log-probability, at temperature 1, of every token after the first: `len(token_ids) - 1` numbers."""

    def load(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Take the weights of `version`, by their Hugging Face names (those of files with `checkpoint_names`)."""

    def sleep(self) -> None:
        """Give the accelerator's memory to the trainer."""

    def wake(self) -> None:
        """Take it back."""

    def close(self) -> None:
        """Stop everything this engine started; safe to call twice."""


@runtime_checkable
class EngineFactory(Protocol):
    """The plug-in behind an `Engine`; cheap to make, until it starts one."""

    def start(self, model: str, *, dtype: str, seed: int, max_model_len: int, stop_token_ids: Sequence[int]) -> Engine:
        """The engine, running.

        Raises:
            EngineError: it does not start, or refuses the model.
        """


class Env(Protocol):
    """Runs an episode, in messages. Made for one problem, used once, closed. It never sees a token.

    With `restores = True` on its plug-in it has `snapshot() -> str`, its state between two turns, and, in place of
    `reset`, `restore(snapshot) -> Observation`, which shows again what was shown last.
    """

    async def reset(self) -> Observation: ...
    async def step(self, message: Message) -> Observation: ...
    async def close(self) -> None: ...  # safe to call twice


Isolation = Literal["inline", "thread", "process"]  # place of an environment: the shared event loop, or its own


@runtime_checkable
class EnvFactory(Protocol):
    """The plug-in behind an `Env`. It may have attributes `isolation` and `max_open_envs`, which a recipe overrides."""

    def make(self, problem: Problem) -> Env: ...


@runtime_checkable
class Agent(Protocol):
    """A program that plays an episode by itself: it asks the policy as it would ask OpenAI's server.

    It may have an attribute `max_open`: how many run at once, which `rollout.max_open_envs` overrides.
    """

    async def run(self, problem: Problem, base_url: str, key: str) -> tuple[Status, str]:
        """Run the program for a problem, until it ends or is ended; it is gone afterwards, also when cancelled.

        Args:
            base_url: of the episode's session, as clients of OpenAI take it.
            key: of the session.
        Returns:
            How it ended, `done`, `cut` or `error`, and the reason.
        """


@runtime_checkable
class Reward(Protocol):
    """Scores a whole group at once, so a judge may compare siblings. One score per trajectory, in order."""

    async def score(self, group: Sequence[Trajectory]) -> list[Score]: ...


@runtime_checkable
class Verifier(Protocol):
    """The simple kind of reward: a function of the problem and the policy's last completion.

    It never raises on a bad *answer*, which is a verdict with a reason; it raises on a bad *problem*.
    `llmrl.scoring.manager.as_group_reward` makes a `Reward` of it: worker processes, a time limit, and a hard kill for
    each item.
    """

    def __call__(self, problem: Problem, text: str) -> Score: ...


@runtime_checkable
class Composite(Protocol):
    """A reward made of others, such as `mix`: it builds them when it is given the worker pool that grades."""

    def as_group_reward(self, pool: Any) -> Any: ...


RewardPlugin = Reward | Verifier | Composite
"""The plug-in behind a reward, in any of the forms that `llmrl.scoring.manager.as_group_reward` takes."""


@runtime_checkable
class Dataset(Protocol):
    """Problems, lazily, in an order and with ids that never change between runs."""

    def problems(self) -> Iterator[Problem]: ...


class Curriculum(Protocol):
    """Weighs the problems of a run by what came of them so far. It asks no clock and no chance: ranks must agree."""

    def weights(self) -> Any:
        """(problems,) array of numbers of at least 0: how likely each is to be drawn next, against the others."""

    def observe(self, outcomes: Sequence[tuple[int, float]]) -> dict[str, float]:
        """Observe a step's problems, by number, each with its pass rate from 0 to 1; return metrics."""

    def state(self) -> Mapping[str, Any]: ...

    def restore(self, state: Mapping[str, Any]) -> None: ...


@runtime_checkable
class CurriculumFactory(Protocol):
    """The plug-in behind a `Curriculum`."""

    random_share: float  # of the draws, over all problems alike, so that none is forgotten

    def start(self, problems: Sequence[Problem]) -> Curriculum:
        """The curriculum, before anything was observed.

        Raises:
            DataError: the problems lack what it reads.
        """


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A test, made of the same parts that training uses, so that numbers mean the same in both."""

    data: Mapping[str, Any]  # a dataset and its options
    reward: Mapping[str, Any]  # a reward and its options; `correct` is what counts
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.0))
    env: Mapping[str, Any] = field(default_factory=lambda: {"name": "single_turn"})  # an environment and its options
    max_turns: int = 1  # of an episode
    samples: int = 1  # completions per problem
    by: Sequence[str] = ()  # keys of `Problem.info` to break the result down by: subject, level
    method: Literal["", "agentless"] = ""  # of answering in stages, which `llmrl eval` knows; "": a problem is asked
    judged: bool | None = True  # its reward gives verdicts; False: parts alone are measured; None: as its reward does
    about: str = ""  # source, size and measure
