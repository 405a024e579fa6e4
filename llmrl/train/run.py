"""A run: everything a recipe names, built and held together while the loop takes its steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import yaml
from accelerate.utils import set_seed

from llmrl import plugins
from llmrl.chat import Chat, load_tokenizer
from llmrl.errors import LlmrlError, TrainingError
from llmrl.ops.mismatch import step_metrics
from llmrl.ops.moments import Moments, standardised
from llmrl.ops.warmup import collect_steps
from llmrl.protocols import Adaptive, Measured, Update
from llmrl.recipe import Recipe, check
from llmrl.rollout.worker import RolloutWorker
from llmrl.run_folder.manifest import manifest
from llmrl.run_folder.ownership import open_run_folder
from llmrl.run_folder.writer import Logs
from llmrl.samples import Sample
from llmrl.scoring.manager import GradingPool, as_group_reward, latency_metrics
from llmrl.train import weight_sync
from llmrl.train.checkpoints import Checkpoints, export
from llmrl.train.evaluation import Evaluation, OnSample, unseen
from llmrl.train.gold_reward import GoldReward
from llmrl.train.learner import OptimStep
from llmrl.train.learners import Learners, learning_rate
from llmrl.train.metrics import fit_metrics, rollout_metrics
from llmrl.train.parallel import accelerator, gather, zero_stage
from llmrl.types import Problem, Trajectory

OnStep = Callable[[int, Mapping[str, float], Sequence[Sequence[Trajectory]]], None]


class Run:
    """One run. Use as a context manager: engines, worker processes and trackers are stopped whatever happens."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        resume: bool = False,
        name: str = "run",
        on_step: OnStep | None = None,
        on_sample: OnSample = unseen,
    ) -> None:
        check(recipe)
        self.recipe = recipe
        self.first_step = 0
        self._on_step = on_step
        self._on_sample = on_sample
        self.folder = Path(recipe.train.output_dir) / (recipe.train.run_name or name)
        self.algorithm = plugins.build("algorithm", recipe.algorithm, "algorithm")
        reward = plugins.build("reward", recipe.reward, "reward")
        problems = list(plugins.build("data", recipe.data, "data").problems())
        model = recipe.model
        tokenizer = load_tokenizer(model.policy, model.model_revision, model.trust_remote_code)
        self.chat = Chat(tokenizer, model.system_prompt, model.chat_template_kwargs)
        self.accelerator = accelerator(recipe.train, str(self.folder))
        share, tokens_mb = recipe.rollout.log_completions, recipe.rollout.log_tokens_mb
        self.logs = Logs(self.folder, self.accelerator.is_main_process, share, tokens_mb)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", self.accelerator, recipe.train.save_total_limit)
        resumed = open_run_folder(self.folder, recipe, self.checkpoints.latest(), resume)
        self._closing = ExitStack()  # closes all, also where one of them fails to
        self._seconds: dict[str, float] = {}
        self._fits: list[OptimStep] = []
        played = recipe.rollout.prompts_per_step * recipe.rollout.num_generations
        self._collect_only_steps = collect_steps(recipe.train.warmup_rollouts, played)
        self._nonfinite = 0
        self._rewards = Moments()
        self._best: tuple[float, int] | None = None
        self._began = time.perf_counter()
        try:
            set_seed(recipe.train.seed)  # llmrl's own draws name their seeds; libraries draw from the global generators
            self.learners = Learners(recipe, self.accelerator, self.algorithm.needs())
            self._start_rollouts(reward, problems)
            if resumed is not None:
                self._restore(self.checkpoints.restore(resumed))
            self._open_logs(problems)
        except BaseException:
            self.close()
            raise

    def _start_rollouts(self, reward: Any, problems: Sequence[Problem]) -> None:
        """The engine, the graders, and the source that makes samples with them."""
        recipe, options = self.recipe, self.recipe.rollout
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        on_gpu = self.accelerator.device.type != "cpu"
        self.engine = plugins.build("engine", recipe.engine, "engine").start(
            recipe.model.policy,
            dtype="bfloat16" if recipe.train.bf16 and on_gpu else recipe.model.dtype,
            seed=recipe.train.seed,
            max_model_len=max(options.max_length, weight_sync.PROBE + 1),
            stop_token_ids=self.chat.stop_token_ids(*self.learners.policy.stop_configs()),
        )
        self._closing.callback(self.engine.close)
        pool = GradingPool(options.reward_workers, options.reward_timeout_s)
        self._closing.callback(pool.close)
        self._trainer_state = pool.trainer_state  # for rewards that follow a schedule
        self._trainer_state.max_steps = recipe.train.max_steps
        self.reward = as_group_reward(reward, pool)
        self.audit = GoldReward(recipe.audit, pool, seed=recipe.train.seed, rank=(rank, ranks))
        folder = self.folder / "eval"
        self.evaluation = Evaluation(recipe, self.engine, self.chat, pool, folder, rank=(rank, ranks))
        self._player = RolloutWorker(
            engine=self.engine,
            chat=self.chat,
            env=plugins.build("env", recipe.env, "env"),
            reward=self.reward,
            options=options,
            seed=recipe.train.seed,
        )
        self.source = plugins.build("source", recipe.source, "source").start(
            self._player,
            problems,
            options,
            seed=recipe.train.seed,
            rank=(rank, ranks),
            gather=lambda groups: gather(groups, ranks),
        )
        self._closing.callback(self.source.close)

    def _open_logs(self, problems: Sequence[Problem]) -> None:
        """The run's files and trackers, from its first step on."""
        recipe = self.recipe
        self.logs.forget_from(self.first_step)
        self.logs.text("recipe.yaml", yaml.safe_dump(recipe.as_dict(), sort_keys=False, allow_unicode=True))
        self._manifest = manifest(recipe, problems, self.accelerator.num_processes, zero_stage(self.accelerator))
        self.logs.write("manifest.json", self._manifest | {"status": "running", "start": self.first_step})
        if recipe.train.report_to != "none":
            self.accelerator.init_trackers("llmrl")
            for tracker in self.accelerator.trackers:
                self._closing.callback(tracker.finish)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, _trace: Any) -> None:
        try:
            if error is not None:
                with suppress(LlmrlError):  # a full disk, say: the error that stopped the run is the one to tell
                    status = f"stopped: {type(error).__name__}: {error}"
                    self.logs.write("manifest.json", self._manifest | {"status": status})
        finally:
            self.close()

    def close(self) -> None:
        """Stop what the run started; safe to call twice."""
        self._closing.close()

    def start(self) -> None:
        """Give the engine the policy's weights and prove that it has them."""
        self._trainer_state.global_step = self.first_step
        with self.clock("sync"):
            self.send(version=self.first_step)
        if self.first_step == 0 and self.recipe.eval.on_start and self.recipe.eval.benchmarks:
            self._evaluate(0)
        self._seconds.clear()
        self._began = time.perf_counter()

    def send(self, version: int) -> None:
        """The policy into the engine, proved."""
        self.engine.wake()
        self._synced = weight_sync.send(self.learners.policy, self.engine, version, self.learners.policy.dtype)

    @contextmanager
    def clock(self, phase: str) -> Iterator[None]:
        """Seconds of a phase, logged as `time/<phase>`."""
        started = time.perf_counter()
        yield
        self._seconds[phase] = self._seconds.get(phase, 0.0) + time.perf_counter() - started

    def normalised(self, samples: list[Sample]) -> list[Sample]:
        """The rows of a step on the scale of all rewards so far, where `train.normalize_rewards` asks for it."""
        if not self.recipe.train.normalize_rewards:
            return samples
        rows, self._rewards = standardised(samples, self._rewards)
        return rows

    def updates(self, step: int) -> Sequence[Update]:
        """Who learns in a step; nobody before `train.warmup_rollouts` were played, and the algorithm's steps follow."""
        return self.algorithm.updates(step - self._collect_only_steps) if step >= self._collect_only_steps else ()

    def learning_rate(self, step: int, model: str) -> float:
        """Of a model in a step; each has its own peak, and all have one schedule."""
        return learning_rate(self.learners[model].options, step)

    def record_update(self, step: int, rows: Sequence[Sample], fit: OptimStep) -> None:
        """Keep count of an optimiser step.

        Raises:
            TrainingError: too many in a row were not finite.
        """
        self._fits.append(fit)
        self._nonfinite = 0 if fit.applied else self._nonfinite + 1
        if fit.applied:
            return
        path = self.logs.rows(f"nonfinite-step-{step}.jsonl", rows)
        if self._nonfinite >= self.recipe.train.max_nonfinite_updates:
            names = sorted({row.group for row in rows})
            raise TrainingError(
                f"step {step}: {self._nonfinite} updates in a row had a loss or gradient that is not finite and were "
                f"skipped; the rows of the last are in {path} ({len(rows)} rows of {', '.join(names[:4])}"
                f"{', ...' if len(names) > 4 else ''}). Lower train.learning_rate or train.max_grad_norm, or look at "
                "those rows' rewards and log-probabilities"
            )

    def finish_step(self, step: int, samples: Sequence[Sample]) -> None:
        """Log a step, and evaluate and save when it is time."""
        metrics = rollout_metrics(self.source.played) | fit_metrics(self._fits) | self._synced | self.source.metrics
        metrics |= latency_metrics(self.reward.latencies()) | step_metrics(samples, version=step)
        if self.recipe.train.normalize_rewards:
            metrics |= {"reward_norm/mean": self._rewards.mean, "reward_norm/std": self._rewards.deviation}
        if isinstance(self.algorithm, Measured):
            metrics |= self.algorithm.metrics(samples)
        tokens = sum(
            len(turn.prompt_ids) + len(turn.completion.token_ids)
            for group in self.source.played
            for one in group
            for turn in one.turns
        )
        now = time.perf_counter()
        self.learners.follow(step)
        if isinstance(self.algorithm, Adaptive) and step >= self._collect_only_steps:
            self.algorithm = self.algorithm.adapted(step - self._collect_only_steps, metrics)
        metrics |= {"num_tokens": float(tokens), "step_time": now - self._began}
        metrics["perf/tokens_per_sec"] = tokens / max(1e-9, now - self._began)
        self._fits = []
        done = self._trainer_state.global_step = step + 1
        if self.evaluation.due(done):
            with self.clock("eval"):
                metrics |= self._evaluate(done)
        with self.clock("audit") if self.audit.due(step) else nullcontext():
            metrics |= self.audit(step, self.source.played)
        self._seconds |= self._player.stopwatch.read()
        metrics |= {f"time/{phase}": seconds for phase, seconds in self._seconds.items()}
        self._seconds.clear()
        self.logs.rollouts(step, self.source.played, samples, self.audit.scores)
        self.logs.metrics(step, metrics)
        self.accelerator.log(metrics, step=step)
        if self._on_step is not None and self.accelerator.is_main_process:
            self._on_step(step, metrics, self.source.played)
        every = self.recipe.train.save_steps
        best = self._best is not None and self._best[1] == done
        if (every and done % every == 0) or done == self.recipe.train.max_steps or best or self.audit.stops:
            saved = self.checkpoints.save(done, self._state())
            if self.audit.stops:
                raise TrainingError(f"{self.audit.alarm}. It was saved in {saved}; with audit.stop=false it goes on")
        self._began = time.perf_counter()

    def finish(self) -> None:
        """Export the policy to `final/` and draw the curves."""
        export(self.learners.policy, self.chat.tokenizer, self.folder / "final")
        self.logs.curves()
        self.logs.write("manifest.json", self._manifest | {"status": "finished", "steps": self.recipe.train.max_steps})

    def _evaluate(self, done: int) -> dict[str, float]:
        """Evaluate on all processes. The best checkpoint is that of the first benchmark's best avg."""
        metrics = self.evaluation(done, self._on_sample)
        first = next((value for name, value in metrics.items() if "/avg@" in name), None)
        if first is not None and (self._best is None or first > self._best[0]):
            self._best = (first, done)
        return metrics

    def _state(self) -> dict[str, Any]:
        return {
            "processes": self.accelerator.num_processes,
            "source": self.source.state(),
            "audit": self.audit.state(),
            "algorithm": self._moved_options(),
            "rewards": asdict(self._rewards),
            "nonfinite": self._nonfinite,
            "best": self._best,
            "best_step": self._best[1] if self._best else None,
        }

    def _moved_options(self) -> dict[str, Any]:
        """Options of the algorithm that are no longer the recipe's: an `Adaptive` one has moved them."""
        began = plugins.build("algorithm", self.recipe.algorithm, "algorithm")
        now = {option.name: getattr(self.algorithm, option.name) for option in fields(began)}
        return {name: value for name, value in now.items() if value != getattr(began, name)}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.first_step = int(state["step"])
        self.source.restore(state["source"])
        if "audit" in state:  # not in checkpoints of before there was one
            self.audit.restore(state["audit"])
        self.algorithm = replace(self.algorithm, **state["algorithm"])
        self._rewards = Moments(**state.get("rewards", {}))  # none in older checkpoints, which never needed them
        self._nonfinite = int(state["nonfinite"])
        self._best = tuple(state["best"]) if state["best"] else None
