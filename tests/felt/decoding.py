"""The engine `hf`: what it samples from a tiny model."""

from __future__ import annotations

import asyncio
from typing import Any

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
            )
        ],
        "engine scripted": [
            Probe(use=scripted, base={"replies": ["1", "22"]}, values={"replies": [["3"]], "logprob": [-2.0]})
        ],
    }
