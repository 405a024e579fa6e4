"""Bad input through the command line: a message that says where, what was found and what to do."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmrl.cli.main import main

RECIPE = """
model: {{policy: {model}}}
data: {{name: jsonl, path: {data}}}
reward: {{name: numeric}}
algorithm: {{name: grpo}}
engine: {{name: hf}}
rollout: {{num_generations: 2, prompts_per_step: 2, max_completion_length: 4, max_prompt_length: 40, reward_workers: 1}}
train: {{max_steps: 2, output_dir: {out}, report_to: none}}
"""
ROWS = [{"question": "1+1=", "answer": "2"}, {"question": "2+2=", "answer": "4"}, {"question": "3+3=", "answer": "6"}]
REWARDS = """
import time

from llmrl.types import Score


def raises(problem, text):
    raise KeyError("rubric")


def hangs(problem, text):
    time.sleep(60)
    return Score(1.0)


def fails(prompts, completions, **columns):
    raise ZeroDivisionError("no tests")


class Judge:
    async def score(self, group):
        raise ConnectionError("judge unreachable")


judge = Judge()
"""


@pytest.fixture
def recipe(tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "bad_rewards.py").write_text(REWARDS)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE.format(model=tiny_model_dir, data=tmp_path / "rows.jsonl", out=tmp_path / "runs"))
    return path


Refused = Callable[..., str]


@pytest.fixture
def refused(recipe: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Refused:
    """The message that `llmrl train mine.yaml ...` ends with."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["llmrl", "train", str(recipe), "--quiet", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capfd.readouterr()
        assert stopped.value.code == 1, said.err
        assert "Traceback" not in said.out + said.err
        messages = [line for line in said.err.splitlines() if line.startswith("llmrl: ")]
        assert len(messages) == 1, said.err
        return messages[0]

    return run


def test_the_recipe_itself_is_right(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["llmrl", "train", str(recipe), "--quiet"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    assert (recipe.parent / "runs" / "mine" / "final" / "config.json").exists()


def test_an_unknown_key(refused: Refused, recipe: Path) -> None:
    assert refused("train.learnin_rate=1e-5").startswith(
        f"llmrl: {recipe}: train.learnin_rate: unknown key; did you mean 'learning_rate'?; known: max_steps, "
    )
    assert refused("algorithm.epsilon_hi=0.28").startswith(
        f"llmrl: {recipe}: algorithm.epsilon_hi: unknown key; did you mean 'epsilon_high'?; known: epsilon, "
    )
    assert refused("reward.name=numerik").startswith(
        f"llmrl: {recipe}: reward: unknown reward 'numerik'; did you mean 'numeric'?; known: "
    )


def test_a_wrong_type(refused: Refused, recipe: Path) -> None:
    assert refused("train.max_steps=many") == (
        f"llmrl: {recipe}: train.max_steps: input should be a valid integer, unable to parse string as an integer; "
        "found 'many'"
    )


def test_a_missing_recipe(recipe: Path, refused: Refused) -> None:
    recipe.unlink()
    assert refused() == (
        f"llmrl: {recipe}: cannot be read: No such file or directory; `llmrl recipes` lists those that ship"
    )


def test_a_broken_row(recipe: Path, refused: Refused) -> None:
    rows = recipe.parent / "rows.jsonl"
    rows.write_text('{"question": "1+1=", "answer": "2"}\n{"question": "2+2=", "answer":\n')
    assert refused() == (
        f'llmrl: {rows}:2: not JSON: Expecting value at column 31; found \'{{"question": "2+2=", "answer":\'; '
        "the text ends before its value does; mend or remove the line, or write an object a line, as `jq -c . FILE` "
        "does"
    )


def test_a_missing_column(recipe: Path, refused: Refused) -> None:
    rows = recipe.parent / "rows.jsonl"
    assert refused("data.answer_column=solution") == (
        f"llmrl: {rows}:1: no column 'solution'; found question, answer; every row must have it, or name another with "
        "prompt_column or answer_column"
    )
    rows.write_text('{"query": "1+1=", "answer": "2"}\n')
    assert refused().startswith(f"llmrl: {rows}:1: no prompt column; expected one of prompt, messages, ")


def test_a_model_without_tokenizer(recipe: Path, refused: Refused, tiny_model_dir: Path) -> None:
    folder = recipe.parent / "bare"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny_model_dir / name, folder)
    message = refused(f"model.policy={folder}")
    assert message.startswith(
        f"llmrl: {folder}: no tokenizer in this folder; expected tokenizer.json, found config.json"
    )
    assert "tokenizer.save_pretrained" in message


def test_a_model_that_is_not_there(recipe: Path, refused: Refused) -> None:
    message = refused(f"model.policy={recipe.parent / 'none'}")
    assert message.startswith(f"llmrl: model {recipe.parent / 'none'}: no such folder here; {recipe.parent} holds ")
    assert "Expected a model's folder, or a name of the hub" in message


def test_a_prompt_that_is_too_long(refused: Refused) -> None:
    message = refused("rollout.max_prompt_length=5")
    assert message == (
        "llmrl: data: 3 of 3 prompts are longer than rollout.max_prompt_length 5, the longest of problem rows/0 with 7 "
        "tokens (then rows/1, rows/2); set it to 7"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "raises",
            r"error: raises raised KeyError: 'rubric' \(.*bad_rewards\.py:\d+\)\. Mend the reward, or raise rollout\.",
        ),
        ("fails", r"error: fails raised ZeroDivisionError: no tests \(.*bad_rewards\.py:\d+\)"),
        ("judge", r"error: Judge raised ConnectionError: judge unreachable \(.*bad_rewards\.py:\d+\)"),
    ],
)
def test_a_reward_that_raises(refused: Refused, name: str, said: str) -> None:
    message = refused(f"reward.name=bad_rewards:{name}")
    assert message.startswith("llmrl: 4 of 4 episodes could not be scored, above rollout.max_error_share 0.1; ")
    assert message.count("problem rows/") == 1
    assert re.search(said, message)


