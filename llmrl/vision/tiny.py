"""A vision-language model of random weights from nothing, for tests and for a first try."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmrl.run_folder.libraries import kept_apart
from llmrl.tiny import END, make_tokenizer

SIDE, PATCH = 28, 14  # pixels
PLACE = "<image>"
# Content may be a text or a list of parts, as templates of vision-language models have it.
TEMPLATE = (
    "{%- for message in messages -%}{{- '<|' + message.role + '|>' -}}"
    "{%- if message.content is string -%}{{- message.content -}}"
    "{%- else -%}{%- for part in message.content -%}"
    "{{- '<image>' if part.type == 'image' else part.text -}}{%- endfor -%}{%- endif -%}"
    "{{- '<|end|>' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


@kept_apart()
def make(folder: str | Path, *, hidden: int = 64, layers: int = 2, seed: int = 0) -> Path:
    """Write a LLaVA model of random float32 weights that Transformers and vLLM load, with its processor.

    A picture is 28 x 28 pixels in four patches, and four tokens of a prompt.

    Args:
        folder: where to write; made if missing, files of the same names are replaced.
        hidden: width of the text part; the part that sees is as wide.
        layers: of each part.
        seed: of the weights; the caller's random state is left alone.
    Returns:
        The folder.
    """
    import torch
    from transformers import (
        CLIPVisionConfig,
        GenerationConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = Path(folder)
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([PLACE], special_tokens=True)
    tokenizer.chat_template = TEMPLATE
    sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers}
    sizes |= {"num_attention_heads": hidden // 32}
    vision = CLIPVisionConfig(**sizes, image_size=SIDE, patch_size=PATCH, projection_dim=hidden)
    config = LlavaConfig(
        vision_config=vision.to_dict(),
        text_config=_text(sizes, tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids(PLACE),
        image_seq_length=(SIDE // PATCH) ** 2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True
    )
    size = {"height": SIDE, "width": SIDE}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
        image_token=PLACE,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _text(sizes: dict[str, int], tokenizer: Any) -> dict[str, Any]:
    """Configuration of the part that reads and writes text."""
    return {
        **sizes,
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "num_key_value_heads": sizes["num_attention_heads"],
        "max_position_embeddings": 2048,
        "eos_token_id": tokenizer.convert_tokens_to_ids(END),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
    }
