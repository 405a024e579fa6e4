"""Faults of a model, its tokenizer or its folder are refused before the first step, by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from llmrl.errors import CheckpointError, LlmrlError, RecipeError
from llmrl.recipe import Recipe, parse
from llmrl.tiny import make_tokenizer
from llmrl.train import export_trial
from llmrl.train.dry_run import require_possible
from llmrl.train.loop import train
from llmrl.train.run import Run
from tests.unit.critics.test_language_model import model, small

pytestmark = pytest.mark.filterwarnings("default")  # of Transformers, about its own affairs


def recipe(policy: Path, out: Path, **changes: Any) -> Recipe:
    return parse(
        {
            "model": {"policy": str(policy)} | changes.pop("model", {}),
            "data": {"name": "arithmetic", "high": 30},
            "reward": {"name": "numeric"},
            "algorithm": {"name": "grpo"},
            "engine": {"name": "hf"},
            "rollout": {
                "num_generations": 2,
                "prompts_per_step": 2,
                "max_completion_length": 4,
                "max_prompt_length": 48,
                "reward_workers": 1,
            },
            "train": {"max_steps": 1, "output_dir": str(out), "report_to": "none"},
        }
        | changes
    )


@pytest.fixture
def copied(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A tiny model's folder to spoil."""
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))


def saved(kind: str, folder: Path, **options: Any) -> Path:
    """A folder of a small model of another architecture, with the tiny tokenizer."""
    tokenizer = make_tokenizer()
    model(kind, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **options).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def refused(made: Recipe) -> str:
    """The message with which a run is refused before its first step; nothing of a trial is left."""
    with pytest.raises(LlmrlError) as error:
        Run(made, name="one")
    assert not list(Path(made.train.output_dir).glob(f"one/{export_trial.TRIAL}"))
    assert "\n" not in str(error.value)
    return str(error.value)


def changed(folder: Path, name: str, **values: Any) -> Path:
    file = folder / name
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(known | values))
    return folder


# Models


def test_a_model_that_reads_ahead(tmp_path: Path) -> None:
    folder = saved("bert", tmp_path / "bert")
    assert "BertLMHeadModel is not causal: tokens change the log-probabilities of those before" in refused(
        recipe(folder, tmp_path)
    )


def test_a_model_that_draws_while_it_trains(tmp_path: Path) -> None:
    """Falcon reads its dropout from the configuration at every pass, where no module's attribute says so."""
    tokenizer = make_tokenizer()
    options = {"vocab_size": len(tokenizer), "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    from transformers import FalconConfig

    config = FalconConfig(**options, hidden_dropout=0.5, eos_token_id=tokenizer.eos_token_id)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "falcon")
    tokenizer.save_pretrained(tmp_path / "falcon")
    assert "draws at random while it trains (dropout" in refused(recipe(tmp_path / "falcon", tmp_path))


def test_a_head_that_is_not_understood(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits that would be trained are compared with the model's own."""
    from llmrl.train import network

    monkeypatch.setattr(network, "head_of", lambda plain: lambda states: plain.lm_head(states) * 2)
    message = refused(recipe(copied, tmp_path))
    assert "Qwen3ForCausalLM: its own logits and the log-probabilities that would be trained differ by" in message


def test_of_several_parts_the_text_is_trained(tmp_path: Path) -> None:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, SiglipVisionConfig

    tokenizer = make_tokenizer()
    text = small("gemma3_text", vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    assert isinstance(text, Gemma3TextConfig)
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    config = Gemma3Config(text_config=text, vision_config=vision, image_token_index=3, mm_tokens_per_image=4)
    torch.manual_seed(0)
    folder = tmp_path / "gemma3"
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text("{}")
    before: Any = AutoModelForCausalLM.from_pretrained(folder)
    options = {"output_dir": str(tmp_path), "max_steps": 1, "report_to": "none", "learning_rate": 1e-2}
    with Run(recipe(folder, tmp_path, train=options), name="one") as run:
        train(run)
    after: Any = AutoModelForCausalLM.from_pretrained(run.folder / "final")
    assert type(after) is type(before)
    moved = {name for name, weight in after.named_parameters() if not torch.equal(weight, before.get_parameter(name))}
    assert not [name for name in moved if "language_model" not in name and "lm_head" not in name]
    assert (run.folder / "final" / "preprocessor_config.json").exists(), "engines ask for it"


# Adapters


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["embed_tokens"], "model.lora_target_modules model.embed_tokens: Qwen3ForCausalLM has the same weights at bo"),
        (["q_proj", "lm_head"], "model.lora_target_modules lm_head: Qwen3ForCausalLM has the same weights at both en"),
        (["q_prj"], "model.lora_target_modules: Qwen3ForCausalLM has no module 'q_prj'; did you mean 'q_proj'?; known"),
        ("model[", "model.lora_target_modules 'model[': no regular expression"),
        ([], "model.lora_target_modules: names no module"),
        (["norm"], "model.lora_target_modules norm: PEFT refuses: "),
    ],
)
def test_targets_that_cannot_be_adapted_are_refused_by_a_dry_run(
    copied: Path, tmp_path: Path, targets: Any, said: str
) -> None:
    made = recipe(copied, tmp_path, model={"use_peft": True, "lora_target_modules": targets})
    with pytest.raises(RecipeError) as error:
        require_possible(made)
    assert str(error.value).startswith(said)
    assert refused(made) == str(error.value)


