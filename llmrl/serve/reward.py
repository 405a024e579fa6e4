"""Serve a reward behind HTTP: for the reward `remote` of a run, or for curl."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrl.clients.addresses import listening
from llmrl.clients.bearer import open_to_all, reaches_others, read_key
from llmrl.errors import RecipeError
from llmrl.plugins import build
from llmrl.recipe import yaml_text
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.serve.scoring import Scoring, ServerLimits, app

KEY_VARIABLE = "LLMRL_REWARD_API_KEY"


def serve(
    spec: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8100,
    api_key: str | None = None,
    workers: int = 2,
    timeout_s: float = 5.0,
    limits: ServerLimits | None = None,
) -> int:
    """Serve until ctrl-C or SIGTERM; groups being scored then are finished first, within `limits.grace_s`.

    Args:
        spec: see `reward_of`.
        host: where to listen; 0.0.0.0 is every network this machine is in: set an `api_key` then.
        port: 0 is a free one.
        api_key: bearer token that clients must send; None lets everyone in.
        workers, timeout_s: as `rollout.reward_workers` and `rollout.reward_timeout_s`.
    Returns:
        The exit code: 0 after ctrl-C.
    Raises:
        RecipeError, RewardError: there is no such reward, or it cannot be made ready.
        EngineError: the port is taken, or the host is none of this machine's.
    """
    import uvicorn

    limits, api_key = limits or ServerLimits(), read_key(api_key)
    named = reward_of(spec)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with listening(host, port) as sock, GradingPool(workers, timeout_s) as pool:
        reward = as_group_reward(build("reward", named, spec), pool)
        scoring = Scoring(reward, pool.trainer_state, limits)
        config = uvicorn.Config(
            app(scoring, str(named["name"]), api_key),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=round(limits.grace_s),
        )
        at, number = sock.getsockname()[:2]
        if api_key is None and reaches_others(at):
            print(open_to_all(f"{at}:{number}", KEY_VARIABLE), file=sys.stderr)
        _greet(str(named["name"]), at, number, api_key)
        try:
            uvicorn.Server(config).run(sockets=[sock])
        except KeyboardInterrupt:  # raised again once everything has ended
            print("llmrl: the reward server has stopped", file=sys.stderr)
        return 0


def reward_of(spec: str) -> Mapping[str, Any]:
    """Parse the reward that a text names: a name, `{name: ..., option: ...}`, or a recipe's file, for its `reward:`.

    Raises:
        RecipeError: the file cannot be read or has no such section, or the text is no reward's name.
    """
    named: Any
    try:
        if spec.endswith((".yaml", ".yml")):
            tree = yaml_text.parse(Path(spec).read_text(encoding="utf-8"), spec)
            named = tree.get("reward") if isinstance(tree, dict) else None
        else:
            named = yaml_text.parse(spec, "reward") if spec.lstrip().startswith("{") else {"name": spec}
    except OSError as error:
        raise RecipeError(f"{spec}: cannot be read: {error.strerror}; `llmrl recipes` lists those that ship") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{spec}: not YAML: {error}") from None
    if not isinstance(named, dict) or not isinstance(named.get("name"), str):
        raise RecipeError(f"{spec}: found {named!r}; expected a reward's name, {{name: ...}}, or a file with `reward:`")
    return named


def _greet(name: str, host: str, port: int, api_key: str | None) -> None:
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    url = f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"
    key = f" -H 'Authorization: Bearer '${KEY_VARIABLE}" if api_key else ""
    print(
        f"llmrl: reward {name} is served at {url}; ctrl-C ends it. Try:\n"
        f"  curl {url}/score -H 'Content-Type: application/json'{key} \\\n"
        """    -d '{"problem": {"id": "1", "messages": [{"role": "user", "content": "7+5="}], "answer": "12"}, """
        """"texts": ["12", "13"]}'""",
        flush=True,
    )
