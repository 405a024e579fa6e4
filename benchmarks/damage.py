"""Damage the newest checkpoint of a run in 16 ways: each must be named, and the command that is printed must go on.

python benchmarks/damage.py            16 kinds: a table, exit code 1 where a kind passes unnoticed
python benchmarks/damage.py --cost 512 seconds that checksums add to the writing of so many MiB

A tiny run of one process and one under DeepSpeed's ZeRO 2 with two are made first. Each kind is tried on a copy:
`--resume` must end with a message that names the file, before anything is loaded; then the command behind `To go on
from it:` is run as it stands, and must end with the bits of the run that nothing happened to.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
RECIPE = """
model: {{policy: {folder}/model}}
data: {{name: arithmetic, high: 9}}
reward: {{name: numeric}}
algorithm: {{name: grpo}}
engine: {{name: hf}}
rollout: {{num_generations: 2, prompts_per_step: 2, max_completion_length: 4, max_prompt_length: 32, reward_workers: 1}}
train: {{max_steps: 4, learning_rate: 1e-3, save_steps: 1, save_total_limit: 3,
         output_dir: {folder}/runs, report_to: none}}
"""
ZERO2 = ["accelerate", "launch", "--config_file", str(ROOT / "recipes" / "accelerate" / "zero2.yaml")]
ZERO2 += ["--num_processes", "2", "--main_process_port", "0", "-m", "llmrl"]
LAUNCHERS = {"one process": ["python", "-m", "llmrl"], "ZeRO 2": ZERO2}


@dataclass(frozen=True)
class Kind:
    """A way to damage a file of a checkpoint."""

    name: str
    file: str  # a pattern; the first that matches
    harm: Callable[[Path], None]
    launch: str = "one process"
    named: str = ""  # another file that the message must name


def flip(path: Path) -> None:
    """Change a bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def digit(path: Path) -> None:
    """Another digit, so that it stays JSON."""
    text = path.read_text()
    at = next(place for place in range(len(text) - 1, 0, -1) if text[place] in "12345678")
    path.write_text(text[:at] + str(int(text[at]) + 1) + text[at + 1 :])


def cut(path: Path) -> None:
    """The last byte is gone."""
    path.write_bytes(path.read_bytes()[:-1])


def zeros(path: Path) -> None:
    """A page of zeros, as a disk leaves behind after a loss of power."""
    content = path.read_bytes()
    path.write_bytes(content[:-512] + bytes(min(512, len(content))))


def empty(path: Path) -> None:
    """Nothing is left in it."""
    path.write_bytes(b"")


def longer(path: Path) -> None:
    """Bytes behind its end."""
    path.write_bytes(path.read_bytes() + b"\n")


def directory(path: Path) -> None:
    """A folder in its place."""
    path.unlink()
    path.mkdir()


def older(path: Path) -> None:
    """The same file of the checkpoint before."""
    before = path.parents[1] / "step-000003" / path.name
    shutil.copy(before, path)


def swapped(path: Path) -> None:
    """Exchanged with the file of the other process."""
    first, second = sorted(path.parent.glob("*_optim_states.pt"))
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def added(path: Path) -> None:
    """An empty file that Accelerate would read."""
    path.with_name("custom_checkpoint_0.pkl").touch()


KINDS = [
    Kind("a bit of the weights", "model.safetensors", flip),
    Kind("a bit of the optimiser", "optimizer.bin", flip),
    Kind("a bit of the random states", "random_states_0.pkl", flip),
    Kind("a bit of the arrays", "run.safetensors", flip),
    Kind("a digit of the JSON", "run.json", digit),
    Kind("weights cut by a byte", "model.safetensors", cut),
    Kind("zeros in the optimiser", "optimizer.bin", zeros),
    Kind("JSON emptied", "run.json", empty),
    Kind("weights missing", "model.safetensors", Path.unlink),
    Kind("a folder in place of the weights", "model.safetensors", directory),
    Kind("state of another step", "run.json", older),
    Kind("an empty file added", "run.json", added, named="custom_checkpoint_0.pkl"),
    Kind("checksums damaged", "checksums.json", digit),
    Kind("checksums missing", "checksums.json", Path.unlink),
    Kind("a bit of DeepSpeed's shard of rank 1", "pytorch_model/*rank_1*_optim_states.pt", flip, "ZeRO 2"),
    Kind("shards of two ranks swapped", "pytorch_model/*rank_0*_optim_states.pt", swapped, "ZeRO 2"),
]