def test_a_column_that_the_reward_fills_itself(recipe: Path, refused: Refused) -> None:
    rows = [row | {"completions": "2"} for row in ROWS]
    (recipe.parent / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reward = "reward={name: mix, parts: {'bad_rewards:fails': 1.0, numeric: 1.0}}"
    nobody = "engine={name: server, urls: ['http://127.0.0.1:9/v1']}"  # which would be an error of its own
    said = refused(reward, nobody)
    assert "problem rows/0: the data has a column 'completions', and fails is passed something else by that" in said


def test_a_reward_that_hangs(refused: Refused) -> None:
    message = refused("reward.name=bad_rewards:hangs", "rollout.reward_timeout_s=0.3")
    assert "4 of 4 episodes could not be scored" in message
    assert "timeout: hangs took longer than 0.3 s and was killed" in message
    assert "rollout.reward_timeout_s" in message


def test_an_output_that_cannot_be_written(recipe: Path, refused: Refused) -> None:
    taken = recipe.parent / "taken"
    taken.write_text("a file")
    assert refused(f"train.output_dir={taken}") == (
        f"llmrl: {taken / 'mine'}: cannot be made: Not a directory; choose another train.output_dir"
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 6 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = (
        subprocess.run([mount, "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], capture_output=True) if mount else None
    )
    if done is None or done.returncode != 0:
        pytest.skip("a full disk needs a small one to fill: only root may mount it")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


FILLS = """
import os


def fills(completions, **columns):
    try:
        with open(os.environ["SMALL_DISK"] + "/full", "wb") as file:
            while True:
                file.write(b"0" * 4096)
                file.flush()
    except OSError:
        return [float(len(one[0]["content"])) for one in completions]
"""


def trained(recipe: Path, disk: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own, with a tracker that writes there too."""
    overrides = [f"train.output_dir={disk}", "train.report_to=tensorboard", *more]
    paths = [str(recipe.parent), *filter(None, sys.path)]
    return subprocess.run(
        [sys.executable, "-m", "llmrl", "train", str(recipe), "--quiet", *overrides],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "SMALL_DISK": str(disk)},
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_a_disk_without_room_is_refused_before_the_first_step(recipe: Path, small_disk: Path) -> None:
    (small_disk / "other").write_bytes(b"0" * (5 << 20))
    done = trained(recipe, small_disk)
    assert done.returncode == 1, done.stderr
    message = done.stderr[done.stderr.rindex("llmrl: ") :]
    assert message.startswith(f"llmrl: {small_disk / 'mine'}: 1 MiB are free there, and a checkpoint with the exported")
    assert not (small_disk / "mine" / "metrics.jsonl").exists()


def test_a_full_disk(recipe: Path, small_disk: Path) -> None:
    """A disk that others fill while the run goes on: nothing but the message is left of it."""
    (recipe.parent / "fills_the_disk.py").write_text(FILLS)
    done = trained(recipe, small_disk, "reward={name: fills_the_disk:fills}")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    message = done.stderr[done.stderr.rindex("llmrl: ") :]
    assert message.startswith(f"llmrl: {small_disk / 'mine'}")
    assert "ake room, then start again with --resume" in message
