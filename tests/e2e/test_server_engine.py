"""The engine `server` on two real vLLM servers that it starts itself, and on servers that answer badly."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from llmrl.engines.server import Server
from llmrl.engines.server.client import VllmClient
from llmrl.errors import EngineError, SyncError
from llmrl.types import Completion, Sampling
from tests.http_server import HttpServer, Reply, Request, in_turn
from tests.own_settings import require_own_settings
from tests.stop_strings import require_stop

COMPLETIONS = "/v1/completions"
PROMPTS = [[65, 66, 67], [70, 71, 72, 73, 74, 75], [65, 66, 67], [80]]
STOP = (7, 9)


def start(model: Path | str, stop: Sequence[int] = STOP, **options: Any) -> VllmClient:
    made = Server(**options)
    return made.start(str(model), dtype="float32", seed=3, max_model_len=256, stop_token_ids=stop)


@pytest.fixture(scope="module")
def engine(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmClient]:
    made = start(tiny_model_dir, servers=2, omp_threads=1, log_dir=str(tmp_path_factory.mktemp("logs")))
    try:
        yield made
    finally:
        made.close()


def sample(engine: VllmClient, prompts: Sequence[Sequence[int]] = PROMPTS, **settings: Any) -> list[Completion]:
    """Sample a completion of each prompt, at the same time, with the seeds 0, 1, ..."""

    async def ask() -> list[Completion]:
        jobs = [engine.generate(p, Sampling(**({"seed": i} | settings))) for i, p in enumerate(prompts)]
        return await asyncio.gather(*jobs)

    return asyncio.run(ask())


def forward(model: torch.nn.Module, ids: Sequence[int]) -> torch.Tensor:
    """Log-probability of every token after the first."""
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([list(ids)])).logits[0, :-1]
    return logits.float().log_softmax(-1)[range(len(ids) - 1), list(ids[1:])]


def test_completions_carry_the_models_logprobs(engine: VllmClient, tiny_model_dir: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    said = sample(engine, PROMPTS * 4, max_tokens=40)
    for prompt, c in zip(PROMPTS * 4, said, strict=True):
        expected = forward(model, [*prompt, *c.token_ids])[len(prompt) - 1 :]
        torch.testing.assert_close(torch.tensor(c.logprobs), expected, rtol=0, atol=2e-5)
        assert c.finish == ("stop" if c.token_ids[-1] in STOP else "length")
        assert not set(c.token_ids[:-1]) & set(STOP)
    assert {c.finish for c in said} == {"stop", "length"}  # else the stop set was not tried


def test_many_long_prompts_with_seeds_come_at_once(engine: VllmClient) -> None:
    """More tokens than a step of the engine takes: a prompt cut in two would end a server on a CPU."""
    prompts = [[65 + place % 26] * 240 for place in range(160)]
    assert all(len(completion.token_ids) for completion in sample(engine, prompts, max_tokens=2))


def test_a_completion_ends_with_a_string(engine: VllmClient, tiny_model_dir: Path) -> None:
    require_stop(engine, tiny_model_dir)


def test_every_request_has_its_own_settings(tiny_model_dir: Path, engine: VllmClient) -> None:
    free = start(tiny_model_dir, (), urls=engine_urls(engine), api_key=engine._options.api_key)
    require_own_settings(free)
    free.close()


def test_seeds_repeat_a_completion_on_any_server(engine: VllmClient) -> None:
    first, second = sample(engine, PROMPTS * 8, seed=11), sample(engine, PROMPTS * 8, seed=11)
    assert [c.token_ids for c in first] == [c.token_ids for c in second]
    assert first[0].token_ids == first[2].token_ids
    assert sample(engine, seed=12)[0].token_ids != first[0].token_ids


def test_only_its_own_client_reaches_a_server(engine: VllmClient) -> None:
    """By a random key, which no list of processes shows and the engine's process does not inherit."""
    peer = engine._fleet._peers[0]
    for method, route in [("POST", "/collective_rpc"), ("GET", "/v1/models"), ("POST", "/sleep"), ("GET", "/metrics")]:
        assert httpx.request(method, peer.url + route, trust_env=False).status_code == 401
    key = engine._options.api_key
    assert key is not None
    assert len(key) >= 32
    watcher = psutil.Process(peer.own.child._process.pid)  # type: ignore[union-attr]
    family = [watcher, *watcher.children(recursive=True)]
    assert key not in " ".join(part for process in family for part in process.cmdline())
    holders = [process for process in family if key in process.environ().values()]
    assert len(holders) == 2, "the watcher and the server that it started"


