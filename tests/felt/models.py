"""Reward models: the rows that they learn from, tiny ones trained for two steps, and rewards that ask them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file

from llmrl.chat import Chat, load_tokenizer
from llmrl.plugins import construct
from llmrl.reward_models import scorer
from llmrl.reward_models.encoding import Encoder
from llmrl.reward_models.recipe import RewardRecipe
from llmrl.reward_models.training_rows import answers_of
from llmrl.train.reward_model import run
from llmrl.types import Problem
from tests.felt.data import written
from tests.felt.probe import Options, Probe, Values
from tests.felt.rewards import answers, pool, problem, scoring
from tests.felt.steps import model
from tests.seeing import painted, write_clip

PAIRS = [
    {
        "prompt": f"say {n // 2}",
        "chosen": f"yes {n}",
        "rejected": "no " * (1 + n % 3),
        "margin": n / 4,
        "principles": ["Be brief."],
        "tone": "dry",
    }
    for n in range(9)
]
LABELLED = [{"prompt": f"say {n // 4}", "response": "yes" * (1 + n % 3), "label": n % 2} for n in range(12)]
STEPS = [{"prompt": f"say {n}", "completions": ["a", "b" * (n % 2 + 1)], "labels": [1, n % 2]} for n in range(6)]
RATED = [{"text": "So it is 4.", "rating": 0}]
PRM = {
    "question": {"problem": "2+2?"},
    "label": {"finish_reason": "solution", "steps": [{"completions": RATED, "chosen_completion": 0}] * 2},
}
SENTENCES = "{{ tone | default('') }} {{ principles | default('') }} {{ prompt }} {{ response }}"
FIT: Options = {"max_steps": 2, "learning_rate": 1e-2, "per_device_train_batch_size": 2, "logging_steps": 1}
WORDS: Mapping[str, Any] = {"outcome": PAIRS, "verifier": LABELLED, "token": LABELLED, "process": STEPS}
SHARES = answers(problem(question="say 2", tone="dry"), "yes yes", "no", "yes\nno no\nno", "yes " * 9)


@lru_cache
def rows(kind: str) -> str:
    """A file of rows that a kind learns from."""
    return written(*WORDS[kind])


def recipe(kind: str, **sections: Any) -> RewardRecipe:
    """A recipe of two steps; sections are added to its own."""
    made: dict[str, Any] = {"kind": kind, "model": {"model_name_or_path": model()}, "data": {"train": rows(kind)}}
    made |= {"train": FIT}
    built: RewardRecipe = construct(RewardRecipe, {**made, **sections}, "felt")
    return built


def trained(made: RewardRecipe) -> Any:
    """Say what a training tells and writes: each weight's sum, the card, names of files, and how its model was made."""
    kept: list[Any] = []
    root, before, said, make = Path(mkdtemp(prefix="felt-")), Path.cwd(), list[str](), run._trainer

    def noted(*given: Any) -> Any:
        kept.append(make(*given))
        return kept[-1]

    os.chdir(root)
    try:
        with patch.object(run, "_trainer", noted):
            folder = run.train(made, "felt", said.append)
        card = json.loads((folder / "reward_model.json").read_text())
        files = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    finally:
        os.chdir(before)
    network = kept[0].model
    how = [network.is_gradient_checkpointing, network.config._attn_implementation]
    return said, {**card, "weights_sha256": None}, _sums(root / folder), files, how


def _sums(folder: Path) -> Any:
    weights = load_file(folder / "model.safetensors")
    return {name: (value.double().sum(), str(value.dtype)) for name, value in weights.items()}


def training(kind: str, section: str, **beside: Any) -> Callable[[Any], Any]:
    """A use: a training whose section has these options."""
    return lambda options: trained(recipe(kind, **{**beside, section: vars(options)}))


