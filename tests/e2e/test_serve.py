"""`serve` on a tiny model, answered by the `openai` client."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from openai import OpenAI

from llmrl.chat import load_tokenizer
from llmrl.engines.server.process import free_ports
from llmrl.errors import CheckpointError, EngineError
from llmrl.rewards.judge import Judge
from llmrl.scoring.manager import GradingPool
from llmrl.serve.checkpoint import check
from llmrl.serve.vllm import serve
from llmrl.types import Completion, Problem, Trajectory, Turn

KEY = "a-key"
QUESTION = [{"role": "user", "content": "1+1="}]


@dataclass
class Served:
    process: subprocess.Popen[str]
    url: str
    client: OpenAI
    log: Path


@pytest.fixture(scope="module")
def adapter(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter that is not zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model_dir), config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def served(tiny_model_dir: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    options = f"max_model_len=2048, lora=['louder={adapter}']"
    with serving(tiny_model_dir, options, tmp_path_factory.mktemp("serve") / "log") as server:
        yield server


@contextmanager
def serving(model: Path, options: str, log: Path) -> Iterator[Served]:
    """A server of the model, ready."""
    port = free_ports(1)[0]
    code = (
        "import signal, sys; from llmrl.serve.vllm import DecodingCritic, serve\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs begin without it
        f"sys.exit(serve({str(model)!r}, port={port}, api_key={KEY!r}, served_model_name='tiny',"
        f" cpu_kvcache_space=1, {options}))"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=output, stderr=subprocess.STDOUT, env=env, text=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 240
        while "is served at" not in log.read_text():
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.5)
        with OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=60) as client:
            yield Served(process, url, client, log)
    finally:
        process.kill()  # the test of ctrl-C has ended it already; this is for runs of single tests
        process.wait()


def test_models_name_the_policy_and_its_adapter(served: Served) -> None:
    assert {model.id for model in served.client.models.list()} == {"tiny", "louder"}


def test_chat_uses_the_models_template(served: Served) -> None:
    reply = served.client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=5, temperature=0)  # type: ignore[arg-type]
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 7  # user role, 4 characters, end, assistant role
    assert reply.choices[0].message.role == "assistant"
    assert 1 <= reply.usage.completion_tokens <= 5


def test_streaming_gives_the_same_text(served: Served) -> None:
    whole = served.client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=8, temperature=0)  # type: ignore[arg-type]
    parts = served.client.chat.completions.create(
        model="tiny",
        messages=QUESTION,  # type: ignore[arg-type]
        max_tokens=8,
        temperature=0,
        stream=True,
    )
    pieces = [part.choices[0].delta.content or "" for part in parts]  # type: ignore[union-attr]
    assert "".join(pieces) == (whole.choices[0].message.content or "")


def test_completions_with_logprobs(served: Served) -> None:
    reply = served.client.completions.create(model="tiny", prompt="1+1=", max_tokens=4, temperature=0, logprobs=2)
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs is not None
    assert logprobs.top_logprobs is not None
    assert len(logprobs.token_logprobs) == len(logprobs.top_logprobs) >= 1
    for chosen, top in zip(logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
        assert chosen == max(top.values()) <= 0


def test_an_adapter_answers_otherwise(served: Served) -> None:
    def score(model: str) -> list[float | None]:
        reply = served.client.completions.create(model=model, prompt="1+1=", max_tokens=3, temperature=0, logprobs=1)
        assert reply.choices[0].logprobs is not None
        return list(reply.choices[0].logprobs.token_logprobs or [])

    assert score("tiny") == score("tiny")
    assert score("tiny") != score("louder")


def test_bad_requests_are_refused(served: Served) -> None:
    create = served.client.completions.create
    with pytest.raises(openai.NotFoundError, match="nobody"):
        create(model="nobody", prompt="1")
    with pytest.raises(openai.BadRequestError, match="temperature"):
        create(model="tiny", prompt="1", temperature=-1)
    with pytest.raises(openai.BadRequestError, match="2048"):
        create(model="tiny", prompt=[1] * 2100)
    assert (
        httpx.post(f"{served.url}/v1/completions", headers={"Authorization": f"Bearer {KEY}"}, content=b"{").status_code
        == 400
    )


def test_a_judge_is_held_to_its_form(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights are random: without the schema it would never write a grade; at temperature 0, blanks for ever."""
    monkeypatch.setenv("A_JUDGES_KEY", KEY)
    to: dict[str, Any] = {"url": f"{served.url}/v1", "model": "tiny", "api_key_variable": "A_JUDGES_KEY"}
    to |= {"explain": False, "temperature": 1.0, "max_tokens": 200, "pause_s": 0.01}
    problem = Problem(id="1", messages=QUESTION, answer="2")
    said = Completion(token_ids=[1], logprobs=[0.0], finish="stop", version=0)
    turns = [Turn(prompt_ids=[], completion=said, text=text) for text in ("2", "three", "2")]
    group = [Trajectory(problem=problem, turns=[turn], status="done") for turn in turns]
    with GradingPool(1, timeout_s=60) as pool:
        first, second, third = asyncio.run(Judge(**to, correct_from=0.5).as_group_reward(pool).score(group))
        with_a_tie = asyncio.run(Judge(**to, form="pairwise").as_group_reward(pool).score(group[:2]))
    assert all(one.value in {grade / 10 for grade in range(11)} and one.verdict for one in (first, second)), first
    assert (first.parts["requests"] or 0) >= 1.0
    assert (first.parts["prompt_tokens"] or 0) > 500
    assert third.parts["requests"] == 0.0
    assert third.value == first.value, "equal texts are asked about once"
    assert sum(one.value or 0.0 for one in with_a_tie) == 1.0, with_a_tie


