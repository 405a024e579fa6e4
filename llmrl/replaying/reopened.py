"""A run as it was before a step, without an engine: its models, its source over the record, and what learns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from llmrl.chat import Chat, load_tokenizer
from llmrl.errors import CheckpointError
from llmrl.protocols import Source
from llmrl.recipe import Recipe
from llmrl.replaying.record import Record, RecordedWorker
from llmrl.rollout.context import SourceContext
from llmrl.run_folder.inputs import MANIFEST, changes
from llmrl.run_folder.manifest import manifest
from llmrl.run_folder.writer import Logs
from llmrl.samples import Sample
from llmrl.train import random_states
from llmrl.train.checkpoints import Checkpoints
from llmrl.train.guards import UpdateGuard
from llmrl.train.learners import Learners
from llmrl.train.loop import learn
from llmrl.train.normaliser import RewardNormaliser
from llmrl.train.parallel import accelerator, gather, zero_stage
from llmrl.train.parts import Clock, FinishedStep, Stateful, metric_prefix
from llmrl.train.policies import PolicyStep, TrainedPolicy, trained_policies
from llmrl.train.prompts import problems_to_play
from llmrl.train.stopping import Stopping
from llmrl.train.stored_columns import fingerprints
from llmrl.train.weight_sync import WeightSync


@dataclass(kw_only=True)
class Reopened:
    """The parts of a run that learn, before a step of its record; nothing in its folder changes."""

    record: Record
    recipe: Recipe
    accelerator: Any
    chat: Chat
    policies: Sequence[TrainedPolicy]
    source: Source
    normaliser: RewardNormaliser
    guard: UpdateGuard
    clock: Clock = field(default_factory=Clock)
    notes: list[str] = field(default_factory=list)  # reasons for which the bits may be others

    def samples(self, step: int) -> list[Sample]:
        """The samples of the step, as the run had them."""
        self.normaliser.mark()  # for samples of the same step with other rewards
        return self.normaliser(self.source.next(step))

    def learn(self, samples: Sequence[Sample], step: int) -> list[PolicyStep]:
        """Let each policy learn from its samples."""
        return [learn(self, policy, policy.own(samples), step) for policy in self.policies]

    def follow(self, step: int) -> None:
        """Let references move and algorithms adapt behind a step, to the metrics that it had."""
        finished = FinishedStep(step=step, samples=(), groups=(), metrics=dict(self.record.metrics[step]))
        for policy in self.policies:
            policy.learners.after_step(finished)
        for policy in self.policies:
            policy.adaptation.after_step(finished)

    def begin(self) -> list[Sample]:
        """Take the steps before the one that was asked for, and return its samples."""
        for step in self.record.steps[:-1]:
            self.learn(self.samples(step), step)
            self.follow(step)
        return self.samples(self.record.step)

    def close(self) -> None:
        """Stop what the source has running."""
        self.source.close()


def reopen(record: Record) -> Reopened:
    """Load a run's models and parts as they were where its record begins.

    Raises:
        DataError: the record is not whole, or the data are not here.
        CheckpointError: the data or a model's folder are others than the run's, or a checkpoint is damaged.
    """
    record.require_whole()
    recipe = record.recipe
    known = _manifest(record.folder)
    if isinstance(threads := known.get("threads"), int):
        torch.set_num_threads(threads)  # products are summed in as many parts
    processes = accelerator(replace(recipe.train, report_to="none"))
    random_states.seed(recipe.train.seed)
    learners = Learners(recipe, processes, recipe.algorithm.needs() - recipe.source.fills())
    model = recipe.model
    tokenizer = load_tokenizer(model.policy, model.model_revision, model.trust_remote_code)
    chat = Chat(tokenizer, model.system_prompt, model.chat_template_kwargs)
    sync = WeightSync(learners.policy, None, recipe.compute_dtype)
    logs = Logs(record.folder, writes=False, share=1.0)
    opened = Reopened(
        record=record,
        recipe=recipe,
        accelerator=processes,
        chat=chat,
        policies=trained_policies(recipe, processes, learners, sync, {}, Stopping(), lambda _recipe, _learners: None),
        source=_source(record, chat, processes),
        normaliser=RewardNormaliser(recipe.train.normalize_rewards),
        guard=UpdateGuard(logs, recipe.train.max_nonfinite_updates),
    )
    _require_same(opened)
    opened.notes += _differences(known, processes)
    if record.begin is not None:
        _restore(opened, record.begin)
    return opened


def compare_weights(opened: Reopened, checkpoint: Path) -> dict[str, float]:
    """The largest difference of each weight from those of a checkpoint, all models of the run together, by name.

    Raises:
        CheckpointError: its weights are sharded.
    """
    found: dict[str, float] = {}
    for number, module in enumerate(opened.accelerator._models):
        file = checkpoint / ("model.safetensors" if number == 0 else f"model_{number}.safetensors")
        if not file.exists():
            raise CheckpointError(f"{checkpoint}: no {file.name}: its weights are sharded and cannot be compared here")
        own = opened.accelerator.unwrap_model(module).state_dict()
        for name, weight in load_file(file).items():
            found[f"{number}/{name}"] = _difference(own[name], weight)
    return found


def _difference(left: Tensor, right: Tensor) -> float:
    """The largest absolute difference; 0.0 only for equal bits, NaN included."""
    left = left.detach().cpu()
    if torch.equal(left.nan_to_num(), right.nan_to_num()) and torch.equal(left.isnan(), right.isnan()):
        return 0.0
    return float((left.double() - right.double()).abs().max())


def _source(record: Record, chat: Chat, processes: Any) -> Source:
    """The run's source, which draws what it drew; what it played comes from the record."""
    recipe = record.recipe
    worker = None
    if recipe.source.plays:
        nothing = cast(Any, None)
        worker = RecordedWorker(
            engine=nothing,
            chat=chat,
            env=recipe.env,
            reward=nothing,
            options=recipe.rollout,
            seed=recipe.train.seed,
            recorded=record.played,
        )
    source: Source = recipe.source.start(
        SourceContext(
            chat=chat,
            options=recipe.rollout,
            seed=recipe.train.seed,
            rank=(processes.process_index, processes.num_processes),
            gather=lambda groups: gather(groups, processes.num_processes),
            folder=record.folder,
            problems=problems_to_play(recipe, chat, main=False),
            worker=worker,
            fingerprints=fingerprints(recipe) if recipe.source.fills() else {},
        )
    )
    return source


