"""Checks of the machine: processor, memory, disk, GPU and programs."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from llmrl.checks.doctor.finding import Finding

_GIB = 2**30
SLOWER = 4.0  # times a float32 product; CPUs without bfloat16 products take fifty, others about one
KERNELS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
"""Flags of vector extensions that kernels of torch and vLLM use."""
_TOOLS: Sequence[tuple[str, tuple[str, ...], str, str]] = (
    # name, programs of which one is needed, Debian package, what needs it
    ("git", ("git",), "git", "manifests of runs and the software-engineering environment"),
    ("C compiler", ("cc", "gcc", "clang"), "gcc", "compiled kernels of DeepSpeed, Triton and vLLM"),
    ("chromium", ("chromium", "chromium-browser", "google-chrome"), "chromium", "web environments"),
    ("chromedriver", ("chromedriver",), "chromium-driver", "web environments"),
)


def findings() -> list[Finding]:
    """Run every check of the machine; none takes long."""
    cost = bfloat16_cost()
    return [
        processor(flags(), os.cpu_count() or 1),
        bfloat16(cost),
        _memory(),
        _disk(),
        gpu(),
        *map(_tool, _TOOLS),
        _bubblewrap(),
    ]


def processor(flags: Collection[str], cores: int) -> Finding:
    """Check the vector extensions that vLLM's CPU kernels need."""
    having = [name for name in KERNELS if name in flags]
    detail = f"{cores} cores, {platform.machine()}: {', '.join(having) or 'no vector extensions known'}"
    if "avx512f" in flags or "asimd" in flags:
        return Finding("processor", "ok", detail)
    if "avx2" in flags:
        return Finding("processor", "warn", detail, "vLLM is slow without AVX-512; engine.name=hf may be as fast")
    return Finding("processor", "warn", detail, "vLLM's CPU build needs AVX2 or Arm NEON; use engine.name=hf")


def bfloat16_cost(size: int = 512) -> float:
    """Measure a product of (size, size) matrices in bfloat16: how many times as long as in float32."""
    import torch

    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left = torch.ones(size, size, dtype=dtype)
        left @ left  # kernels are made at the first product
        seconds[dtype] = min(_spent(lambda left=left: left @ left) for _ in range(5))  # type: ignore[misc]
    return seconds[torch.bfloat16] / max(seconds[torch.float32], 1e-9)


def bfloat16(cost: float) -> Finding:
    """Check that bfloat16 products, which `train.bf16` and `model.dtype: bfloat16` ask for, are no slower here."""
    detail = f"a product on this CPU takes {cost:.2g} times as long as in float32"
    if cost <= SLOWER:
        return Finding("bfloat16", "ok", detail)
    return Finding("bfloat16", "warn", detail, "on this CPU train.bf16=false and model.dtype=float32")


def _spent(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def flags() -> set[str]:
    """Flags of the processor, as Linux names them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {"asimd"} if platform.machine() in ("arm64", "aarch64") else set()
    return {word for line in lines if line.lower().startswith(("flags", "features")) for word in line.split()}


def _memory() -> Finding:
    import psutil

    total = psutil.virtual_memory().total
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))  # of the container
    detail = f"{total / _GIB:.1f} GiB, {psutil.virtual_memory().available / _GIB:.1f} free"
    if total < 3 * _GIB:
        return Finding("memory", "fail", detail, "the demo needs 3 GiB")
    if total < 8 * _GIB:
        return Finding("memory", "warn", detail, "enough for the demo; a 0.5B model wants 16 GiB")
    return Finding("memory", "ok", detail)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    detail = f"{free / _GIB:.1f} GiB free in {Path.cwd()}"
    if free < 2 * _GIB:
        return Finding("disk", "fail", detail, "free some, or set train.output_dir to a larger disk")
    if free < 20 * _GIB:
        return Finding("disk", "warn", detail, "a checkpoint of a 0.5B model with its optimiser takes 8 GiB")
    return Finding("disk", "ok", detail)


def gpu() -> Finding:
    """Check the GPUs that torch sees, and look for one that it overlooks."""
    import torch

    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        return Finding("GPU", "ok", ", ".join(f"{c.name} {c.total_memory / _GIB:.0f} GiB" for c in cards))
    if _runs(["nvidia-smi", "-L"]) is None:
        detail = f"nvidia-smi finds one, torch {torch.__version__} does not"
        return Finding(
            "GPU", "warn", detail, "pip install 'llmrl[gpu]' in an environment of its own, or update the driver"
        )
    return Finding("GPU", "ok", "none: everything runs on the CPU")


def _tool(tool: tuple[str, tuple[str, ...], str, str]) -> Finding:
    name, programs, package, purpose = tool
    for program in programs:
        if path := shutil.which(program):
            return Finding(name, "ok", path)
    return Finding(name, "warn", f"missing; needed by {purpose}", f"apt-get install {package}")


def _bubblewrap() -> Finding:
    path = shutil.which("bwrap")
    purpose = "rewards that run code"
    if path is None:
        return Finding("bubblewrap", "warn", f"missing; needed by {purpose}", "apt-get install bubblewrap")
    problem = _runs([path, "--ro-bind", "/", "/", "--unshare-all", "true"])
    if problem is not None:
        step = "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1), or run as root"
        return Finding("bubblewrap", "warn", f"cannot isolate: {problem}; needed by {purpose}", step)
    return Finding("bubblewrap", "ok", path)


def _runs(argv: Sequence[str]) -> str | None:
    """Run a command: None where it succeeds, else the reason."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip() or f"exit code {done.returncode}")