def test_the_ends_of_an_untied_model_are_adapted(untied_model_dir: Path, tmp_path: Path) -> None:
    made = recipe(
        untied_model_dir,
        tmp_path,
        model={"use_peft": True, "lora_target_modules": ["embed_tokens", "lm_head", "q_proj"]},
        train={"max_steps": 2, "learning_rate": 1e-2, "output_dir": str(tmp_path), "report_to": "none"},
    )
    with Run(made, name="one") as run:  # each sync proves that the engine has what is trained
        train(run)
    assert (run.folder / "final" / "adapter" / "adapter_config.json").exists()


# The export


def test_a_generation_config_that_could_not_be_saved_is_mended(
    copied: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed(copied, "generation_config.json", do_sample=False, temperature=0.6)
    with Run(recipe(copied, tmp_path), name="one") as run:
        train(run)
    assert "its generation_config.json cannot be saved as it is" in caplog.text
    kept = GenerationConfig.from_pretrained(run.folder / "final")
    assert (kept.do_sample, kept.temperature) == (True, 0.6)


def test_one_that_cannot_be_mended_is_refused(copied: Path, tmp_path: Path) -> None:
    changed(copied, "generation_config.json", do_sample=True, length_penalty=2.0)
    assert "generation_config.json could not be written: GenerationConfig is invalid" in refused(
        recipe(copied, tmp_path)
    )


def test_a_disk_without_room(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    assert "1 MiB are free there, and a checkpoint with the exported model takes " in refused(recipe(copied, tmp_path))


def test_what_cannot_be_written_at_the_end_is_tried_first(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / export_trial.TRIAL).write_text("a file in the way")
    with pytest.raises(CheckpointError, match=rf"^{tmp_path}/one/final: the trained model could not be written: "):
        Run(recipe(copied, tmp_path), name="one")


def test_stop_tokens_of_everybody_are_exported(copied: Path, tmp_path: Path) -> None:
    changed(copied, "generation_config.json", eos_token_id=[40])
    with Run(recipe(copied, tmp_path), name="one") as run:
        train(run)
    own = run.chat.tokenizer.eos_token_id
    assert GenerationConfig.from_pretrained(run.folder / "final").eos_token_id == sorted([own, 40])


# Tokenizers


@pytest.mark.parametrize("ask", [require_possible, lambda made: Run(made, name="one")], ids=["dry run", "load"])
def test_a_tokenizer_larger_than_the_embedding(copied: Path, tmp_path: Path, ask: Callable[[Recipe], Any]) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["wider"])
    tokenizer.save_pretrained(copied)
    made = recipe(copied, tmp_path)
    with pytest.raises(CheckpointError, match=r"1 tokens beyond the \d+ that its model knows: 'wider' \(\d+\)"):
        ask(made)


def test_a_tokenizer_that_draws(copied: Path, tmp_path: Path) -> None:
    state = json.loads((copied / "tokenizer.json").read_text())
    state["model"]["dropout"] = 0.2
    (copied / "tokenizer.json").write_text(json.dumps(state))
    assert "draws pieces at random (dropout 0.2 in tokenizer.json)" in refused(recipe(copied, tmp_path))


def test_no_padding_token_is_needed(copied: Path, tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(copied)
    changed(copied, "generation_config.json", pad_token_id=None)
    changed(copied, "config.json", pad_token_id=None)
    with Run(recipe(copied, tmp_path), name="one") as run:
        train(run)
    assert (run.folder / "final" / "config.json").is_file()
