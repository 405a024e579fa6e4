"""The engine `hf`: what it samples from a tiny model."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModel

from llmrl.critics.folder import write_heads
from llmrl.critics.layers import head_of, layer
from llmrl.types import Sampling
from tests.felt.probe import Probe
from tests.felt.steps import model

SAMPLINGS = [Sampling(max_tokens=6, seed=seed, top_p=0.2, temperature=2.0) for seed in range(3)]


def use(factory: Any) -> Any:
    """Completions with their log-probabilities, the tokens kept for each, and the batches they came in."""

    async def asked() -> Any:
        engine = factory.start(model(), dtype="float32", seed=0, max_model_len=32, stop_token_ids=[1])
        batches: list[int] = []
        sample = engine._network.forward

        def counted(*given: Any, **named: Any) -> Any:
            batches.append(named["input_ids"].shape[0])
            return sample(*given, **named)

        engine._network.forward = counted
        made = await asyncio.gather(*(engine.generate([9, 10, 11], sampling) for sampling in SAMPLINGS))
        kernel = engine._network.config._attn_implementation
        engine.close()
        return made, sorted(batches), kernel

    return asyncio.run(asked())


def loaded(factory: Any) -> Any:
    """The tokens kept for completions after two loads of weights, the second of an odd version."""

    async def asked() -> Any:
        engine = factory.start(model(), dtype="float32", seed=0, max_model_len=32, stop_token_ids=[1])
        for version, seed in ((2, 1), (3, 2)):
            engine.load(load_file(Path(model(seed)) / "model.safetensors").items(), version)
        made = [await engine.generate([9, 10, 11], sampling) for sampling in SAMPLINGS]
        engine.close()
        return made

    return asyncio.run(asked())


@lru_cache
def critic() -> str:
    """A critic as a run leaves it in `final/critic`: two Q of the vocabulary, at random."""
    trunk, folder = AutoModel.from_pretrained(model()), mkdtemp(prefix="felt-")
    specs = {name: {"name": "vocabulary", "width": 1} for name in ("q1", "q2")}
    torch.manual_seed(3)
    layers = {name: layer(head_of(spec), trunk, zero_init=False) for name, spec in specs.items()}
    trunk.save_pretrained(folder)
    write_heads(Path(folder), specs, torch.nn.ModuleDict(layers).state_dict())
    return folder


def scripted(factory: Any) -> Any:
    """Two completions of the scripted engine, and if it sleeps."""

    async def asked() -> Any:
        engine = factory.start(model(), dtype="float32", seed=0, max_model_len=32, stop_token_ids=[1])
        made = [await engine.generate([9, 10], sampling) for sampling in SAMPLINGS[:2]]
        engine.sleep()
        return made, engine.asleep

    return asyncio.run(asked())


def probes() -> dict[str, list[Probe]]:
    return {
        "engine hf": [
            Probe(
                use=use,
                base={"return_kept_ids": True},
                values={
                    "max_num_seqs": [1],
                    "attn_implementation": ["eager"],
                    "min_tokens_to_keep": [90],
                    "return_kept_ids": [False],
                },
                only=True,
            ),
            Probe(use=use, values={"critic": [critic()]}, only=True),
            Probe(use=use, base={"critic": critic()}, values={"critic_beta": [1.0], "critic_top_k": [3]}, only=True),
            Probe(
                use=loaded,
                base={"return_kept_ids": True, "mask_update_steps": 1},
                values={"mask_update_steps": [2]},
                only=True,
            ),
        ],
        "engine scripted": [
            Probe(use=scripted, base={"replies": ["1", "22"]}, values={"replies": [["3"]], "logprob": [-2.0]})
        ],
    }
