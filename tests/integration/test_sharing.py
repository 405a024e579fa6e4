"""A run's model is shared: exported, described by a card, and pushed to a hub by the real client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmrl import tiny
from tests.fake_hub import FakeHub

ROOT = Path(__file__).parents[2]
TOKEN = "hf_right"


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with FakeHub(TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharing")
    tiny.make(folder / "model", vocab="arithmetic", hidden=32, layers=1, heads=1, kv_heads=1)
    recipe: dict[str, Any] = {
        "model": {"policy": "model", "use_peft": True, "lora_r": 2},
        "data": {"name": "arithmetic", "low": 10, "count": 8},
        "reward": {"name": "numeric"},
        "algorithm": {"name": "grpo"},
        "engine": {"name": "hf"},
        "rollout": {"prompts_per_step": 2, "num_generations": 2, "max_completion_length": 4},
        "train": {"max_steps": 2, "save_steps": 1, "report_to": "none"},
        "eval": {"every": 1, "benchmarks": ["arithmetic"], "limit": 4},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def llmrl(place: Path, hub: FakeHub, *words: str, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_ENDPOINT": hub.url, "HF_HOME": str(place / "hf")}
    env |= {"HF_HUB_DISABLE_XET": "1", **({"HF_TOKEN": token} if token else {})}
    return subprocess.run(
        [sys.executable, "-m", "llmrl", *words], cwd=place, env=env, capture_output=True, text=True, timeout=250
    )


@pytest.fixture(scope="module")
def pushed(place: Path, hub: FakeHub) -> subprocess.CompletedProcess[str]:
    options = ["push_to_hub=true", "hub_model_id=me/sums", "hub_strategy=checkpoint", "hub_private_repo=true"]
    words = ["train", "recipe.yaml", "train.run_name=shared", *(f"train.{option}" for option in options)]
    done = llmrl(place, hub, *words, f"train.hub_token={TOKEN}", token=None)
    assert done.returncode == 0, done.stderr
    return done


def test_a_run_is_pushed_as_its_strategy_says(pushed: object, hub: FakeHub, place: Path) -> None:
    repo = hub.repos["me/sums"]
    assert repo["private"] is True
    assert repo["commits"] == [
        "1 steps", "checkpoint after 1 steps", "2 steps", "checkpoint after 2 steps", "final model, 2 steps"
    ]  # fmt: skip
    final = place / "runs" / "shared" / "final"
    for name in ("config.json", "generation_config.json", "chat_template.jinja", "tokenizer.json", "model.safetensors"):
        assert hub.files("me/sums")[name] == (final / name).read_bytes(), name
    assert "adapter/adapter_model.safetensors" in hub.files("me/sums")
    assert any(name.startswith("last-checkpoint/") for name in hub.files("me/sums"))


def test_the_token_is_written_nowhere(pushed: subprocess.CompletedProcess[str], hub: FakeHub, place: Path) -> None:
    kept = [path for path in (place / "runs" / "shared").rglob("*") if path.is_file()]
    assert not [path for path in kept if TOKEN.encode() in path.read_bytes()]
    assert not [name for name, content in hub.files("me/sums").items() if TOKEN.encode() in content]
    assert "<HUB_TOKEN>" in (place / "runs" / "shared" / "manifest.json").read_text()


def test_the_terminal_has_our_lines_alone(pushed: subprocess.CompletedProcess[str]) -> None:
    lines = pushed.stdout.splitlines()
    assert not [line for line in lines if not line.startswith(("train ", "model: ", "next: "))]
    assert not pushed.stderr


def test_the_card_tells_what_a_reader_wants(pushed: object, place: Path) -> None:
    run = place / "runs" / "shared"
    card = (run / "final" / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    results = json.loads((run / "eval" / "step-000002" / "results.json").read_text())["arithmetic"]["metrics"]["avg@1"]
    assert (front["library_name"], front["tags"][0]) == ("transformers", "llmrl")
    assert front["model-index"][0]["results"][0]["metrics"] == [{"type": "avg@1", "value": results["value"]}]
    interval = f"{results['value']:.1%} | {results['low']:.1%} to {results['high']:.1%}"
    assert f"| arithmetic | avg@1 | 2 | {interval} |" in card
    assert 'from_pretrained("me/sums")' in card
    again = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert again == yaml.safe_load((run / "recipe.yaml").read_text())
    manifest = json.loads((run / "manifest.json").read_text())
    assert f"torch {manifest['packages']['torch']}" in card
    assert manifest["data"]["sha256"] in card


@pytest.mark.parametrize(
    ("options", "token", "said"),
    [
        (["train.hub_model_id=others/sums"], TOKEN, "others/sums: "),
        (["train.hub_model_id=me/sums"], "hf_wrong", "push_to_hub me/sums: "),
        (["train.hub_model_id=me/sums"], None, "no token of the hub"),
        (["train.hub_model_id=not a name"], TOKEN, "no name of a hub"),
    ],
)
def test_what_cannot_be_pushed_is_known_before_the_first_step(
    options: list[str], token: str | None, said: str, place: Path, hub: FakeHub
) -> None:
    words = ["train", "recipe.yaml", "train.run_name=refused", "train.push_to_hub=true", *options]
    done = llmrl(place, hub, *words, token=token)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "runs" / "refused" / "metrics.jsonl").exists()


def test_a_hub_that_fails_costs_no_finished_work(place: Path, hub: FakeHub) -> None:
    hub.refuses = "1 steps"
    words = ["train.push_to_hub=true", "train.hub_model_id=me/failing", "train.run_name=failing", "eval.every=0"]
    done = llmrl(place, hub, "train", "recipe.yaml", *words)
    assert done.returncode == 0, done.stderr
    assert "the run goes on" in done.stderr
    assert hub.repos["me/failing"]["commits"] == ["2 steps", "final model, 2 steps"]
    hub.refuses = "final"
    done = llmrl(place, hub, "train", "recipe.yaml", *words[:2], "train.run_name=lost", "eval.every=0")
    hub.refuses = ""
    assert done.returncode == 1
    advice = done.stderr.partition("push it again: llmrl ")[2].split()
    assert json.loads((place / "runs" / "lost" / "manifest.json").read_text())["status"] == "finished"
    done = llmrl(place, hub, *advice)
    assert done.returncode == 0, done.stderr
    assert hub.repos["me/failing"]["commits"][-1] == "final of lost"


def test_export_gives_the_model_the_adapter_or_both(pushed: object, place: Path, hub: FakeHub) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = place / "runs" / "shared"
    for words in (["--step", "final"], ["--step", "1", "--adapter"], ["--step", "best", "--merged"]):
        assert llmrl(place, hub, "export", "runs/shared", "--out", f"out{words[-1]}", *words).returncode == 0
    both, adapter, merged = place / "outfinal", place / "out--adapter", place / "out--merged"
    assert (both / "model.safetensors").read_bytes() == (run / "final" / "model.safetensors").read_bytes()
    assert (both / "adapter").is_dir()
    assert not (merged / "adapter").exists()
    for name in ("model.safetensors", "generation_config.json", "chat_template.jinja", "README.md"):
        assert (merged / name).is_file(), name
    assert not (adapter / "model.safetensors").exists()
    base: Any = AutoModelForCausalLM.from_pretrained(place / "model")
    assert PeftModel.from_pretrained(base, str(adapter)) is not None
    assert AutoTokenizer.from_pretrained(adapter).chat_template
    assert "trained for 1 steps" in (adapter / "README.md").read_text()
