"""Commands that serve: a policy, a policy that searches, a reward."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from llmrl.cli.export import Step, folder_of
from llmrl.cli.search_options import Judge, SearchName, SearchTokens, spec
from llmrl.errors import RecipeError
from llmrl.run_folder.libraries import keep_in

LOGS = Path("runs/serve")
"""The folder of `libraries.log`, where servers and their libraries write."""


def serve(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(help="Model folder, run folder, or hub name.")],
    lora: Annotated[list[str] | None, typer.Option(help="Adapter, as NAME=FOLDER; may be repeated.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 is every network and needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(envvar=["LLMRL_API_KEY", "VLLM_API_KEY"], help="API key that clients must send.")
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="File that holds the API key.")] = None,
    served_model_name: Annotated[str | None, typer.Option(help="Name by which clients ask for the model.")] = None,
    dtype: Annotated[str, typer.Option(help="Data type of the weights; auto is that of the checkpoint.")] = "auto",
    max_model_len: Annotated[
        int | None, typer.Option(min=1, help="Largest number of tokens of prompt and completion.")
    ] = None,
    critic: Annotated[
        str | None, typer.Option(help="Folder final/critic of a run, whose Q values move the logits.")
    ] = None,
    critic_beta: Annotated[float, typer.Option(help="Weight of the critic: logits + beta (Q - V).")] = 4.0,
    critic_top_k: Annotated[int, typer.Option(min=0, help="Number of likeliest tokens to choose from; 0 is all.")] = 50,
    search: SearchName = None,
    judge: Judge = None,
    search_tokens: SearchTokens = None,
    engine: Annotated[str, typer.Option(help="Engine of the search: vllm, hf, or {name: ..., option: ...}.")] = "vllm",
    step: Step = None,
) -> None:
    """Serve a checkpoint with vLLM's OpenAI-compatible server. Runs until Ctrl-C; other options go to vLLM."""
    from llmrl.clients.bearer import read_key
    from llmrl.serve.vllm import DecodingCritic
    from llmrl.serve.vllm import serve as run

    checkpoint = folder_of(checkpoint, step)
    keep_in(LOGS)
    if search is not None:
        _require_none([*(lora or ()), *(["--critic"] if critic else ()), *context.args])
        raise typer.Exit(
            _serve_search(
                checkpoint,
                search,
                judge,
                search_tokens,
                engine,
                dtype,
                max_model_len,
                host=host,
                port=port,
                api_key=read_key(api_key, api_key_file),
                name=served_model_name,
            )
        )
    code = run(
        checkpoint,
        lora=lora or (),
        host=host,
        port=port,
        api_key=read_key(api_key, api_key_file),
        served_model_name=served_model_name,
        dtype=dtype,
        max_model_len=max_model_len,
        critic=None if critic is None else DecodingCritic.of(critic, critic_beta, critic_top_k),
        server_args=context.args,
    )
    raise typer.Exit(code)


def _require_none(others: Sequence[str]) -> None:
    if others:
        raise RecipeError(
            f"--search with {', '.join(others)}: expected none of --lora, --critic and options of vLLM; a search takes "
            "its critic as an option of --engine"
        )


def _serve_search(
    checkpoint: str,
    search: str,
    judge: str | None,
    search_tokens: int | None,
    engine: str,
    dtype: str,
    max_model_len: int | None,
    **options: Any,
) -> int:
    from llmrl.evaluation.run import EvalSetup
    from llmrl.plugins import construct
    from llmrl.serve.search import serve as run

    settings = {
        "engine": spec(engine, "--engine"),
        "dtype": None if dtype == "auto" else dtype,
        "max_model_len": max_model_len,
        "search": search,
        "judge": spec(judge, "--judge"),
        "search_tokens": search_tokens,
    }
    setup = construct(EvalSetup, settings, "serve")
    return run(checkpoint, setup, **options)


def serve_reward(
    reward: Annotated[
        str, typer.Argument(help="Reward: a name, {name: ..., option: ...}, or a recipe whose `reward:` is served.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 is every network and needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.")] = 8100,
    api_key: Annotated[
        str | None, typer.Option(envvar="LLMRL_REWARD_API_KEY", help="API key that clients must send.")
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="File that holds the API key.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of grading processes.")] = 2,
    timeout_s: Annotated[
        float, typer.Option(help="Time limit of an item in seconds; its grader is killed then.")
    ] = 5.0,
    batch: Annotated[int, typer.Option(min=1, help="Number of groups scored at a time.")] = 32,
    max_waiting: Annotated[int, typer.Option(min=1, help="Number of waiting groups; further ones get a 503.")] = 256,
    max_texts: Annotated[int, typer.Option(min=1, help="Number of answers in a request; more get a 413.")] = 4096,
    max_text_mb: Annotated[int, typer.Option(min=1, help="Size of the texts of a request, in MiB.")] = 64,
    max_body_mb: Annotated[int, typer.Option(min=1, help="Size of a request, in MiB.")] = 256,
    request_timeout_s: Annotated[
        float, typer.Option(min=0.001, help="Time limit of a group in seconds, waiting included.")
    ] = 600.0,
    grace_s: Annotated[float, typer.Option(min=0, help="Seconds for groups that are being scored at Ctrl-C.")] = 30.0,
) -> None:
    """Serve a reward over HTTP. Runs until Ctrl-C; recipes use it by the reward `remote`."""
    from llmrl.clients.bearer import read_key
    from llmrl.plugins import construct, converted
    from llmrl.recipe.ranges import Seconds
    from llmrl.serve.reward import serve
    from llmrl.serve.scoring import ServerLimits

    keep_in(LOGS)
    given = {
        "batch": batch,
        "max_waiting": max_waiting,
        "max_texts": max_texts,
        "max_text_mb": max_text_mb,
        "max_body_mb": max_body_mb,
        "request_timeout_s": request_timeout_s,
        "grace_s": grace_s,
    }
    limits = construct(ServerLimits, given, "serve-reward")
    timeout_s = converted(Seconds, timeout_s, "serve-reward.timeout_s")
    key = read_key(api_key, api_key_file)
    code = serve(reward, host=host, port=port, api_key=key, workers=workers, timeout_s=timeout_s, limits=limits)
    raise typer.Exit(code)
