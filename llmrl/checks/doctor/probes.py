"""Start vLLM and DeepSpeed for real, each in processes of its own with a time limit."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmrl.checks.doctor.finding import Finding
from llmrl.engines.server.child_process import Child
from llmrl.engines.server.process import free_ports
from llmrl.train import extensions

COMPILE = (sys.executable, "-m", "llmrl.train.extensions")
COMPILE_LIMIT_S = 1800.0
_EXACT = 1e-6
_CAUSE = re.compile(r"Error|Signal \d+|terminate called")


def findings(limit_s: float) -> list[Finding]:
    """Check that vLLM agrees with Transformers and that DeepSpeed trains in two processes.

    Both run at the same time. A check that fails so is made once more alone: a machine too small for both at once can
    still be sound. What DeepSpeed compiles at its first start is compiled before, outside of the time limit.
    """
    _compile()
    probes = (vllm, deepspeed)
    with ThreadPoolExecutor(len(probes)) as pool:
        beside = list(pool.map(lambda probe: probe(limit_s), probes))
    return [_repeated(probe, first, limit_s) for probe, first in zip(probes, beside, strict=True)]


def vllm(limit_s: float) -> Finding:
    """Compare vLLM in process with Transformers on a tiny model with a tied head, before and after new weights."""
    step = "reinstall (make .venv), or use engine.name=hf; an issue with this line and `llmrl doctor` is welcome"
    argv = [sys.executable, "-m", "llmrl.checks.doctor.vllm_probe"]

    def judge(found: Mapping[str, Any]) -> Finding:
        from llmrl.train.weight_sync import BOUNDS

        bound = BOUNDS[found["dtype"]]
        detail = (
            f"{found['dtype']}: mean gap {found['mean']:.1e}, largest {found['max']:.1e}; after new weights "
            f"{found['reloaded_mean']:.1e} (bound {bound:g}); started in {found['start_s']:.0f} s"
        )
        good = found["mean"] <= bound and found["reloaded_mean"] <= bound
        return Finding("vLLM agrees", "ok" if good else "fail", detail, "" if good else step)

    return _probe("vLLM agrees", argv, {}, limit_s, judge, step)


def deepspeed(limit_s: float) -> Finding:
    """Compare a ZeRO-2 step of two CPU processes with the same step in one."""
    step = "check that loopback is open between processes, then reinstall (make .venv); one process trains without it"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--use_deepspeed", "--zero_stage", "2"]
    processes = ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    port = ["--main_process_ip", "127.0.0.1", "--main_process_port", str(free_ports(1)[0])]
    argv = [*launch, *processes, *port, "-m", "llmrl.checks.doctor.deepspeed_probe"]
    env = {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}

    def judge(found: Mapping[str, Any]) -> Finding:
        good = found["world"] == 2 and found["gap"] <= _EXACT and found["moved"] > _EXACT
        detail = f"{found['world']} processes, gap to one process {found['gap']:.1e}; {found['seconds']:.0f} s"
        return Finding("DeepSpeed, 2 processes", "ok" if good else "fail", detail, "" if good else step)

    return _probe("DeepSpeed, 2 processes", argv, env, limit_s, judge, step)


def _compile() -> None:
    """Let DeepSpeed compile where it has not yet; what it prints is seen. If that fails, DeepSpeed's check says why."""
    if extensions.compiled():
        return
    child = Child(COMPILE, env=_environment({"DS_ACCELERATOR": "cpu"}))
    try:
        until = time.monotonic() + COMPILE_LIMIT_S
        while child.poll() is None and time.monotonic() < until:
            time.sleep(0.2)
    finally:
        child.stop()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Variables for a program that imports this checkout."""
    path = os.pathsep.join([str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **more}


def _repeated(probe: Callable[[float], Finding], first: Finding, limit_s: float) -> Finding:
    """The finding; where it is a failure, that of a second try alone, with what the first one said."""
    if first.state == "ok":
        return first
    second = probe(limit_s)
    return replace(second, detail=f"{second.detail}; beside the other check: {first.detail}")


def _probe(
    name: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    limit_s: float,
    judge: Callable[[Mapping[str, Any]], Finding],
    step: str,
) -> Finding:
    """Judge the JSON object that a program prints last; where there is none, quote its output."""
    with tempfile.TemporaryDirectory(prefix="llmrl-doctor-") as folder:
        log = Path(folder) / "log"
        child = Child(argv, env=_environment(env), log=log, grace_s=3.0)
        try:
            until = time.monotonic() + limit_s
            while child.poll() is None and time.monotonic() < until:
                time.sleep(0.2)
            code = child.poll()
        finally:
            child.stop()
        lines = log.read_text(errors="replace").splitlines()
    if code is None:
        return Finding(name, "fail", f"no result within {limit_s:g} s; at last: {_last(lines)}", step)
    results = [line for line in lines if line.startswith('{"probe"')]
    if code != 0 or not results:
        return Finding(name, "fail", f"ended with code {code}: {_last(lines)}", step)
    return judge(json.loads(results[-1]))


def _last(lines: Sequence[str]) -> str:
    """Pick the most informative line: the last that names an error or a signal, else the last that has words."""
    words = [line.strip() for line in lines if any(letter.isalpha() for letter in line)]
    causes = [line for line in words if _CAUSE.search(line) and "ChildFailedError" not in line]
    return (causes or words or ["it printed nothing"])[-1][:300]