def probes() -> dict[str, list[Probe]]:
    lora: Options = {"model_name_or_path": model(), "use_peft": True, "lora_r": 2}
    backbone: Values = {
        "model_name_or_path": [model(1)],
        "dtype": ["bfloat16"],
        "attn_implementation": ["eager"],
        "use_peft": [True],
    }
    adapters: Values = {
        "lora_r": [3],
        "lora_alpha": [8],
        "lora_dropout": [0.5],
        "lora_target_modules": [["q_proj"]],
    }
    answered: Options = {"positions": "all_tokens"}
    return {
        "BackboneOptions": [
            Probe(
                use=training("verifier", "model"),
                base={"model_name_or_path": model()},
                values=backbone,
                only=True,
            ),
            Probe(use=training("outcome", "model"), base=lora, values=adapters, only=True),
        ],
        "DataOptions": _rows(),
        "InputOptions": [
            Probe(
                use=_encoded,
                values={"template": ["{{ prompt }}: {{ response }}"], "separator": [";"], "max_length": [12]},
            )
        ],
        "LossOptions": [
            Probe(
                use=training("outcome", "loss"),
                values={"margin": [True], "center_rewards_coefficient": [0.5], "weigh": ["problem"]},
                only=True,
            ),
            Probe(
                use=training("verifier", "loss"),
                base=answered,
                values={"positions": ["last_token"], "average": ["sequence"]},
                only=True,
            ),
        ],
        "FitOptions": _fits(),
    } | _asked()


def _rows() -> list[Probe]:
    def read(kind: str) -> Callable[[Any], Any]:
        return lambda data: run.rows_of(recipe(kind, data=vars(data)))

    other = written(*PAIRS[:4])
    drawn: Options = {
        "seed": [1, 2, 3],
        "test_share": [0.8],
        "limit": [5],
        "test": [other],
        "train": [other],
        "columns": [],
    }
    prm = written(*[{**PRM, "question": {"problem": f"{n}?"}} for n in range(4)])
    return [
        Probe(use=read("outcome"), base={"train": rows("outcome"), "test_share": 0.4}, values=drawn),
        Probe(use=read("verifier"), base={"train": rows("verifier")}, values={"balance": [1]}, only=True),
        Probe(
            use=read("process"),
            base={"train": prm, "columns": "prm800k"},
            values={"neutral_as": ["ignore", "negative"], "columns": ["stepwise"]},
            only=True,
            refusals=True,
        ),
    ]


def _encoded(options: Any) -> Any:
    """Tokens of rows of steps, and where the steps end."""
    made = recipe("process", input=vars(options))
    encoder = Encoder(Chat(load_tokenizer(model())), made.input.template, made.input.separator, made.input.max_length)
    return [encoder(answer) for row in run.rows_of(made)[0] for answer in answers_of(row)]


def _fits() -> list[Probe]:
    changed: Options = {
        "max_steps": [1],
        "learning_rate": [2e-2],
        "lr_scheduler_type": ["constant"],
        "warmup_steps": [1],
        "weight_decay": [0.5],
        "max_grad_norm": [0.01],
        "per_device_train_batch_size": [3],
        "gradient_accumulation_steps": [2],
        "bf16": [True],
        "gradient_checkpointing": [True],
        "logging_steps": [2],
        "seed": [1],
        "output_dir": ["elsewhere"],
        "run_name": ["mine"],
        "calibration_rows": [3],
    }
    passes: Options = {**FIT, "max_steps": None, "num_train_epochs": 0.25}
    return [
        Probe(use=training("verifier", "train"), base=FIT, values=changed, only=True),
        Probe(use=training("verifier", "train"), base=passes, values={"num_train_epochs": [0.5]}, only=True),
    ]


@lru_cache
def folder(kind: str, **sections: Any) -> str:
    """A trained model of a kind."""
    place = mkdtemp(prefix=f"felt-{kind}-")
    made = recipe(
        kind, input={"max_length": 900, "template": SENTENCES}, train={**FIT, **sections, "output_dir": place}
    )
    return str(run.train(made, "model", lambda line: None))


def asking(group: Any = SHARES) -> Callable[[Any], Any]:
    """A use: scores by the model, and how many answers it read at once."""

    def use(reward: Any) -> Any:
        scorer.scorer.cache_clear()
        sizes: list[int] = []
        forward = torch.nn.Embedding.forward

        def counted(self: Any, ids: Any) -> Any:
            sizes.append(ids.numel())
            return forward(self, ids)

        with patch.object(torch.nn.Embedding, "forward", counted):
            scores = asyncio.run(reward.as_group_reward(pool()).score(group))
        return [(one.value, one.verdict, dict(one.parts), one.steps, one.step_ends) for one in scores], sizes

    return use