def test_both_servers_work(engine: VllmClient) -> None:
    used = {peer.url: 0 for peer in engine._fleet._peers}
    pick = engine._fleet._pick

    def counted(prompt: tuple[int, ...], failed: Any) -> Any:
        peer = pick(prompt, failed)
        used[peer.url] += 1
        return peer

    engine._fleet._pick = counted  # type: ignore[method-assign]
    try:
        sample(engine, [[65, i] for i in range(32)], max_tokens=8)
    finally:
        del engine._fleet._pick  # type: ignore[method-assign]
    assert list(used.values()) == [16, 16]


def test_top_p_is_renormalised_and_says_so(engine: VllmClient) -> None:
    likely = sample(engine, seed=1, top_k=1, max_tokens=4)[0]
    assert likely.semantics == "renormalised"
    assert likely.logprobs == pytest.approx([0.0] * len(likely.logprobs), abs=1e-6)


def test_score_is_the_forward_pass(engine: VllmClient, tiny_model_dir: Path) -> None:
    text = [(7 * i) % 250 for i in range(100)]
    found = torch.tensor(asyncio.run(engine.score(text)))
    expected = forward(AutoModelForCausalLM.from_pretrained(tiny_model_dir), text)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_new_weights_reach_every_server_while_requests_run(engine: VllmClient, tiny_model_dir: Path) -> None:
    """Requests begin before, during and after the load: each completion's numbers are of the version that it names."""
    old = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    new = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    torch.manual_seed(2)
    with torch.no_grad():
        for weight in new.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    before = engine.version
    models = {before: old, before + 1: new}

    async def ask() -> list[Completion]:
        async def one(i: int) -> Completion:
            await asyncio.sleep(i * 0.02)
            return await engine.generate(PROMPTS[i % 4], Sampling(seed=i, max_tokens=60))

        jobs = [asyncio.ensure_future(one(i)) for i in range(30)]
        await asyncio.sleep(0.3)
        await asyncio.to_thread(engine.load, list(new.named_parameters()), before + 1)
        jobs += [asyncio.ensure_future(one(i)) for i in range(10)]  # on a busy machine all others were before the load
        return await asyncio.gather(*jobs)

    try:
        said = asyncio.run(ask())
        assert {c.version for c in said} == set(models)
        for i, c in zip([*range(30), *range(10)], said, strict=True):
            prompt = PROMPTS[i % 4]
            expected = forward(models[c.version], [*prompt, *c.token_ids])[len(prompt) - 1 :]
            torch.testing.assert_close(torch.tensor(c.logprobs), expected, rtol=0, atol=2e-5)
        norms = engine.layer_norms(PROMPTS[1])
        assert [len(layer) for layer in norms] == [6, 6]
    finally:
        engine.load(list(old.named_parameters()), before + 2)
    assert sample(engine)[0].version == before + 2


def engine_urls(engine: VllmClient) -> list[str]:
    return [peer.url for peer in engine._fleet._peers]


