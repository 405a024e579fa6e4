"""A start that is killed while DeepSpeed compiles, and the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_start_killed_in_mid_compile_holds_nobody_up(tmp_path: Path) -> None:
    place = tmp_path / "extensions"
    built = place / "deepspeed_shm_comm"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu", "TORCH_EXTENSIONS_DIR": str(place)}
    argv = [sys.executable, "-m", "llmrl.train.extensions"]
    first = subprocess.Popen(argv, env=environment, cwd=ROOT, start_new_session=True)
    until = time.monotonic() + 300
    while not (built / "build.ninja").exists():
        assert first.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(60)
    assert (built / "lock").exists(), "torch cleans up after itself: the module may be thinner now"
    second = subprocess.run(
        argv,
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert second.returncode == 0, second.stderr
    assert f"removed {built / 'lock'}" in second.stderr
    assert "DeepSpeed compiles deepspeed_shm_comm, once" in second.stderr
    assert (built / "deepspeed_shm_comm.so").exists()
    assert not (built / "lock").exists()
