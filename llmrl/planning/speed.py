"""Time of a step: by two short measurements on this machine, or by a stated formula for GPUs."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from llmrl.planning.batches import BatchArithmetic
from llmrl.planning.memory import BYTES, ModelFacts, seats
from llmrl.recipe import Recipe

EFFICIENCY = 0.4
"""Share of the speed of plain products that training reaches."""
MEASURED_S = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Speed of a device."""

    flops: float  # of plain products, a second
    bandwidth: float  # bytes that it reads, a second
    origin: str  # measured, or stated


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Seconds of a step's parts, and its tokens."""

    generate: float
    train: float
    tokens: int  # prompts and completions, at most
    origin: str

    @property
    def seconds(self) -> float:
        """Seconds of the step; graders, environments and evaluations come on top."""
        return self.generate + self.train


def measured() -> Speed:
    """Products and copies of this machine, timed for a fraction of a second each."""
    left, right = torch.ones(512, 1024), torch.ones(1024, 1024)
    products = _times(lambda: left @ right)
    held = torch.ones(2**24)
    copies = _times(lambda: held.clone())
    flops, bandwidth = products * 2 * 512 * 1024 * 1024, copies * 2 * held.nbytes
    return Speed(flops=flops, bandwidth=bandwidth, origin=f"measured: {flops / 1e9:.0f} GFLOP/s in float32")


def stated(tflops: float, bandwidth: float) -> Speed:
    """A GPU's speed as its maker states it, in TFLOP/s and GB/s."""
    return Speed(
        flops=tflops * 1e12, bandwidth=bandwidth * 1e9, origin=f"stated: {tflops:g} TFLOP/s, {bandwidth:g} GB/s"
    )


def step_time(
    recipe: Recipe, facts: ModelFacts, batch: BatchArithmetic, prompt: float, completion: float, speed: Speed, gpus: int
) -> StepTime:
    """Estimate a step.

    A token costs 6 operations a weight in each pass that trains and 2 in each that scores; a token that is generated
    costs 2, and each of their steps reads all weights once for all sequences that run together.

    Args:
        prompt, completion: tokens of an episode, over all its turns.
    """
    episodes, needs = batch.generation_batch_size, recipe.algorithm.needs()
    length = prompt + completion
    scored = int("old_logprobs" in needs) + int(facts.reference or ("ref_logprobs" in needs))
    passes = 6 * batch.num_iterations * (1 + facts.critics) + 2 * (scored + facts.critics)
    if recipe.train.gradient_checkpointing:
        passes += 2 * batch.num_iterations * (1 + facts.critics)
    train = episodes * length * passes * facts.parameters / (speed.flops * EFFICIENCY * gpus)
    generate = 0.0
    if recipe.source.plays:
        each = -(-episodes // gpus)
        together = seats(recipe, each)
        rounds = -(-each // together)
        reading = completion * facts.parameters * BYTES[recipe.compute_dtype] / speed.bandwidth
        computing = (completion + prompt) * together * 2 * facts.parameters / (speed.flops * EFFICIENCY)
        generate = rounds * max(reading, computing)
    return StepTime(generate=generate, train=train, tokens=int(episodes * length), origin=speed.origin)


def _times(work: object) -> float:
    """Count how often a second something can be done."""
    assert callable(work)
    work()
    began, done = time.perf_counter(), 0
    while (taken := time.perf_counter() - began) < MEASURED_S:
        work()
        done += 1
    return done / taken