def test_an_engine_of_urls_pushes_weights_too(
    engine: VllmClient, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    with pytest.raises(EngineError, match=r"HTTP 401.*api_key"):
        start("ignored", urls=engine_urls(engine), api_key="another")
    monkeypatch.setenv("LLMRL_API_KEY", str(engine._options.api_key))
    client = start("ignored", urls=engine_urls(engine), sync_dir=str(tmp_path))
    try:
        client.load(list(model.named_parameters()), 9)
        found = torch.tensor(asyncio.run(client.score(PROMPTS[1])))
        torch.testing.assert_close(found, forward(model, PROMPTS[1]), rtol=0, atol=2e-5)
        assert list(tmp_path.iterdir()) == []  # the file is gone
        assert client.version == 9
    finally:
        client.close()
    assert len(sample(engine)) == 4  # servers that others started stay


def test_a_refused_request_quotes_the_server(engine: VllmClient) -> None:
    with pytest.raises(EngineError, match=r"HTTP 400.*temperature"):
        sample(engine, temperature=-1.0)


@pytest.mark.parametrize("prompt", [[], [1] * 256])
def test_a_prompt_that_does_not_fit_is_refused(engine: VllmClient, prompt: list[int]) -> None:
    with pytest.raises(EngineError, match="fewer than max_model_len=256"):
        sample(engine, [prompt])


def test_a_folder_that_is_not_there_is_named(engine: VllmClient, tiny_model_dir: Path) -> None:
    client = start("ignored", urls=engine_urls(engine), sync_dir="/nowhere", api_key=engine._options.api_key)
    try:
        with pytest.raises(EngineError, match=r"engine\.sync_dir: no .* GiB for the weights in /nowhere"):
            client.load(list(AutoModelForCausalLM.from_pretrained(tiny_model_dir).named_parameters()), 1)
    finally:
        client.close()


def test_weights_that_do_not_fit_are_an_error_with_the_servers_reason(engine: VllmClient, tiny_model_dir: Path) -> None:
    """The last to use these servers: one that broke off a load is of no use afterwards."""
    name = next(AutoModelForCausalLM.from_pretrained(tiny_model_dir).named_parameters())[0]
    with pytest.raises(SyncError, match=r"collective_rpc: HTTP 500(.|\n)*server-[01]\.log"):
        engine.load([(name, torch.zeros(3, 3))], engine.version + 1)


@pytest.mark.slow
def test_a_server_that_fails_to_start_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(
        EngineError, match=r"ended with code 1 before it answered; the end of its log(.|\n)*nothing-here"
    ):
        start(tmp_path / "nothing-here", log_dir=str(tmp_path))


@pytest.mark.slow
def test_close_ends_the_servers_and_removes_their_temporary_log(tiny_model_dir: Path) -> None:
    others = set(psutil.Process().children(recursive=True))  # the servers that the tests of this module share
    engine = start(tiny_model_dir)
    log = engine._running[0].child.log
    running = [p for p in psutil.Process().children(recursive=True) if p not in others and serves(p)]
    assert log is not None
    assert log.exists()
    assert running
    engine.close()
    engine.close()
    assert not log.parent.exists()
    assert not psutil.wait_procs(running, timeout=5)[1]
    with pytest.raises(EngineError, match="closed"):
        sample(engine)


def test_servers_die_with_a_killed_parent(tiny_model_dir: Path, tmp_path: Path) -> None:
    """SIGKILL to the trainer, while its server is still loading, leaves no process behind."""
    code = (
        "from llmrl.engines.server import Server\n"
        f"Server(log_dir={str(tmp_path)!r}).start({str(tiny_model_dir)!r}, dtype='float32', seed=0, max_model_len=64,"
        " stop_token_ids=[])"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    )
    started = wait_for(lambda: [p for p in psutil.Process(parent.pid).children(recursive=True) if serves(p)], 60)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    gone, left = psutil.wait_procs(started, timeout=30)
    assert gone
    assert not left


def serves(process: psutil.Process) -> bool:
    return process.status() != psutil.STATUS_ZOMBIE and any("vllm_app" in part for part in process.cmdline())


def wait_for(found: Callable[[], Any], limit_s: float) -> Any:
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError(f"nothing within {limit_s} s")


class Stub(HttpServer):
    """A server that answers completions from a list of (status, choice), the last again and again, and all orders."""

    def __init__(self, *answers: tuple[int, dict[str, Any] | None]) -> None:
        super().__init__(answer=in_turn(*((status, {"choices": [choice]}) for status, choice in answers)))

    def reply(self, request: Request) -> Reply:
        return super().reply(request) if request.path == COMPLETIONS else (200, {"success": True})

    @property
    def tries(self) -> int:
        """Requests for completions."""
        return sum(request.path == COMPLETIONS for request in self.requests)

    @property
    def orders(self) -> list[str]:
        return [request.path for request in self.requests if request.path != COMPLETIONS]


GOOD = {"token_ids": [5, 7], "logprobs": {"token_logprobs": [-1.0, -2.0]}, "finish_reason": "stop"}


@pytest.fixture
def stubbed() -> Iterator[Callable[..., tuple[Stub, VllmClient]]]:
    made: list[tuple[Stub, VllmClient]] = []

    def make(*answers: tuple[int, dict[str, Any] | None], **options: Any) -> tuple[Stub, VllmClient]:
        stub = Stub(*answers)
        made.append((stub, start("m", urls=[stub.url], **options)))
        return made[-1]

    yield make
    for stub, remote in made:
        remote.close()
        stub.close()


def test_a_5xx_is_tried_again_within_the_limit(stubbed: Callable[..., tuple[Stub, VllmClient]]) -> None:
    stub, remote = stubbed((503, None), (500, None), (200, GOOD))
    assert list(sample(remote, [[1]])[0].logprobs) == [-1.0, -2.0]
    assert stub.tries == 3
    stub, remote = stubbed((503, None), retries=1)
    with pytest.raises(EngineError, match="2 tries: HTTP 503"):
        sample(remote, [[1]])
    assert stub.tries == 2


@pytest.mark.parametrize(
    "bad",
    [
        {"token_ids": None},
        {"logprobs": None},
        {"token_ids": [5]},
        {"logprobs": {"token_logprobs": [-1.0, None]}},
    ],
)
def test_an_answer_without_its_numbers_is_an_error(stubbed: Callable[..., tuple[Stub, VllmClient]], bad: Any) -> None:
    _, remote = stubbed((200, GOOD | bad))
    with pytest.raises(EngineError, match="token ids and"):
        sample(remote, [[1]])


def test_another_server_takes_over(stubbed: Callable[..., tuple[Stub, VllmClient]]) -> None:
    stub, _ = stubbed((200, GOOD))
    broken, _ = stubbed((500, None))
    both = start("m", urls=[broken.url, stub.url])
    try:
        assert len(sample(both, [[i] for i in range(1, 9)])) == 8
        assert broken.tries > 0
    finally:
        both.close()


def test_ranks_that_share_servers_load_them_once(
    stubbed: Callable[..., tuple[Stub, VllmClient]], tmp_path: Path
) -> None:
    """Two processes load the same version: one push, and both know the version afterwards."""
    stub, _ = stubbed((200, GOOD))
    script = tmp_path / "rank.py"
    script.write_text(
        "import asyncio, torch, torch.distributed as dist\n"
        "from llmrl.engines.server import Server\n"
        "from llmrl.types import Sampling\n"
        "dist.init_process_group('gloo')\n"
        f"remote = Server(urls=[{stub.url!r}]).start('m', dtype='float32', seed=0, max_model_len=9,"
        " stop_token_ids=[])\n"
        "remote.load([('a', torch.zeros(2))], 5)\n"
        "said = asyncio.run(remote.generate([1], Sampling()))\n"
        "print(f'rank {dist.get_rank()} version {said.version}', flush=True)\n"
        "remote.close()\n"
        "dist.destroy_process_group()\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert sorted(done.stdout.split("\n"))[-2:] == ["rank 0 version 5", "rank 1 version 5"], done.stderr[-2000:]
    assert stub.orders == ["/pause?mode=wait", "/collective_rpc", "/reset_prefix_cache", "/resume"]


def test_nobody_there() -> None:
    with pytest.raises(EngineError, match=r"127\.0\.0\.1:9 does not answer.*check engine\.urls"):
        start("m", urls=["http://127.0.0.1:9"])
