"""Tiny models that see, and pictures for them to look at."""

from __future__ import annotations

from pathlib import Path


def write_clip(folder: Path, seed: int = 0) -> Path:
    """Write a CLIP of random weights into a folder: two layers, pictures of 28 x 28."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from llmrl.tiny import make_tokenizer

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokenizer = make_tokenizer()
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
