"""Tiny models that see, and pictures for them to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_clip(folder: Path, seed: int = 0) -> Path:
    """Write a CLIP of random weights into a folder: two layers, pictures of 28 x 28."""
    import torch
    from tokenizers.processors import TemplateProcessing
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from llmrl.tiny import make_tokenizer

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokenizer = make_tokenizer()
    ends = [
        (tokenizer.eos_token, tokenizer.eos_token_id)
    ]  # behind each text, as CLIP's has it: its state is the text's
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"$A {ends[0][0]}", special_tokens=ends)
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 32, "eos_token_id": tokenizer.eos_token_id}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPModel(
            CLIPConfig(
                text_config=sizes | text,
                vision_config=sizes | {"image_size": 28, "patch_size": 14},
                projection_dim=16,
            )
        )
    size = {"height": 28, "width": 28}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=size)
    model.save_pretrained(folder)
    CLIPProcessor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def painted(folder: Path, *colours: str, size: tuple[int, int] = (40, 30)) -> list[str]:
    """Files of pictures of one colour each."""
    from PIL import Image

    made = [str(folder / f"{colour}.png") for colour in colours]
    for path, colour in zip(made, colours, strict=True):
        Image.new("RGB", size, colour).save(path)
    return made


def pictured_rows(folder: Path) -> list[dict[str, Any]]:
    """Problems with a picture, with two between words, and with none; the files are made."""
    red, blue = painted(folder, "red", "blue")
    parts = [{"type": "text", "text": "from "}, {"type": "image"}, {"type": "text", "text": " to "}, {"type": "image"}]
    return [
        {"prompt": "what?", "images": [red]},
        {"prompt": [{"role": "user", "content": parts}], "images": [blue, red]},
        {"prompt": "what?", "images": [blue]},
        {"prompt": "no picture"},
    ]


def write_qwen(folder: Path) -> Any:
    """Write a Qwen2-VL of random weights, whose positions count rows and columns of pictures; returns its processor.

    It is put together by hand: Transformers' own asks for a reader of videos, and that for torchvision.
    """
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    names = {"image": "<|image_pad|>", "video": "<|video_pad|>", "vision_start": "<|in|>", "vision_end": "<|out|>"}
    tokenizer = _tokenizer([*names.values()], "<|in|><|image_pad|><|out|>")
    rope = {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 1e4}
    sight = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2}
    config = Qwen2VLConfig(
        text_config=_text(tokenizer) | {"rope_parameters": rope},
        vision_config=sight | {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2},
        **{f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in names.items()},
    )
    _save(Qwen2VLForConditionalGeneration, config, tokenizer, folder)
    made: Any = Qwen2VLProcessor.__new__(Qwen2VLProcessor)
    made.image_processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28 * 6, "longest_edge": 28 * 28 * 16})
    made.tokenizer = tokenizer
    for name in ("image", "video"):
        setattr(made, f"{name}_token", names[name])
        setattr(made, f"{name}_token_id", tokenizer.convert_tokens_to_ids(names[name]))
    return made


def write_idefics(folder: Path) -> Any:
    """Write an Idefics3 of random weights, which puts tokens of other kinds around a picture; returns its processor."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    own = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]
    tokenizer = _tokenizer([*own, *(f"<row_{i // 6 + 1}_col_{i % 6 + 1}>" for i in range(36))], "<image>")
    pictures = Idefics3ImageProcessorPil(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Idefics3Config(
        text_config=_text(tokenizer) | {"model_type": "llama"},
        vision_config=sizes | {"image_size": 28, "patch_size": 14},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    _save(Idefics3ForConditionalGeneration, config, tokenizer, folder)
    return Idefics3Processor(image_processor=pictures, tokenizer=tokenizer, image_seq_len=1)


def _tokenizer(tokens: list[str], picture: str) -> Any:
    from llmrl.tiny import make_tokenizer
    from llmrl.vision.tiny import TEMPLATE

    tokenizer = make_tokenizer()
    tokenizer.add_tokens(tokens, special_tokens=True)
    tokenizer.chat_template = TEMPLATE.replace("<image>", picture)
    return tokenizer


def _text(tokenizer: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    return {**sizes, **ends, "num_key_value_heads": 1, "vocab_size": len(tokenizer), "max_position_embeddings": 2048}


def _save(kind: Any, config: Any, tokenizer: Any, folder: Path) -> None:
    import torch
    from transformers import GenerationConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config = GenerationConfig(**ends, do_sample=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