def _restore(opened: Reopened, checkpoint: Path) -> None:
    """Put models and parts back as a checkpoint has them."""
    recipe = opened.recipe
    kept = Checkpoints(opened.record.folder / "checkpoints", opened.accelerator, recipe.train.save_total_limit)
    states = kept.load_models(checkpoint)
    parts: dict[str, Stateful] = {
        "source": opened.source,
        **{f"{metric_prefix(policy.agent)}algorithm": policy.adaptation for policy in opened.policies},
        "rewards": opened.normaliser,
        "updates": opened.guard,
    }
    for name, part in parts.items():
        part.restore(states[name])


def _require_same(opened: Reopened) -> None:
    """Refuse other data or models than the run's.

    Raises:
        CheckpointError: names what has changed.
    """
    processes, recipe, folder = opened.accelerator, opened.recipe, opened.record.folder
    now = manifest(recipe, opened.source.data, processes.num_processes, zero_stage(processes))
    files, changed = changes(folder, now)
    if changed:
        raise CheckpointError(
            f"{folder}: step {opened.record.step} cannot be repeated with other inputs than the run had; changed "
            f"since: {', '.join(changed)}. Bring them back"
        )
    opened.notes += [f"{name} has changed since the run" for name in files]


def _manifest(folder: Path) -> Mapping[str, Any]:
    """The manifest of a run; nothing where it is lost."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _differences(known: Mapping[str, Any], processes: Any) -> list[str]:
    """Tell in what this machine differs from that of the run, as far as its sums depend on it."""
    notes = []
    if (there := known.get("processes", processes.num_processes)) != processes.num_processes:
        notes.append(
            f"the run had {there} processes, this has {processes.num_processes}: sums are in another order; launch as "
            "the run was for the same bits"
        )
    packages = known.get("packages")
    torch_then = packages.get("torch") if isinstance(packages, dict) else None
    if torch_then not in (None, torch.__version__):
        notes.append(f"the run had torch {torch_then}, this is {torch.__version__}")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if known.get("accelerators", devices) != devices:
        notes.append(f"the run had {known['accelerators'] or 'no accelerator'}, here {devices or 'is none'}")
    return notes
