"""A recipe becomes the parts of a run, in the order in which they need each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from llmrl.chat import Chat, load_tokenizer
from llmrl.gateway.server import Gateway
from llmrl.protocols import Engine, Source
from llmrl.reasoning.judge import AnswerJudge
from llmrl.recipe import Recipe
from llmrl.rollout.agent_worker import AgentWorker
from llmrl.rollout.concerted import concerted
from llmrl.rollout.context import SourceContext
from llmrl.rollout.episode import Opponent
from llmrl.rollout.history import histories, warn_of_rewriting
from llmrl.rollout.search_worker import SearchWorker
from llmrl.rollout.worker import RolloutWorker
from llmrl.run_folder import libraries
from llmrl.run_folder.lock import FolderLock
from llmrl.run_folder.ownership import open_run_folder
from llmrl.run_folder.writer import Logs
from llmrl.scoring.manager import GradingPool
from llmrl.scoring.trl_functions import TrainerState
from llmrl.train import random_states
from llmrl.train.adaptation import Adaptation
from llmrl.train.callbacks import Callbacks, OnState
from llmrl.train.checkpoints import Checkpoints
from llmrl.train.dry_run import Rewards
from llmrl.train.evaluation import Evaluation, OnSample
from llmrl.train.gold_reward import GoldReward
from llmrl.train.guards import UpdateGuard
from llmrl.train.learners import Learners
from llmrl.train.load_test import require_ready
from llmrl.train.normaliser import RewardNormaliser
from llmrl.train.opponents import started_opponents
from llmrl.train.parallel import accelerator, gather
from llmrl.train.parts import ActsAfterStep, Clock, FinishedStep, Stateful, metric_prefix
from llmrl.train.policies import TrainedPolicy, trained_policies
from llmrl.train.prompts import check_benchmarks, problems_to_play
from llmrl.train.publisher import Publisher
from llmrl.train.recorder import OnStep, Recorder
from llmrl.train.saver import Saver
from llmrl.train.stopping import Stopping
from llmrl.train.stored_columns import fingerprints
from llmrl.train.weight_sync import PROBE, WeightSync, probed
from llmrl.types import Problem


@dataclass(kw_only=True)
class Parts:
    """A run: its parts that generate and learn, and those that act when a step has ended."""

    recipe: Recipe
    accelerator: Any
    chat: Chat
    logs: Logs
    clock: Clock
    policies: Sequence[TrainedPolicy]  # the run's, then those of agents that learn by themselves
    source: Source
    normaliser: RewardNormaliser
    guard: UpdateGuard
    evaluation: Evaluation
    recorder: Recorder
    stopping: Stopping
    saver: Saver = field(init=False)
    publisher: Publisher = field(init=False)
    first_step: int = 0  # where a resumed run goes on
    after_step: Sequence[ActsAfterStep] = ()  # in this order

    @property
    def learners(self) -> Learners:
        """Models of the run's policy."""
        return self.policies[0].learners

    @property
    def adaptation(self) -> Adaptation:
        """The algorithm of the run's policy."""
        return self.policies[0].adaptation

    @property
    def sync(self) -> WeightSync:
        """The sync into the run's engine."""
        return self.policies[0].sync


