"""Check at once whether a folder can be served; vLLM takes half a minute to fail."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

from llmrl.datafiles import json_text
from llmrl.errors import CheckpointError
from llmrl.run_folder.checksums import require_intact

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def check(checkpoint: str, *, intact: bool = True) -> None:
    """Refuse a folder without a model and its tokenizer; a possible name on the hub passes.

    Args:
        intact: compare the files with their checksums, too.
    Raises:
        CheckpointError: no such folder, one without configuration, weights or tokenizer, or a file of it is damaged.
    """
    folder = Path(checkpoint)
    if not folder.exists():
        if checkpoint.count("/") == 1 and not checkpoint.startswith((".", "/", "~")):
            return
        raise CheckpointError(
            f"{checkpoint}: no such folder; expected a folder such as runs/NAME/final, or a hub name OWNER/MODEL"
        )
    if not folder.is_dir():
        raise CheckpointError(
            f"{checkpoint}: a file; expected the folder that holds config.json, weights and tokenizer"
        )
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        base = _read(folder / "adapter_config.json").get("base_model_name_or_path")
        raise CheckpointError(
            f"{checkpoint}: a LoRA adapter; serve its base model with it: llmrl serve {quote(str(base))} "
            f"--lora {quote(f'mine={checkpoint}')}"
        )
    if not (folder / "config.json").exists():
        inside = sorted(p.name for p in folder.iterdir())[:6]
        raise CheckpointError(f"{checkpoint}: no config.json; found {', '.join(inside) or 'nothing'}")
    if not _read(folder / "config.json").get("model_type"):
        raise CheckpointError(f"{checkpoint}/config.json: no model_type; expected the configuration of a model")
    _check_weights(folder)
    if intact:
        require_intact(folder)
    if not any((folder / name).exists() for name in _TOKENIZERS):
        raise CheckpointError(
            f"{checkpoint}: no tokenizer; expected one of {', '.join(_TOKENIZERS)}: copy the tokenizer files of the "
            "model that it was trained from"
        )


def lora_rank(name: str, path: str) -> int:
    """Read the rank of the adapter in a folder.

    Raises:
        CheckpointError: the folder holds no LoRA adapter.
    """
    folder = Path(path)
    for needed in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / needed).exists():
            raise CheckpointError(f"--lora {name}={path}: no {needed} there; expected a folder written by PEFT")
    rank = _read(folder / "adapter_config.json").get("r")
    if not isinstance(rank, int):
        raise CheckpointError(f"--lora {name}={path}: adapter_config.json has no rank `r`; expected a LoRA adapter")
    return rank


def _check_weights(folder: Path) -> None:
    for name in _INDEXES:
        if (folder / name).exists():
            shards = set(_read(folder / name).get("weight_map", {}).values())
            missing = sorted(s for s in shards if not (folder / s).exists())
            if missing or not shards:
                raise CheckpointError(
                    f"{folder}: {name} names {', '.join(missing[:3]) or 'no file'}, not there: copy again"
                )
            return
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise CheckpointError(f"{folder}: no weights; expected model.safetensors, or shards with their index")


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json_text.parse(path.read_bytes(), str(path))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: holds a {type(config).__name__}; expected an object")
    return config