def _asked() -> dict[str, list[Probe]]:
    common: Options = {"variables": [{"tone": "wet"}], "device": [], "tokens_per_batch": [20]}
    others = {kind: [folder(kind, seed=1)] for kind in ("outcome", "verifier", "token", "process")}

    def of(kind: str, **values: Any) -> Probe:
        given = {"path": others[kind], **common, **values}
        return Probe(use=asking(), base={"path": folder(kind)}, values=given)

    return {
        "reward reward_model": [of("outcome")],
        "reward token_model": [of("token")],
        "reward process_model": [of("process", cut_at=[" "], least_words=[2])],
        "reward salmon": _by_principles(others["outcome"], common),
        "reward success_model": [
            Probe(
                use=asking(),
                base={"path": model(), "yes": "Y", "no": "N"},
                values={"path": [model(1)], "threshold": [0.01, 0.99], "max_length": [9], "yes": ["Z"], "no": ["M"]},
            )
        ],
        "reward vlm_rm": _by_likeness(),
        "reward value_rank": [
            Probe(
                use=asking(),
                base={"path": dueling()},
                values={"path": [dueling(1)], "tokens_per_batch": [20], "gamma": [0.5], "alpha": [0.5]},
            )
        ],
    }


def _by_likeness() -> list[Probe]:
    clips = [str(write_clip(Path(mkdtemp(prefix="felt-clip-")), seed)) for seed in range(2)]
    (picture,) = painted(Path(mkdtemp(prefix="felt-")), "red")
    seen = [{"role": "user", "content": "", "images": [picture]}]
    wanted = Problem(id="p", messages=seen, info={"goal": "a red wall", "other": "a cat"})
    use = scoring(answers(wanted, "it is red"))
    base: Options = {"path": clips[0], "goal": "a red wall", "baseline": "a wall", "alpha": 0.5}
    values: Options = {"path": [clips[1]], "goal": ["a cat"], "baseline": ["a cat"], "alpha": [0.0, 1.0]}
    named: Options = {"path": clips[0], "goal_column": "goal"}
    return [Probe(use=use, base=base, values=values), Probe(use=use, base=named, values={"goal_column": ["other"]})]


def _by_principles(others: list[str], common: Options) -> list[Probe]:
    own = written(*({"name": f"n{n}", "text": f"Be {n}.", "opposite": f"Be not {n}.", "weight": 1.0} for n in range(5)))
    base: Options = {"path": folder("outcome"), "principles": own, "language_bonus": 0.5}
    changed: Options = {
        **common,
        "path": others,
        "principles": [None],
        "k": [1],
        "negate": [0.9],
        "length": [5.0],
        "length_scale": [2.0],
        "no_stop": [-1.0],
        "seed": [1, 2, 3],
        "length_reasoning": [],
        "language_bonus": [],
    }
    cut = answers(problem(question="say 2"), "yes", finish="length")
    foreign = answers(
        problem(question="Was ist das, und warum ist es nicht so?", reasoning=True),
        "Das ist ein Haus, und es ist nicht so.",
        "It is a house and it is not so.",
    )
    return [
        Probe(use=asking([*SHARES, *cut]), base=base, values=changed),
        Probe(
            use=asking(foreign),
            base=base,
            values={"language_bonus": [0.1], "length_reasoning": [0.7]},
            only=True,
        ),
    ]


@lru_cache
def dueling(seed: int = 0) -> str:
    """A policy with a value in `critic/`, as a run of B-Coder leaves them."""
    from transformers import AutoModel

    from llmrl import tiny
    from llmrl.critics.folder import write_heads
    from llmrl.critics.layers import head_of, layer

    place = tiny.make(mkdtemp(prefix="felt-"), hidden=32, layers=1, seed=seed)
    trunk = AutoModel.from_pretrained(place)
    torch.manual_seed(seed)
    head = layer(head_of({"name": "scalar"}), trunk, zero_init=False)
    trunk.save_pretrained(place / "critic")
    write_heads(place / "critic", {"v": {"name": "scalar"}}, torch.nn.ModuleDict({"v": head}).state_dict())
    return str(place)
