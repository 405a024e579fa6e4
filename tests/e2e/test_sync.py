"""The engine holds the trainer's weights, or the run stops: four faults, each caught at the next load."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from llmrl.aio import wait
from llmrl.errors import SyncError
from llmrl.recipe import Recipe, parse
from llmrl.train import weight_sync
from llmrl.train.learner import Learner
from llmrl.train.learners import Learners
from llmrl.types import Sampling
from tests.builders import sample
from tests.own_settings import require_own_settings

pytestmark = pytest.mark.filterwarnings("default")  # vLLM and DeepSpeed warn of their own affairs

Pairs = Iterable[tuple[str, Tensor]]


def recipe(model: Path, **changes: Any) -> Recipe:
    plain: dict[str, Any] = {
        "model": {"policy": str(model)} | changes,
        "data": {"name": "arithmetic"},
        "reward": {"name": "numeric"},
        "algorithm": {"name": "grpo"},
        "train": {"report_to": "none"},
    }
    return parse(plain)


def learn(model: Learner) -> None:
    """Take a real optimiser step, at a learning rate that moves every weight by 0.001."""
    from llmrl.algorithms.grpo import GRPO

    rows = [
        sample(
            group="g",
            episode=episode,
            reward=float(episode),
            turn_rewards=[],
            token_ids=list(range(10 + episode, 30 + episode)),
            turn_ids=[-1] * 8 + [0] * 12,
            action_mask=[False] * 8 + [True] * 12,
            sampled_logprobs=[0.0] * 8 + [-4.0] * 12,
        )
        for episode in range(2)
    ]
    algorithm = GRPO(importance_sampling_correction="none")
    assert model.fit(algorithm.credit(rows), algorithm.updates(0)[0], scale=1.0, rate=1e-3).applied


@pytest.fixture(scope="module")
def engine(tiny_model_dir: Path) -> Iterator[Any]:
    from llmrl.engines.vllm import Vllm

    running = Vllm().start(str(tiny_model_dir), dtype="float32", seed=0, max_model_len=128, stop_token_ids=[0])
    yield running
    running.close()


@pytest.fixture
def policy(tiny_model_dir: Path, engine: Any) -> Learner:
    """A policy one step away from what the engine holds."""
    from llmrl.train.parallel import accelerator

    made = recipe(tiny_model_dir)
    model = Learners(made, accelerator(made.train), ()).policy
    weight_sync.send(model, engine, 0, "float32")
    learn(model)
    return model


class Faulty:
    """An engine whose load goes wrong in one way."""

    def __init__(self, engine: Any, load: Callable[[Any, Pairs], None]) -> None:
        self._engine = engine
        self._load = load

    def load(self, pairs: Pairs, version: int) -> None:
        self._load(self._engine, pairs)
        self._engine._llm.reset_prefix_cache()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def skipped(engine: Any, pairs: Pairs) -> None:
    list(pairs)


def one_stale(engine: Any, pairs: Pairs) -> None:
    stale = "model.layers.1.mlp.down_proj.weight"
    moved = ((name, weight - 1e-3 * weight.sign() if name == stale else weight) for name, weight in pairs)
    engine._llm.collective_rpc("receive", args=(moved,))


def head_not_rebuilt(engine: Any, pairs: Pairs) -> None:
    engine._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(pairs)})


def wrong_cast(engine: Any, pairs: Pairs) -> None:
    engine._llm.collective_rpc("receive", args=(((name, weight.bfloat16().float()) for name, weight in pairs),))


def test_a_sound_sync_agrees(policy: Learner, engine: Any) -> None:
    logged = weight_sync.send(policy, engine, 1, "float32")
    assert logged["sync/probe_logp_gap"] < 2e-6
    completion = wait(engine.generate([5, 6, 7], Sampling(max_tokens=8, seed=3)))
    assert completion.version == 1
    whole = weight_sync.score(policy, [5, 6, 7, *completion.token_ids])[2:]
    torch.testing.assert_close(torch.tensor(completion.logprobs), torch.tensor(whole), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("fault", "named"),
    [(skipped, "layer"), (one_stale, "layer 1"), (head_not_rebuilt, "lm_head"), (wrong_cast, "layer")],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_fault_is_caught_at_once(policy: Learner, engine: Any, fault: Any, named: str) -> None:
    with pytest.raises(SyncError, match=named) as caught:
        weight_sync.send(policy, Faulty(engine, fault), 1, "float32")  # type: ignore[arg-type]
    print(f"\n{fault.__name__}: {caught.value}")


def test_lora_arrives_merged(tiny_model_dir: Path, engine: Any) -> None:
    from llmrl.train.parallel import accelerator

    made = recipe(tiny_model_dir, use_peft=True, lora_r=4)
    model = Learners(made, accelerator(made.train), ()).policy
    with torch.no_grad():
        for name, parameter in model.net.named_parameters():
            if "lora_B" in name:  # zero at first, which would prove nothing
                parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
    assert weight_sync.send(model, engine, 1, "float32")["sync/probe_logp_gap"] < 2e-6


def test_every_request_has_its_own_settings(engine: Any) -> None:
    require_own_settings(engine)
