"""New weights while vLLM's server generates, and a run that plays ahead on it: no token lost, each with its version."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from llmrl.engines.server import Server
from llmrl.engines.server.client import VllmClient
from llmrl.recipe import read
from llmrl.train.loop import train
from llmrl.train.run import Run
from llmrl.types import Completion, Sampling

LONG = 480  # tokens, so that a load falls into the midst of some
RECIPE = """
model: {{policy: {model}}}
data: {{name: arithmetic, high: 9}}
reward: {{name: format, pattern: '(?s).*[a-zA-Z0-9].*'}}
algorithm: {{name: grpo}}
engine: {{name: server, urls: ['{url}'], in_flight_updates: true}}
source: {{name: asynchronous, max_staleness: 2}}
rollout: {{num_generations: 4, prompts_per_step: 2, max_completion_length: 48, max_prompt_length: 32,
           max_error_share: 0.0}}
train: {{max_steps: 5, learning_rate: 1e-3, save_steps: 2, save_total_limit: 9, output_dir: {out}, report_to: none}}
"""


def start(model: Path, **options: Any) -> VllmClient:
    made = Server(in_flight_updates=True, **options)
    return made.start(str(model), dtype="float32", seed=3, max_model_len=512, stop_token_ids=[])


@pytest.fixture(scope="module")
def engine(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmClient]:
    made = start(tiny_model_dir, omp_threads=1, log_dir=str(tmp_path_factory.mktemp("logs")))
    try:
        yield made
    finally:
        made.close()


def moved(model_dir: Path, by: int) -> torch.nn.Module:
    """The model after `by` steps in some direction."""
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(model_dir)
    torch.manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.03 * by)
    return model


def forward(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    """Log-probability of every token after the first."""
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([ids])).logits[0, :-1]
    return logits.float().log_softmax(-1)[range(len(ids) - 1), ids[1:]]


def test_requests_go_on_with_new_weights_and_each_token_knows_its_own(engine: VllmClient, tiny_model_dir: Path) -> None:
    first = engine.version
    models = [moved(tiny_model_dir, by) for by in range(3)]
    prompts = [[65, 66, 67 + i] for i in range(12)]

    async def ask() -> list[Completion]:
        jobs = [
            asyncio.ensure_future(engine.generate(prompt, Sampling(seed=i, max_tokens=LONG)))
            for i, prompt in enumerate(prompts)
        ]
        for by in (1, 2):
            await asyncio.sleep(0.2)
            await asyncio.to_thread(engine.load, list(models[by].named_parameters()), first + by)
        return await asyncio.gather(*jobs)

    try:
        said = asyncio.run(ask())
        assert [len(c.token_ids) for c in said] == [LONG] * 12, "none is lost, none is cut short"
        assert any(c.versions is not None for c in said), "no load fell into the midst of a request"
        for prompt, c in zip(prompts, said, strict=True):
            versions = list(c.versions or [c.version] * LONG)
            assert versions == sorted(versions)
            assert c.version == versions[0]
            expected = [forward(model, [*prompt, *c.token_ids])[len(prompt) - 1 :] for model in models]
            of_its_own = torch.stack([expected[v - first][t] for t, v in enumerate(versions)])
            torch.testing.assert_close(torch.tensor(c.logprobs), of_its_own, rtol=0, atol=5e-5)
        probe = [(7 * i) % 250 for i in range(100)]
        found = torch.tensor(asyncio.run(engine.score(probe)))
        torch.testing.assert_close(found, forward(models[2], probe), rtol=0, atol=2e-5)
    finally:
        engine.load(list(models[0].named_parameters()), first + 3)


def test_a_run_plays_ahead_on_a_server(
    engine: VllmClient, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run pushes weights in flight, proves each push, and resumes with what was being played."""
    monkeypatch.setenv("LLMRL_API_KEY", str(engine._options.api_key))  # the server is another run's, with its own key
    (url,) = [peer.url for peer in engine._fleet._peers]
    (tmp_path / "run.yaml").write_text(RECIPE.format(model=tiny_model_dir, url=url, out=tmp_path))
    for overrides, resume in ((["train.max_steps=2"], False), ([], True)):
        with Run(read(tmp_path / "run.yaml", overrides), resume=resume) as run:
            train(run)
    saved = json.loads((tmp_path / "run" / "checkpoints" / "step-000002" / "run.json").read_text())["parts"]["source"]
    assert saved["sampler"] == {"position": 8}
    assert [name.partition("/")[0] for name in saved["scheduler"]["drawn"]] == ["4", "5", "6", "7"]
    assert [group[0]["group"] for group in saved["scheduler"]["pending"]] == saved["scheduler"]["drawn"]

    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(5))
    assert all(line["sync/probe_logp_gap"] < 2e-5 for line in lines)
    assert all(line["staleness/dropped"] == 0 for line in lines)
    lags = [
        int(key.split("_")[1].split("/")[0]) for line in lines for key in line if key.endswith("/frac") and "lag" in key
    ]
    assert set(lags) <= {0, 1, 2}
    assert max(lags) > 0
    played = [json.loads(line) for line in (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()]
    assert [int(one["group"].partition("/")[0]) for one in played] == [place for place in range(10) for _ in range(4)]
    assert (tmp_path / "run" / "final" / "model.safetensors").exists()