def build(
    recipe: Recipe,
    started: ExitStack,
    *,
    resume: bool | Path,
    name: str,
    stopping: Stopping,
    on_step: OnStep | None,
    on_sample: OnSample,
    callbacks: Sequence[OnState] = (),
) -> Parts:
    """The parts of a run, its engine and graders running; restored where it goes on from a checkpoint.

    Args:
        started: gets what closes everything that is started, for its owner to close, also where building fails.
        resume: go on in a folder that holds this run, from its newest checkpoint or from one that is named.
        name: of the folder, where the recipe has no `train.run_name`.
        stopping: signals that may ask the run to end.
        on_step, on_sample, callbacks: see every step, and every answer of an evaluation.
    """
    pool = _graders(recipe, started)
    rewards = Rewards.of(recipe, pool)  # what they hold is refused before anything is loaded
    place = _place(recipe, name, resume, started)
    if recipe.source.plays:
        rewards.require_free(place.problems)
    random_states.seed(recipe.train.seed)
    clock = Clock()
    needs = recipe.algorithm.needs() - recipe.source.fills()
    learners = Learners(recipe, place.accelerator, needs, stopping)
    stops = place.chat.stop_token_ids(*learners.policy.stop_configs())
    ready = partial(require_ready, tokenizer=place.chat.tokenizer, stop_token_ids=stops, folder=place.logs.folder)
    ready(recipe, learners)
    engine = _engine(recipe, stops, started)
    opponents = started_opponents(recipe, place.chat, stops, started) if recipe.source.plays else {}
    source = _source(recipe, place, engine, opponents, rewards, started)
    normaliser = RewardNormaliser(recipe.train.normalize_rewards)
    gold_reward = GoldReward(recipe.audit, pool, seed=recipe.train.seed, rank=place.rank, clock=clock)
    evaluation = _evaluation(recipe, place, engine, pool, learners, clock, on_sample)
    sync = WeightSync(learners.policy, engine, recipe.compute_dtype, partial(_generates, recipe, evaluation))
    parts = Parts(
        recipe=recipe,
        accelerator=place.accelerator,
        chat=place.chat,
        logs=place.logs,
        clock=clock,
        policies=trained_policies(recipe, place.accelerator, learners, sync, opponents, stopping, ready),
        source=source,
        normaliser=normaliser,
        guard=UpdateGuard(place.logs, recipe.train.max_nonfinite_updates),
        evaluation=evaluation,
        recorder=Recorder(recipe, place.accelerator, place.logs, clock, source, normaliser, on_step),
        stopping=stopping,
    )
    parts.recorder.describe(resumes=place.resumed is not None)
    asked = Callbacks(callbacks, recipe.train.max_steps, place.logs.folder, place.accelerator)
    _restore(parts, place, gold_reward, asked, pool.trainer_state)
    parts.recorder.open(parts.first_step, started)
    return parts


def _restore(
    parts: Parts, place: _Place, gold_reward: GoldReward, callbacks: Callbacks, progress: TrainerState
) -> None:
    """Name the parts that have a state and those that end a step; go on from the checkpoint where there is one."""
    states: dict[str, Stateful] = {
        "source": parts.source,
        **{f"{metric_prefix(policy.agent)}algorithm": policy.adaptation for policy in parts.policies},
        "rewards": parts.normaliser,
        "updates": parts.guard,
        "evaluation": parts.evaluation,
        "gold_reward": gold_reward,
    }
    parts.saver = Saver(place.checkpoints, states, parts.evaluation, parts.recipe.train, parts.logs, parts.stopping)
    parts.publisher = Publisher(
        parts.recipe.train, parts.policies, parts.chat.tokenizer, parts.logs.folder, place.accelerator, parts.saver
    )
    parts.after_step = (
        *(policy.learners for policy in parts.policies),  # the reference follows the policy
        *(policy.adaptation for policy in parts.policies),  # the algorithm adapts, to what was measured
        _Progress(progress),  # rewards with a schedule move on
        parts.evaluation,
        gold_reward,
        parts.recorder,  # the step is logged, with all that was measured up to here
        callbacks,
        parts.saver,  # a checkpoint holds what the others have become
        parts.publisher,  # last: what was saved is shared
    )
    if place.resumed is not None:
        parts.first_step = parts.saver.restore(place.resumed)
    progress.global_step = parts.first_step


@dataclass(frozen=True)
class _Place:
    """The surroundings of a run: its processes, its folder, its data."""

    accelerator: Any
    chat: Chat
    problems: Sequence[Problem]
    logs: Logs
    checkpoints: Checkpoints
    resumed: Path | None  # the checkpoint that it goes on from

    @property
    def rank(self) -> tuple[int, int]:
        """Rank of this process, and the number of ranks."""
        return self.accelerator.process_index, self.accelerator.num_processes


def _place(recipe: Recipe, name: str, resume: bool | Path, started: ExitStack) -> _Place:
    """Read the data, and open the folder, which is this run's until `started` closes; nothing runs yet."""
    train, model = recipe.train, recipe.model
    tokenizer = load_tokenizer(model.policy, model.model_revision, model.trust_remote_code)
    chat = Chat(tokenizer, model.system_prompt, model.chat_template_kwargs)
    folder = Path(train.output_dir) / (train.run_name or name)
    processes = accelerator(train, str(folder))
    main, join = processes.is_main_process, partial(gather, world=processes.num_processes)
    problems = problems_to_play(recipe, chat, main)
    check_benchmarks(recipe, chat, main)
    checkpoints = Checkpoints(folder / "checkpoints", processes, train.save_total_limit)

    def opened() -> list[Path | None]:
        started.enter_context(
            FolderLock(folder, "choose another train.run_name", elsewhere="choose another train.output_dir")
        )
        chosen = checkpoints.latest() if isinstance(resume, bool) else checkpoints.named(resume)
        return [open_run_folder(folder, recipe, chosen, bool(resume))]

    (resumed,) = join(concerted(lambda: opened() if main else [], join))
    libraries.keep_in(folder)
    return _Place(
        accelerator=processes,
        chat=chat,
        problems=problems,
        logs=Logs(folder, main, recipe.rollout.log_completions, recipe.rollout.log_tokens_mb),
        checkpoints=checkpoints,
        resumed=resumed,
    )


