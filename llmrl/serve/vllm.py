"""Serve a policy by vLLM's own OpenAI server: its chat template, its generation defaults, and adapters by name."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from llmrl.chat import Chat, load_tokenizer
from llmrl.clients import hub
from llmrl.clients.addresses import listening
from llmrl.clients.bearer import open_to_all, reaches_others, read_key
from llmrl.critics.folder import head_specs
from llmrl.engines.server import process as server_process
from llmrl.engines.server.child_process import Child
from llmrl.engines.vllm import perturbation, pictures
from llmrl.errors import CheckpointError, DataError, EngineError
from llmrl.plugins import converted
from llmrl.sandbox.rendering import TemplateLimitError
from llmrl.serve.checkpoint import check, lora_rank

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # values of vLLM's --max-lora-rank
_QUESTION, _ANSWER = {"role": "user", "content": "1+1="}, {"role": "assistant", "content": "2"}
_CONVERSATIONS = ([_QUESTION], [_QUESTION, _ANSWER, _QUESTION])
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class DecodingCritic(NamedTuple):
    """A critic that moves logits: they become logits + beta (Q - V)."""

    folder: str  # final/critic of a run
    beta: float = 4.0
    top_k: int = 50  # likeliest tokens among which it chooses; 0: all

    @classmethod
    def of(cls, folder: str, beta: float, top_k: int) -> DecodingCritic:
        """The critic of the command line; raises RecipeError where beta is no finite number."""
        return cls(folder, converted(float, beta, "serve.critic_beta"), top_k)


def serve(
    checkpoint: str,
    *,
    lora: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    served_model_name: str | None = None,
    dtype: str = "auto",
    max_model_len: int | None = None,
    critic: DecodingCritic | None = None,
    cpu_kvcache_space: int = 2,
    start_timeout_s: float = 1800.0,
    server_args: Sequence[str] = (),
) -> int:
    """Serve until ctrl-C.

    Args:
        checkpoint: a folder with model and tokenizer, or a hub name.
        lora: adapters as NAME=FOLDER; a request chooses one by `model: NAME`.
        host, port: where to listen; 0.0.0.0 is every network: set an `api_key` then. Port 0 is a free one.
        api_key: bearer token that clients must send to every route but /health; None lets everyone in.
        served_model_name: the model's name for clients; None is `checkpoint` itself.
        dtype: auto is the checkpoint's own, where vLLM's would serve float32 in 16 bits.
        max_model_len: tokens of prompt and completion; None is the model's own limit.
        critic: what moves the logits of all answers.
        cpu_kvcache_space: GiB for keys and values, on a CPU.
        server_args: anything else that vLLM's server takes.
    Returns:
        The exit code: 0 after ctrl-C.
    Raises:
        CheckpointError: the folder, or an adapter's, is incomplete or broken, or its chat template takes too much.
        RecipeError, EngineError: there is no such port or host, or it is taken; or the server ended by itself.
    """
    with listening(host, port) as probe:
        port = probe.getsockname()[1]
    check(checkpoint)
    _check_template(checkpoint)
    moved = [] if critic is None else _moved(critic)
    dtype = own_dtype(checkpoint, dtype)
    arguments = [*_arguments(checkpoint, lora, served_model_name, dtype, max_model_len), *moved]
    if api_key is None and reaches_others(host):
        print(open_to_all(f"{host}:{port}", server_process.KEY_VARIABLE), file=sys.stderr)
    env = server_process.environment(api_key=read_key(api_key), cpu_kvcache_space=cpu_kvcache_space)
    child = Child(server_process.command(checkpoint, host, port, *arguments, *server_args), env=env)
    try:
        url = _url(_EVERYWHERE.get(host, host), port)
        server = server_process.ApiServer(url, child)
        if not server_process.answers(server, time.monotonic() + start_timeout_s):
            raise EngineError(_failure(child, checkpoint, start_timeout_s))
        if api_key is not None:
            server_process.check_guarded(server)
        _greet(url, served_model_name or checkpoint, api_key, dtype)
        child.wait()
        raise EngineError(_failure(child, checkpoint, start_timeout_s))
    except KeyboardInterrupt:
        print("llmrl: stopping the server", file=sys.stderr)
        return 0
    finally:
        child.stop()


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _arguments(
    checkpoint: str, lora: Sequence[str], name: str | None, dtype: str, max_model_len: int | None
) -> list[str]:
    import torch

    arguments = ["--dtype", dtype, "--generation-config", checkpoint]
    if code := pictures.options(checkpoint).get("model_impl"):
        arguments += ["--model-impl", str(code)]
    if name:
        arguments += ["--served-model-name", name]
    if max_model_len is not None:
        arguments += ["--max-model-len", str(max_model_len)]
    if not torch.cuda.is_available():
        arguments += ["--enforce-eager", *server_process.whole_prompts(max_model_len)]  # compiling takes 45 s there
        arguments += ["--worker-extension-cls", "llmrl.engines.vllm.amx.TilesAllowed"]
    if lora:
        for entry in lora:
            if not all(entry.partition("=")):
                raise CheckpointError(f"--lora {entry}: expected NAME=FOLDER")
        rank = max(lora_rank(*entry.split("=", 1)) for entry in lora)
        allowed = [r for r in _RANKS if r >= rank]
        if not allowed:
            raise CheckpointError(
                f"--lora: rank {rank}; vLLM takes up to {_RANKS[-1]}: merge the adapter into its base"
            )
        arguments += ["--enable-lora", "--max-lora-rank", str(allowed[0]), "--lora-modules", *lora]
    return arguments


def _moved(critic: DecodingCritic) -> list[str]:
    """Arguments of a server with the critic, which is looked at before vLLM loads.

    Raises:
        EngineError: it has none.
    """
    specs = head_specs(Path(critic.folder)).values()
    if not any(spec.get("name") == "vocabulary" for spec in specs):
        raise EngineError(
            f"--critic {critic.folder}: it has no heads of the vocabulary; expected final/critic of a run with ilql"
        )
    return perturbation.arguments(*critic)


def _check_template(checkpoint: str) -> None:
    """Render conversations of a folder's chat template within limits, for vLLM renders without any.

    A template that refuses these conversations may take others: vLLM tells each client.
    """
    if not Path(checkpoint).is_dir():
        return
    chat = Chat(load_tokenizer(checkpoint))
    for conversation in _CONVERSATIONS:
        try:
            chat.check([conversation], add_generation_prompt=True)
        except TemplateLimitError as error:
            raise CheckpointError(f"{checkpoint}: {error}") from None
        except DataError:
            continue


def own_dtype(checkpoint: str, wanted: str = "auto") -> str:
    """The dtype that is wanted; for `auto` that of the checkpoint, or `auto` and a line where none is known.

    It is kept: a policy answers as it did when it was trained and evaluated.
    """
    if wanted != "auto":
        return wanted
    from transformers import AutoConfig

    hub.look(checkpoint)
    try:
        config = AutoConfig.from_pretrained(checkpoint)
        named = str(config.dtype or config.get_text_config().dtype or "").removeprefix("torch.")
        reason = "names no dtype"
    except (OSError, ValueError) as error:  # vLLM says more, or knows the model by itself
        named, reason = "", f"has no configuration that Transformers reads ({(str(error).splitlines() or [''])[0]})"
    if not named:
        print(f"llmrl: {checkpoint} {reason}: vLLM chooses one; --dtype float32 keeps full precision")
    return named or "auto"


def _failure(child: Child, checkpoint: str, limit_s: float) -> str:
    code = child.poll()
    if code is None:
        return f"{checkpoint}: vLLM's server did not answer within {limit_s:g} s; it was stopped"
    return f"{checkpoint}: vLLM's server ended with code {code}; its own messages say why"


def _greet(url: str, model: str, api_key: str | None, dtype: str) -> None:
    key = f" -H 'Authorization: Bearer '${server_process.KEY_VARIABLE}" if api_key else ""
    print(
        f"llmrl: {model} is served at {url}/v1{'' if dtype == 'auto' else f' in {dtype}'}; ctrl-C ends it. Try:\n"
        f"  curl {url}/v1/chat/completions -H 'Content-Type: application/json'{key} \\\n"
        f"""    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "What is 7 + 5?"}}]}}'""",
        flush=True,
    )
