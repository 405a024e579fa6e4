"""Command `llmrl plan`: what a recipe will take, before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from llmrl.errors import CheckpointError
from llmrl.planning import advice, lengths, memory, speed
from llmrl.planning.batches import BatchArithmetic, batches
from llmrl.planning.lengths import Lengths
from llmrl.planning.memory import STAGES, ModelFacts
from llmrl.planning.speed import StepTime
from llmrl.planning.trace import MicroBatchShape
from llmrl.recipe import Recipe
from llmrl.train.dry_run import require_possible

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """Figures of a run before it begins; memory in bytes."""

    facts: ModelFacts
    shape: MicroBatchShape
    lengths: Lengths | None  # None where the data are not on this machine
    batch: BatchArithmetic
    here: Mapping[str, int]  # by part, in this machine's process, beside what Python and libraries take
    peak: int
    stages: Mapping[int, Mapping[str, int]]  # by stage of ZeRO and by part, on each GPU; none without GPUs
    gpus: int
    gpu_memory: float
    time: StepTime
    warnings: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON has it."""
        return {
            **asdict(self),
            "batch": {**asdict(self.batch), "optimiser_steps": self.batch.optimiser_steps},
            "time": {**asdict(self.time), "seconds": self.time.seconds},
            "fits": {str(stage): memory.total(parts) <= self.gpu_memory * GIB for stage, parts in self.stages.items()},
        }


def plan(
    recipe: Recipe, *, gpus: int = 0, gpu_memory: float = 80.0, tflops: float = 989.0, bandwidth: float = 3350.0
) -> RunPlan:
    """RunPlan a run: of this machine, or of several GPUs.

    Args:
        gpus: that train; 0: this machine's process alone.
        gpu_memory: of each, in GiB.
        tflops, bandwidth: of each as its maker states them, in TFLOP/s of bfloat16 and in GB/s.
    Raises:
        LlmrlError: as `--dry-run`; also where the model's configuration is not on this machine.
    """
    relaxed = _accepting_long_prompts(recipe)
    possible = require_possible(relaxed)
    chat = possible.chat
    if chat is None:
        raise CheckpointError(
            f"model.policy: {recipe.model.policy}: a plan needs its config.json and tokenizer on this machine; "
            "expected a folder"
        )
    measured = None
    if recipe.source.plays:
        problems = list(recipe.data.problems()) if recipe.data is not None else []
        measured = lengths.of_problems(recipe, chat, problems)
    else:
        measured = lengths.of_rows(recipe, chat)
    prompt, completion = _episode(recipe, measured)
    length = prompt + completion
    shape = memory.shape_of(recipe, length, completion, on_gpu=gpus > 0)
    batch = batches(recipe, shape.rows, max(1, gpus))
    facts = memory.facts_of(recipe, possible.config, shape, batch.gradient_accumulation_steps)
    here = memory.here(recipe, facts)
    peak = memory.total(here)
    if here["engine"] and recipe.source.plays:
        resting = here["gradients"] + here["activations"] + here["logits"]
        peak += max(0, memory.generating(recipe, facts, length) - resting)
    stages = {stage: memory.by_rank(recipe, facts, gpus, gpu_memory, length, stage) for stage in STAGES if gpus}
    of_device = speed.stated(tflops, bandwidth) if gpus else speed.measured()
    known = advice.PlannedRun(recipe=recipe, lengths=measured, facts=facts, batch=batch)
    warned = advice.warnings(known)
    if stages and not any(memory.total(parts) <= gpu_memory * GIB for parts in stages.values()):
        warned.append(
            f"no stage of ZeRO fits in {gpu_memory:g} GiB: lower train.tokens_per_device, set "
            "train.gradient_checkpointing=true or model.use_peft=true, or take more GPUs"
        )
    return RunPlan(
        facts=facts,
        shape=shape,
        lengths=measured,
        batch=batch,
        here=here,
        peak=peak,
        stages=stages,
        gpus=gpus,
        gpu_memory=gpu_memory,
        time=speed.step_time(recipe, facts, batch, prompt, completion, of_device, max(1, gpus)),
        warnings=warned,
    )


def _accepting_long_prompts(recipe: Recipe) -> Recipe:
    """The recipe with prompts that are too long left out: a plan counts them."""
    return replace(recipe, rollout=replace(recipe.rollout, drop_long_prompts=True))


def _episode(recipe: Recipe, measured: Lengths) -> tuple[int, int]:
    """Tokens of the longest episode's prompt and completions, as far as limits and data tell."""
    rollout = recipe.rollout
    if not recipe.source.plays:
        return max(1, measured.row_max - measured.action_max), measured.action_max
    prompt = min(max(1, measured.prompt_max), rollout.max_prompt_length)
    return prompt, rollout.max_length - rollout.max_prompt_length