def _graders(recipe: Recipe, started: ExitStack) -> GradingPool:
    """The processes in which rewards run; they start with the first item to score."""
    pool = GradingPool(recipe.rollout.reward_workers, recipe.rollout.reward_timeout_s)
    started.callback(pool.close)
    pool.trainer_state.max_steps = recipe.train.max_steps
    return pool


def _engine(recipe: Recipe, stop_token_ids: Sequence[int], started: ExitStack) -> Engine | None:
    """Start the engine; none where nothing is generated: the source does not play, and nothing is evaluated."""
    if not (recipe.source.plays or recipe.evaluates):
        return None
    engine = recipe.engine.start(
        recipe.model.policy,
        dtype=recipe.compute_dtype,
        seed=recipe.train.seed,
        max_model_len=max(recipe.rollout.max_length, PROBE + 1),
        stop_token_ids=stop_token_ids,
    )
    started.callback(engine.close)
    return engine


def _source(
    recipe: Recipe,
    place: _Place,
    engine: Engine | None,
    opponents: Mapping[str, Opponent],
    rewards: Rewards,
    started: ExitStack,
) -> Source:
    """Start the source, with a worker where it plays.

    Raises:
        CheckpointError: episodes shall have several turns, and the chat template takes no reply.
    """
    worker = None
    if recipe.source.plays:
        assert engine is not None
        if recipe.rollout.max_turns > 1:
            warn_of_rewriting(histories(place.chat), main=place.rank[0] == 0)
        worker = _worker(recipe, place, engine, opponents, rewards, started)
    source = recipe.source.start(
        SourceContext(
            chat=place.chat,
            options=recipe.rollout,
            seed=recipe.train.seed,
            rank=place.rank,
            gather=lambda groups: gather(groups, place.rank[1]),
            folder=place.logs.folder,
            problems=place.problems,
            worker=worker,
            fingerprints=fingerprints(recipe) if recipe.source.fills() else {},
        )
    )
    started.callback(source.close)
    return source


def _worker(
    recipe: Recipe,
    place: _Place,
    engine: Engine,
    opponents: Mapping[str, Opponent],
    rewards: Rewards,
    started: ExitStack,
) -> RolloutWorker:
    """Make what plays the recipe's problems: an agent program before a gateway or a search, where it asks for one."""
    facts: dict[str, Any] = {
        "engine": engine,
        "chat": place.chat,
        "env": recipe.env,
        "reward": rewards.reward,
        "options": recipe.rollout,
        "seed": recipe.train.seed,
        "opponents": opponents,
    }
    if recipe.agent is not None:
        gateway = Gateway(engine, place.chat)
        started.callback(gateway.close)
        return AgentWorker(**facts, agent=recipe.agent, gateway=gateway)
    search = recipe.rollout.search
    if search is None:
        return RolloutWorker(**facts)
    asked = None if rewards.judge is None else AnswerJudge(rewards.judge)
    return SearchWorker(**facts, strategy=search, judge=asked, budget=recipe.rollout.search_tokens)


def _evaluation(
    recipe: Recipe,
    place: _Place,
    engine: Engine | None,
    pool: GradingPool,
    learners: Learners,
    clock: Clock,
    on_sample: OnSample,
) -> Evaluation:
    """Make what evaluates the policy by the run's engine."""
    return Evaluation(
        recipe,
        engine,
        place.chat,
        pool,
        place.logs.folder / "eval",
        fingerprint=partial(probed, learners.policy),
        rank=place.rank,
        clock=clock,
        on_sample=on_sample,
    )


def _generates(recipe: Recipe, evaluation: Evaluation, version: int) -> bool:
    """True if the source or an evaluation generates with this version of the weights."""
    return recipe.source.plays or evaluation.due(version)


@dataclass
class _Progress:
    """Tells rewards that follow a schedule how many steps the run has taken."""

    told: TrainerState

    def after_step(self, finished: FinishedStep) -> None:
        self.told.global_step = finished.done