def run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return subprocess.run(words, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=300)


def whole_run(folder: Path, launch: str) -> Path:
    """A run that nothing happens to, in a folder of its own."""
    (folder / "mine.yaml").write_text(RECIPE.format(folder=folder))
    done = run([*LAUNCHERS[launch], "train", str(folder / "mine.yaml"), "--quiet"])
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return folder / "runs" / "mine"


def tried(kind: Kind, folder: Path, weights: bytes) -> tuple[bool, str]:
    """True where the kind was named and the printed command went on to the same weights; and the message."""
    kept, mine = folder / "kept", folder / "runs" / "mine"
    shutil.rmtree(mine)
    shutil.copytree(kept, mine)
    shutil.rmtree(mine / "final")
    path = next((mine / "checkpoints" / "step-000004").glob(kind.file))
    kind.harm(path)
    stopped = run([*LAUNCHERS[kind.launch], "train", str(folder / "mine.yaml"), "--quiet", "--resume"])
    messages = {line for line in stopped.stderr.splitlines() if "llmrl: " in line and "damaged" in line}
    if stopped.returncode == 0 or not messages:
        return False, "not noticed: " + (stopped.stderr.splitlines() or ["it went on"])[-1]
    message = min(messages)
    if (kind.named or path.name) not in message or "To go on from it: " not in message:
        return False, message
    going_on = run(shlex.split(message.partition("To go on from it: ")[2]))
    final = mine / "final" / "model.safetensors"
    right = going_on.returncode == 0 and final.exists() and final.read_bytes() == weights
    return right, message if right else f"{message}\n{going_on.stderr[-2000:]}"


def cost(mib: int) -> None:
    """Print the seconds of writing, of writing and fsync, and of both with checksums; the best of three."""
    from llmrl.run_folder import checksums

    block = os.urandom(1 << 20)
    with TemporaryDirectory(dir=ROOT) as name:
        folder = Path(name)

        def write() -> None:
            for file in ("model.safetensors", "optimizer.bin"):
                with (folder / file).open("wb") as opened:
                    for _ in range(mib // 2):
                        opened.write(block)

        def flushed() -> None:
            write()
            for file in checksums.names(folder):
                checksums.flush(folder / file)

        def summed() -> None:
            write()
            checksums.write(folder, checksums.flushed(folder, checksums.names(folder)))

        for work in (write, flushed, summed, lambda: checksums.damage(folder)):
            seconds = []
            for _ in range(3):
                began = time.perf_counter()
                work()
                seconds.append(time.perf_counter() - began)
            print(f"{getattr(work, '__name__', 'work'):10} {min(seconds):.2f} s for {mib} MiB")


def main() -> None:
    """Print the table, or the cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost", type=int, metavar="MIB")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if arguments.cost:
        cost(arguments.cost)
        return
    from llmrl import tiny

    failed = 0
    print("| kind | processes | message | the command went on |\n|---|---|---|---|", flush=True)
    for launch in LAUNCHERS:
        with TemporaryDirectory() as name:
            folder = Path(name)
            tiny.make(folder / "model", vocab="arithmetic", seed=0)
            mine = whole_run(folder, launch)
            shutil.copytree(mine, folder / "kept")
            weights = (mine / "final" / "model.safetensors").read_bytes()
            for kind in KINDS:
                if kind.launch == launch:
                    right, message = tried(kind, folder, weights)
                    failed += not right
                    short = message.replace(str(folder), "").partition("llmrl: ")[2].partition(" Nothing was")[0]
                    row = [kind.name, launch, short if right else message, "yes" if right else "NO"]
                    print(f"| {' | '.join(row)} |", flush=True)
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
