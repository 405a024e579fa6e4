"""Pictures in prompts of a tiny model that sees: their tokens, and what policies sample of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from llmrl.chat import Chat, load_tokenizer
from llmrl.datafiles.images import MARK
from llmrl.errors import CheckpointError, DataError
from llmrl.tiny import make_tokenizer
from llmrl.vision import sight, tiny
from tests.seeing import painted


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("seeing"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return painted(tmp_path_factory.mktemp("pictures"), "red", "blue")


def asked(text: str, *images: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text, **({"images": list(images)} if images else {})}]


def test_a_prompt_is_what_the_processor_makes(folder: Path, pictures: list[str]) -> None:
    chat = Chat(load_tokenizer(folder))
    ids = chat.prompt_ids(asked(f"from {MARK} to {MARK}", *pictures), pictures=True)
    processor = AutoProcessor.from_pretrained(folder)
    parts = [{"type": "text", "text": "from "}, {"type": "image"}, {"type": "text", "text": " to "}, {"type": "image"}]
    text = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    given = processor(text=[text], images=[Image.open(one) for one in pictures], add_special_tokens=False)
    assert ids == given["input_ids"][0]
    seen = sight.load(str(folder))
    assert ids.count(seen.processor.image_token_id) == 8
    short = seen.collapsed(ids, pictures)
    assert short.count(seen.processor.image_token_id) == 2
    assert seen.expanded(short, pictures) == ids


def test_no_text_becomes_a_picture(folder: Path, pictures: list[str]) -> None:
    chat = Chat(load_tokenizer(folder))
    ids = chat.prompt_ids(asked(f"{MARK}<image> and {tiny.PLACE}", pictures[0]), pictures=True)
    assert ids.count(sight.load(str(folder)).processor.image_token_id) == 4
    assert chat.tokenizer.decode(ids).count("<image>") == 6


def test_the_next_prompt_has_its_own_pictures(folder: Path, pictures: list[str]) -> None:
    chat = Chat(load_tokenizer(folder))
    past = asked(f"{MARK}what?", pictures[0])
    first = chat.prompt_ids(past, pictures=True)
    said = [*chat.answer_ids("red", first), chat.turn_end()]
    reply = asked(f"and {MARK}?", pictures[1])
    past = [*past, {"role": "assistant", "content": "red"}]
    following = chat.next_prompt([*first, *said], past, reply, pictures=True)
    assert following[: len(first) + len(said)] == [*first, *said]
    assert following == chat.prompt_ids([*past, *reply], pictures=True)


def test_pictures_that_nobody_would_see_are_refused(folder: Path, pictures: list[str], tmp_path: Path) -> None:
    chat = Chat(load_tokenizer(folder))
    with pytest.raises(DataError, match="1 pictures in the messages, and this use of the model reads texts alone"):
        chat.prompt_ids(asked(f"{MARK}what?", pictures[0]))
    make_tokenizer().save_pretrained(tmp_path)
    blind = Chat(load_tokenizer(tmp_path))
    with pytest.raises(CheckpointError, match=r"it reads no pictures|processor of pictures does not load"):
        blind.prompt_ids(asked(f"{MARK}what?", pictures[0]), pictures=True)
    dropping = load_tokenizer(folder)
    dropping.chat_template = dropping.chat_template.replace("<image>", "")
    with pytest.raises(DataError, match="0 marks '<image>' for 1 pictures"):
        Chat(dropping).prompt_ids(asked(f"{MARK}what?", pictures[0]), pictures=True)


def test_a_picture_that_is_not_in_the_row_is_named(folder: Path, pictures: list[str]) -> None:
    with pytest.raises(DataError, match=r"red.png: its 4 tokens are not in the row; has it changed\?"):
        sight.load(str(folder)).collapsed([65, 66], pictures[:1])


def test_a_template_that_wants_parts_gets_parts(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = (
        "{%- for m in messages -%}{%- for part in m.content | selectattr('type', 'equalto', 'text') -%}"
        "{{- part.text -}}{%- endfor -%}{%- endfor -%}"
    )
    assert tokenizer.decode(Chat(tokenizer).prompt_ids(asked("what?"))) == "what?"


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_sampled_picture_token_is_a_word(
    folder: Path, pictures: list[str], scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its embedding is its own, and the picture is where it was: as in generation, which sees it behind the prompt.

    Some models scale what their table has, in the layer itself.
    """
    model: Any = AutoModelForImageTextToText.from_pretrained(folder).eval()
    table = model.get_input_embeddings()
    plain = table.forward
    monkeypatch.setattr(table, "forward", lambda ids: scale * plain(ids))
    seen, chat = sight.load(str(folder)), Chat(load_tokenizer(folder))
    prompt = chat.prompt_ids(asked(f"{MARK}what?", pictures[0]), pictures=True)
    mark = seen.processor.image_token_id
    said = [mark, 65, mark, mark]
    with torch.no_grad():
        first = torch.tensor([prompt])
        cache = model(input_ids=first, pixel_values=seen.inputs(first, [pictures[:1]])["pixel_values"])
        behind = model(input_ids=torch.tensor([said]), past_key_values=cache.past_key_values).logits
        whole = torch.tensor([[*prompt, *said]])
        with seen.apart(model, whole, [pictures[:1]]) as ids:
            assert (ids == mark).sum() == 4
            given = {"pixel_values": seen.inputs(ids, [pictures[:1]])["pixel_values"]}
            together = model(input_ids=ids, **given).logits[:, len(prompt) :]
    assert torch.allclose(behind, together, atol=1e-5)
    with torch.no_grad(), pytest.raises(ValueError, match="do not match"):
        model(input_ids=whole, **given)