def test_without_the_key_nobody_gets_in(served: Served) -> None:
    with pytest.raises(openai.AuthenticationError):
        served.client.with_options(api_key="another").models.list()
    assert KEY not in " ".join(part for p in family(served) for part in p.cmdline() if "serve(" not in part)
    described = httpx.get(f"{served.url}/openapi.json", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False)
    for path in {*described.json()["paths"], "/metrics/", "/docs", "/openapi.json", "/none"} - {"/health"}:
        for method in ("GET", "POST"):
            assert httpx.request(method, served.url + path, trust_env=False).status_code == 401, path
    assert KEY not in served.log.read_text()


def test_a_websocket_needs_the_key_too(served: Served) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    assert httpx.get(f"{served.url}/v1/realtime", headers=upgrade, trust_env=False).status_code == 403


def test_nobody_changes_its_weights(served: Served) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    assert httpx.post(f"{served.url}/collective_rpc", headers=headers, json={"method": "sleep"}).status_code == 404


def family(served: Served) -> list[psutil.Process]:
    parent = psutil.Process(served.process.pid)
    return [parent, *parent.children(recursive=True)]


def test_ctrl_c_ends_it(served: Served) -> None:
    """The last to use the server."""
    running = family(served)
    assert len(running) > 2
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(timeout=40) == 0
    assert not psutil.wait_procs(running, timeout=5)[1]
    text = served.log.read_text()
    assert "Traceback" not in text
    assert "stopping the server" in text


def test_a_bad_folder_is_refused_before_vllm_starts(tiny_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        serve(str(tmp_path / "nothing"))
    for missing, words in [("config.json", "no config.json"), ("model.safetensors", "no weights")]:
        folder = shutil.copytree(tiny_model_dir, tmp_path / missing)
        (folder / missing).unlink()
        with pytest.raises(CheckpointError, match=words):
            serve(str(folder))
    folder = shutil.copytree(tiny_model_dir, tmp_path / "tokenizer", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(CheckpointError, match="no tokenizer"):
        serve(str(folder))
    with pytest.raises(CheckpointError, match=r"--lora a=.*no adapter_config\.json"):
        serve(str(tiny_model_dir), lora=[f"a={tmp_path}"])
    with pytest.raises(CheckpointError, match="expected NAME=FOLDER"):
        serve(str(tiny_model_dir), lora=["a"])


def test_a_template_without_bounds_is_refused_before_vllm_starts(tiny_model_dir: Path, tmp_path: Path) -> None:
    doubles = "{% for n in range(40) %}{% set ns.text = ns.text + ns.text %}{% endfor %}"
    folder = shutil.copytree(tiny_model_dir, tmp_path / "doubles")
    tokenizer = load_tokenizer(folder)
    for condition in ("true", "messages | length > 2"):
        bomb = f"{{% if {condition} %}}{{% set ns = namespace(text='ab') %}}{doubles}{{{{ ns.text }}}}{{% endif %}}"
        tokenizer.chat_template = bomb
        tokenizer.save_pretrained(folder)
        with pytest.raises(CheckpointError, match=f"{folder}: the chat template takes more than 512 MB of memory"):
            serve(str(folder), port=1)


def test_a_missing_shard_and_an_adapter_alone_are_named(tiny_model_dir: Path, adapter: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model_dir, tmp_path / "shards")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"names model-2\.safetensors, not there"):
        check(str(folder))
    with pytest.raises(CheckpointError, match=f"llmrl serve {tiny_model_dir} --lora mine="):
        check(str(adapter))
    check("owner/model")


def test_a_taken_port_is_said_at_once(tiny_model_dir: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match=f"127.0.0.1:{port} cannot be listened on"):
            serve(str(tiny_model_dir), port=port)


@pytest.mark.slow
def test_a_critic_moves_the_answers(tiny_model_dir: Path, critic_dir: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from llmrl.critics import action_values
    from llmrl.ops.perturbation import perturbed

    policy = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    critic = action_values.load(str(critic_dir), "float32", "cpu")
    prompt = [65, 66, 67]
    with serving(tiny_model_dir, f"critic=DecodingCritic({str(critic_dir)!r}, 3.0, 7)", tmp_path / "log") as server:
        reply = server.client.completions.create(
            model="tiny", prompt=prompt, max_tokens=8, temperature=0, extra_body={"return_token_ids": True}
        )
    tokens = list(reply.choices[0].token_ids)  # type: ignore[attr-defined]
    ids = torch.tensor([[*prompt, *tokens]])
    with torch.no_grad():
        plain, values = policy(ids).logits[0], critic(input_ids=ids).logits[0]
    behind = slice(len(prompt) - 1, -1)
    assert tokens == perturbed(plain, values, 3.0, 7)[behind].argmax(-1).tolist()
    assert tokens != plain[behind].argmax(-1).tolist(), "the critic chooses otherwise somewhere"
