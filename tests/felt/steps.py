"""Options that decide what is learned: two steps of PPO with a critic and a reference, on rows that are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState

from llmrl import tiny
from llmrl.recipe import Recipe, parse
from llmrl.samples import Sample
from llmrl.train.learners import Learners
from llmrl.train.parallel import accelerator
from tests.felt.probe import Options, Probe

PPO: Options = {"name": "ppo", "kl_coef": 0.1, "minibatches": 1}
LEARNS: Options = {"max_steps": 2, "learning_rate": 1e-2, "report_to": "none"}


@lru_cache
def model(seed: int = 0) -> str:
    """A folder with a model as small as models are."""
    made = tiny.make(Path(mkdtemp(prefix="felt-")), vocab="arithmetic", hidden=32, layers=1, seed=seed)
    return str(made)


def recipe(**sections: Any) -> Recipe:
    """A recipe of two steps; sections are added to its own."""
    base: dict[str, Any] = {
        "model": {"policy": model()},
        "data": {"name": "arithmetic", "high": 3},
        "reward": {"name": "length"},
        "algorithm": PPO,
        "engine": {"name": "scripted"},
        "critic": {"learning_rate": 1e-2},
        "train": LEARNS,
    }
    return parse({**base, **sections})


def rows() -> list[Sample]:
    """Two groups of two answers; half of them earn something."""
    draw = np.random.default_rng(0)
    made = []
    for number, length in enumerate((9, 6, 7, 12)):
        ids = draw.integers(8, 90, length)
        columns = {
            "token_ids": ids,
            "turn_ids": [-1, -1, -1] + [0] * (length - 3),
            "sampled_logprobs": [0.0] * 3 + [-4.5] * (length - 3),
        }
        facts = {"group": f"g{number // 2}", "episode": number % 2, "reward": float(number % 2)}
        made.append(Sample(turn_rewards=[0.0], columns=columns, dtype=np.float32, **facts))  # type: ignore[arg-type]
    return made


def learners(made: Recipe) -> Learners:
    """The models of a recipe, from the same random numbers each time."""
    AcceleratorState._reset_state(reset_partial_state=True)  # whether it computes in bfloat16 is of the process
    torch.manual_seed(0)
    return Learners(made, accelerator(made.train), made.algorithm.needs())


def learned(made: Recipe) -> Iterator[Any]:
    """Yield what the models say of the rows, what each update reports, and the weights behind them."""
    models = learners(made)
    for step in range(made.train.max_steps if made.train.max_steps < 3 else 2):
        told = models.annotate(rows(), made.algorithm.needs())
        yield [row.columns for row in told]
        credited = made.algorithm.credit(told)
        for update in made.algorithm.updates(step):
            rate = models.learning_rate(step, update.model)
            for _, optim_step in models.fit(credited, update, seed=step, rate=rate):
                yield optim_step
        models.follow(step)
    yield weights(models)
    yield [getattr(part, "is_gradient_checkpointing", None) for part in models.policy.net.modules()]


def weights(models: Learners) -> Mapping[str, Any]:
    """Sums of each weight of each model that learns, with the sign of its parts."""
    return {
        f"{name}/{weight}": (value.double().sum(), value.double().abs().sum(), str(value.dtype), list(value.shape))
        for name in ("policy", "critic")
        if name in models._named
        for weight, value in models[name].net.state_dict().items()
    }


def probes() -> dict[str, list[Probe]]:
    lora = {"policy": model(), "use_peft": True, "lora_r": 2}
    packed: Options = {"packing": [False], "tokens_per_device": [16], "report_to": [], "output_dir": []}
    linear: Options = {"max_steps": [4], "warmup_steps": [3], "report_to": []}
    return {
        "TrainOptions": [
            Probe(use=lambda train: list(learned(recipe(train=vars(train)))), base=base, values=values)
            for base, values in (
                (LEARNS, packed),
                ({**LEARNS, "lr_scheduler_type": "linear"}, linear),
            )
        ],
        "CriticOptions": [
            Probe(
                use=lambda critic: list(learned(recipe(critic=vars(critic)))),
                base={"learning_rate": 1e-2},
                values={"model": [model(1)], "head": [{"name": "bernoulli"}]},
            )
        ],
        "ModelOptions": [
            Probe(
                use=lambda given: list(learned(recipe(model=vars(given)))),
                base=base,
                values={"policy": [model(1)], "attn_implementation": ["eager"], "lora_target_modules": [["q_proj"]]},
            )
            for base in (
                {"policy": model()},
                lora,
                {"policy": model(), "sync_ref_model": True, "ref_model_sync_steps": 1},
            )
        ],
    }
