"""Seconds to sample and to train by how threads wait, where they run and who gives memory: a table idle and busy.

    python benchmarks/threads.py                                    # idle: run it where nothing else runs
    python benchmarks/threads.py --busy 1                           # the same beside a process that never rests
    python benchmarks/threads.py --busy 0 1 --rounds 5 --out benchmarks/threads.json

Each setting is of variables that libraries read once, when they start, so each measure is a process of its own;
settings take turns, there and back. The model is that of grpo_vs_trl.py: 25M parameters, random weights. `tcmalloc` and
`libiomp` are preloaded where they are found (`--preload NAME=PATH` names others), else left out with a sentence.
"""

from __future__ import annotations

import argparse
import ctypes.util
import json
import multiprocessing
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

OURS = ("OMP_", "GOMP_", "KMP_", "VLLM_CPU_OMP", "LD_PRELOAD")
LIMIT_S = 1800.0  # of one process
Times = list[tuple[float, float]]


def settings(preloads: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Variables by the name of the setting."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    made = {
        "nothing set": {},
        "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
        "active": {"OMP_WAIT_POLICY": "ACTIVE"},
        "spin 1000": {"GOMP_SPINCOUNT": "1000"},
        "spin 10000": {"GOMP_SPINCOUNT": "10000"},
        "spin 100000": {"GOMP_SPINCOUNT": "100000"},
        "passive, bound": {"OMP_WAIT_POLICY": "PASSIVE", "OMP_PROC_BIND": "close", "OMP_PLACES": "cores"},
        "passive, vLLM bound": {"OMP_WAIT_POLICY": "PASSIVE", "VLLM_CPU_OMP_THREADS_BIND": cores},
        "passive, vLLM unbound": {"OMP_WAIT_POLICY": "PASSIVE", "VLLM_CPU_OMP_THREADS_BIND": "nobind"},
    }
    for name, path in preloads.items():
        made[f"passive, {name}"] = {"OMP_WAIT_POLICY": "PASSIVE", "LD_PRELOAD": str(path)}
        if name == "libiomp":
            for milliseconds in (0, 1, 200):
                blocking = {"LD_PRELOAD": str(path), "KMP_BLOCKTIME": str(milliseconds)}
                made[f"libiomp, blocktime {milliseconds}"] = blocking
    return made


def found(given: Sequence[str]) -> dict[str, Path]:
    """Libraries to preload, by name; says which are not there."""
    wanted = {"tcmalloc": ("tcmalloc_minimal", "libtcmalloc_minimal.so*"), "libiomp": ("iomp5", "libiomp5.so*")}
    libraries = {name: Path(path) for name, _, path in (one.partition("=") for one in given)}
    inside = Path(sysconfig.get_paths()["purelib"])
    for name, (linked, pattern) in wanted.items():
        if name in libraries:
            continue
        there = [*inside.parents[1].glob(pattern), *inside.glob(f"*/{pattern}"), *inside.glob(f"*/lib/{pattern}")]
        there += [path for path in Path("/usr/lib").glob(f"*/{pattern}") if path.is_file()]
        if there:
            libraries[name] = there[0]
        elif ctypes.util.find_library(linked):
            libraries[name] = Path(str(ctypes.util.find_library(linked)))
        else:
            print(f"{name} is not installed, and left out", flush=True)
    return libraries


def one(model: str) -> dict[str, Times]:
    """Measure in this process: completions of a step by vLLM, and an optimiser step on its rows."""
    import cpu

    options = argparse.Namespace(model=model, rounds=2)
    drawn = [128] * (cpu.PROMPTS * cpu.GENERATIONS)
    return {
        "sample": cpu.sample(model, 2),
        "train": cpu.steps(options, {"train": {}}, cpu.credited(cpu.PROMPTS, drawn))["train"],
    }


def measure(model: str, variables: Mapping[str, str]) -> dict[str, Times]:
    """The same in a fresh process with these variables and no others of the kind.

    Raises:
        RuntimeError: it fails.
    """
    here = Path(__file__).resolve().parent
    env = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    path = os.pathsep.join([str(here.parent), str(here), env.get("PYTHONPATH", "")])
    command = [sys.executable, __file__, "--model", model, "--once"]
    done = subprocess.run(
        command,
        env=env | dict(variables) | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    taken: dict[str, Times] = json.loads(done.stdout.splitlines()[-1])
    return taken


def table(options: argparse.Namespace, busy: int) -> dict[str, Any]:
    """Seconds of each setting, beside so many processes that never rest."""
    chosen = {
        name: made
        for name, made in settings(found(options.preload)).items()
        if not options.only or name in options.only
    }
    taken: dict[str, dict[str, Times]] = {name: {"sample": [], "train": []} for name in chosen}
    failed: dict[str, str] = {}
    restless = [multiprocessing.Process(target=_rest_never, daemon=True) for _ in range(busy)]
    try:
        for process in restless:
            process.start()
        for turn in range(options.rounds):
            for name in chosen if turn % 2 == 0 else reversed(chosen):
                try:
                    for what, times in measure(options.model, chosen[name]).items():
                        taken[name][what] += times
                        print(f"round {turn + 1}, {name}, {what}: {times}", flush=True)
                except RuntimeError as error:
                    failed[name] = str(error)
    finally:
        for process in restless:
            process.kill()
    rows = {
        name: {
            what: {"wall": median(t[0] for t in times), "cpu": median(t[1] for t in times), "times": times}
            for what, times in measured.items()
        }
        for name, measured in taken.items()
        if all(measured.values())
    }
    return {"busy": busy, "load_average": os.getloadavg(), "settings": rows, "failed": failed, "variables": chosen}


def show(result: Mapping[str, Any]) -> None:
    """A line for each setting."""
    print(f"beside {result['busy']} busy processes, load average {result['load_average']}:")
    for name, measured in result["settings"].items():
        parts = [
            f"{what} {times['wall']:6.2f} s ({times['cpu']:6.2f} of the processor)" for what, times in measured.items()
        ]
        print(f"{name:>24}: {', '.join(parts)}")
    for name, reason in result["failed"].items():
        print(f"{name:>24}: fails: {reason}")


def _rest_never() -> None:
    while True:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, nargs="+", default=[0], help="processes that never rest, a table each")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each setting")
    parser.add_argument("--preload", nargs="*", default=[], metavar="NAME=PATH", help="libraries to preload")
    parser.add_argument("--only", nargs="+", metavar="SETTING", help="such as passive, 'spin 1000'; all without")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    parser.add_argument("--model", help="made where it is not given")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(one(options.model)))
        return
    from llmrl import tiny

    with tempfile.TemporaryDirectory() as folder:
        options.model = options.model or str(tiny.make(folder, hidden=512, layers=8, max_positions=2048))
        tables = [table(options, busy) for busy in options.busy]
    for result in tables:
        show(result)
    command = "python " + " ".join(sys.argv)
    if options.out is not None:
        options.out.write_text(json.dumps({"tables": tables, "command": command}, indent=2) + "\n")
    print(f"command: {command}; {len(os.sched_getaffinity(0))} cores")


if __name__ == "__main__":
    main()
