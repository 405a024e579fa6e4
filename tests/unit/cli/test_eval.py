"""`llmrl eval`: options are looked at before anything is loaded, and each fault is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llmrl.cli.main import app
from llmrl.errors import LlmrlError


def refusal(*words: str) -> str:
    """The message with which a command ends."""
    done = CliRunner().invoke(app, list(words))
    assert isinstance(done.exception, LlmrlError), done.output
    message = str(done.exception)
    assert "\n" not in message
    return message


def evaluated(*options: str, model: str = "http://127.0.0.1:1/v1", benchmarks: str = "arithmetic") -> str:
    return refusal("eval", model, "--benchmarks", benchmarks, *options)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("samples", "0", "eval.samples: input should be greater than or equal to 1; found 0"),
        ("samples", "-2", "eval.samples: input should be greater"),
        ("samples", "1" + "0" * 30, "eval.samples: expected a number of at most 64 bits"),
        ("limit", "0", "eval.limit: input should be greater"),
        ("seed", "-1", "eval.seed: input should be greater than or equal to 0"),
        ("seed", "4294967296", "eval.seed: input should be less than 4294967296"),
        ("temperature", "-0.1", "eval.temperature: input should be greater than or equal to 0"),
        ("temperature", "nan", "eval.temperature: expected a finite number, found nan"),
        ("temperature", "inf", "eval.temperature: expected a finite number, found inf"),
        ("temperature", "1000", "eval.temperature: input should be less than or equal to 100"),
        ("top-p", "0", "eval.top_p: input should be greater than 0"),
        ("top-p", "1.5", "eval.top_p: input should be less than or equal to 1"),
        ("top-p", "nan", "eval.top_p: expected a finite number"),
        ("max-tokens", "0", "eval.max_tokens: input should be greater"),
        ("max-prompt-tokens", "0", "eval.max_prompt_tokens: input should be greater"),
        ("search-tokens", "0", "eval.search_tokens: input should be greater"),
        ("dtype", "float33", "eval.dtype: input should be 'float32'"),
        ("api-key", "two words", "--api-key: a key with spaces"),
        ("grade", "locl", "--swe.grade: input should be 'none', 'local' or 'harness'"),
        ("swe", "{workers: 0}", "--swe.agentless: "),
        ("swe", "{harness: {workers: 0}}", "--swe.harness.workers: input should be greater"),
        ("swe", "[1]", "--swe [1]: expected a mapping"),
        ("engine", "vlm", "--engine: unknown engine 'vlm'; did you mean 'vllm'?"),
        ("engine", "{name: hf, devise: cpu}", "--engine.devise: unknown key; did you mean 'device'?"),
        ("engine", "[hf]", "eval.engine"),
        ("search", "best_of:8", "search: unknown search 'best_of'; did you mean 'best_of_n'?"),
        ("judge", "numerik", "--judge: unknown reward 'numerik'; did you mean 'numeric'?"),
    ],
)
def test_options(option: str, value: str, said: str, tmp_path: Path) -> None:
    model = "http://127.0.0.1:1/v1" if option not in ("engine", "search") else "gpt2"
    assert evaluated(f"--{option}", value, "--out", str(tmp_path / "out"), model=model).startswith(said)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("gsm8", "--benchmarks: unknown benchmark 'gsm8'; did you mean 'gsm8k'?"),
        ("arithmetic,arithmatic", "--benchmarks: unknown benchmark 'arithmatic'; did you mean 'arithmetic'?"),
        ("", "--benchmarks: expected at least one of aime24"),
        (" , ", "--benchmarks: expected at least one of"),
        ("json:dumps", "--benchmarks: json:dumps is function; expected a Benchmark"),
        ("nothing:BENCHMARK", "--benchmarks: 'nothing:BENCHMARK' cannot be imported"),
        ("maze", "benchmark maze: it is played in the environment maze, which a search and a server's chat cannot"),
    ],
)
def test_benchmarks(names: str, said: str, tmp_path: Path) -> None:
    assert evaluated("--out", str(tmp_path / "out"), benchmarks=names).startswith(said)


def test_data_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMRL_DATA", str(tmp_path))
    assert "set LLMRL_DATA to a folder that holds gsm8k" in evaluated(benchmarks="gsm8k", model="gpt2")


def folder(path: Path, **files: str) -> str:
    path.mkdir()
    for name, text in files.items():
        (path / name.replace("_json", ".json")).write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: str(path / "none"), "no such folder; expected a folder such as runs/NAME/final"),
        (lambda path: "./none", "no such folder"),
        (lambda path: "runs/none/final", "no such folder"),
        (lambda path: folder(path / "empty"), "no config.json; found nothing"),
        (lambda path: folder(path / "odd", config_json="{}"), "no model_type"),
        (lambda path: folder(path / "broken", config_json="{"), "cannot be read as JSON"),
        (lambda path: folder(path / "bare", config_json='{"model_type": "llama"}'), "no weights; expected"),
        (lambda path: folder(path / "lora", adapter_config_json='{"base_model_name_or_path": "b"}'), "a LoRA adapter"),
        (lambda path: str(__file__), "a file; expected the folder"),
    ],
)
def test_folders_that_are_no_models(make: Any, said: str, tmp_path: Path) -> None:
    model = make(tmp_path)
    message = evaluated(model=model)
    assert message.startswith(model)
    assert said in message


def test_outputs_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        message = evaluated("--out", str(place))
        assert message == f"{tmp_path / 'file'}: a file; choose another output, a folder"
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert "holds model_type, which no evaluation writes" in evaluated("--out", str(tmp_path))


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/v1", "http://"])
def test_addresses_that_are_none(url: str, tmp_path: Path) -> None:
    assert "expected http://... or https://..., such as" in evaluated("--out", str(tmp_path / "out"), model=url)


def test_an_unknown_option_is_refused() -> None:
    done = CliRunner().invoke(app, ["eval", "gpt2", "--benchmarks", "arithmetic", "--sample", "4"])
    assert (done.exit_code, "--sample" in done.output) == (2, True)
