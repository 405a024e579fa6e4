"""Learning from stored answers by the real command: what runs, what is learned, and from what."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
RECIPE = """
model: {{policy: {model}}}
algorithm: {{name: bc, weights: {weights}}}
source: {{name: offline, path: {rows}}}
rollout: {{prompts_per_step: 8, max_prompt_length: 32, max_completion_length: 8}}
train: {{max_steps: {steps}, learning_rate: 3e-3, output_dir: {out}, report_to: none, save_steps: 0}}
{more}
"""


def rows(path: Path) -> Path:
    """Sums, each answered rightly with reward 1 and wrongly, by a fixed digit, with reward 0."""
    stored = [
        {"prompt": f"{a}+{b}=", "completion": answer, "reward": reward}
        for a in range(5)
        for b in range(5)
        for answer, reward in ((str(a + b), 1.0), ("7", 0.0))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in stored))
    return path


def write(folder: Path, model: Path, weights: str = "none", steps: int = 4, more: str = "") -> Path:
    path = folder / "run.yaml"
    stored = rows(folder / "rows.jsonl")
    text = RECIPE.format(model=model, weights=weights, rows=stored, steps=steps, out=folder, more=more)
    path.write_text(text)
    return path


def session(leader: int) -> dict[int, str]:
    """Processes of a session and the command line of each."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            facts = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(facts[3]) == leader:
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, IndexError):
            continue  # it has ended
    return found


def watched(recipe: Path) -> tuple[set[str], set[str]]:
    """Command lines that were alive at any time of the run, and the libraries that they had mapped."""
    log = recipe.with_suffix(".log")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "llmrl", "train", str(recipe), "--quiet"]
    with log.open("w") as out:
        run = subprocess.Popen(command, stdout=out, stderr=out, env=environment, cwd=ROOT, start_new_session=True)
    commands: set[str] = set()
    libraries: set[str] = set()
    until = time.monotonic() + 120
    while run.poll() is None and time.monotonic() < until:
        for process, line in session(run.pid).items():
            commands.add(line.strip())
            try:
                maps = Path(f"/proc/{process}/maps").read_text()
            except OSError:
                continue
            libraries |= {line.rpartition("/site-packages/")[2].partition("/")[0] for line in maps.splitlines()}
        time.sleep(0.05)
    assert run.wait(10) == 0, log.read_text()[-3000:]
    return commands, libraries


def test_a_run_of_stored_answers_starts_no_engine(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Its engine is the default, vllm: neither its library nor a process of it or of graders ever shows."""
    commands, libraries = watched(write(tmp_path, tiny_model_dir, steps=6))
    trainers = {line for line in commands if "llmrl train" in line}
    assert len(trainers) == 1
    others = [line for line in commands - trainers if "python" in line.partition(" ")[0] or "vllm" in line.lower()]
    assert not others, "engines and graders are processes of Python"
    assert {"torch", "tokenizers"} <= libraries
    assert "vllm" not in libraries
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    assert not [
        name for line in lines for name in line if name.startswith(("sync/", "time/generate", "reward_latency"))
    ]
    assert (tmp_path / "run" / "rollouts.jsonl").read_text() == ""


def test_an_evaluation_is_what_starts_one(tiny_model_dir: Path, tmp_path: Path) -> None:
    """After steps 2 and 4 of 4: the weights are sent then, proved, and at no other time."""
    from llmrl.recipe import read
    from llmrl.train.loop import train
    from llmrl.train.run import Run

    more = "engine: {name: hf}\neval: {every: 2, benchmarks: [arithmetic], limit: 2}"
    with Run(read(write(tmp_path, tiny_model_dir, more=more)), name="run") as run:
        train(run)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert ["sync/probe_logp_gap" in line for line in lines] == [False, True, False, True]
    assert ["eval/arithmetic/avg@1" in line for line in lines] == [False, True, False, True]


@pytest.mark.parametrize("weights", ["none", "filtered"])
def test_the_filter_decides_what_is_imitated(weights: str, tiny_model_dir: Path, tmp_path: Path) -> None:
    """Half of the answers are a wrong 7: unfiltered, it becomes the likeliest answer; filtered, the right ones do."""
    import torch
    from transformers import AutoModelForCausalLM

    from llmrl.chat import Chat, load_tokenizer
    from llmrl.recipe import read
    from llmrl.train.loop import train
    from llmrl.train.run import Run

    with Run(read(write(tmp_path, tiny_model_dir, weights, steps=60)), name="run") as run:
        train(run)
    final = tmp_path / "run" / "final"
    assert load_file(final / "model.safetensors")
    model, chat = AutoModelForCausalLM.from_pretrained(final), Chat(load_tokenizer(final))
    seven = chat.tokenizer("7", add_special_tokens=False)["input_ids"][0]
    chosen = []
    for a in range(5):
        prompt = torch.tensor([chat.prompt_ids([{"role": "user", "content": f"{a}+0="}])])
        with torch.no_grad():
            chosen.append(int(model(prompt).logits[0, -1].argmax()))
    assert (chosen.count(seven) == 5) == (weights == "none")
    assert (seven in chosen) == (weights == "none")
