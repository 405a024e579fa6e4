"""Pictures of data: marks in texts, columns, paths, and what is refused."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llmrl.chat import Chat
from llmrl.data.jsonl import Jsonl, Pictures, messages
from llmrl.datafiles.images import MARK, filled, image_of, images_of
from llmrl.datafiles.messages import message_of
from llmrl.datafiles.rows import Row
from llmrl.errors import DataError
from llmrl.offline.example import answered
from llmrl.reward_models.encoding import Encoder
from llmrl.reward_models.outcomes import question
from llmrl.reward_models.rows import AnswerRow
from llmrl.rollout.environments import _observed
from llmrl.tiny import make_tokenizer
from llmrl.types import Observation, Problem
from tests.builders import episodes


def png(colour: str = "red") -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(written, "PNG")
    return written.getvalue()


def problems(folder: Path, *rows: dict[str, Any], **options: Any) -> list[Any]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(Jsonl(path=str(path), **options).problems())


@pytest.mark.parametrize("column", ["images", "image"])
def test_a_column_stands_before_the_first_question(tmp_path: Path, column: str) -> None:
    given: Any = ["a.png", "b.png"] if column == "images" else "a.png"
    (problem,) = problems(tmp_path, {"prompt": "which?", column: given})
    paths = [str(tmp_path / name) for name in ("a.png", "b.png")][: 2 if column == "images" else 1]
    assert problem.messages == [{"role": "user", "content": MARK * len(paths) + "which?", "images": paths}]
    assert problem.info == {"images": paths}


def test_parts_keep_their_order_and_take_the_columns_pictures_in_turn(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "from "}, {"type": "image"}, {"type": "text", "text": " to "}, {"type": "image"}]
    (problem,) = problems(tmp_path, {"prompt": [{"role": "user", "content": parts}], "images": ["/a.png", "/b.png"]})
    assert problem.messages[0]["content"] == f"from {MARK} to {MARK}"
    assert images_of(problem.messages) == ("/a.png", "/b.png")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": "/a.png"},
        {"type": "image_url", "image_url": {"url": "/a.png"}},
        {"type": "input_image", "image_url": "/a.png"},
        {"type": "image", "path": "/a.png"},
    ],
)
def test_the_forms_of_a_picture_in_a_message(part: dict[str, Any]) -> None:
    message = message_of({"role": "user", "content": [part, "what?"]}, "row 1", pictures=True)
    assert message == {"role": "user", "content": f"{MARK}what?", "images": ["/a.png"]}


def test_pictures_beside_a_text_stand_before_it() -> None:
    message = message_of({"role": "user", "content": "what?", "images": ["/a.png"]}, "row 1", pictures=True)
    assert message["content"] == f"{MARK}what?"


@pytest.mark.parametrize("value", [png(), {"bytes": png(), "path": None}, Image.open(io.BytesIO(png()))])
def test_bytes_and_images_become_data_uris(value: Any) -> None:
    uri = image_of(value)
    assert uri.startswith("data:image/png;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"nothing", "expected PNG, JPEG, GIF or WebP"),
        ("https://example.org/a.png", "download it first"),
        (3, "a picture of int"),
        ({"other": 1}, "a picture of NoneType"),
        ("", "expected a path"),
    ],
)
def test_what_is_no_picture_is_refused(value: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        image_of(value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": [{"role": "user", "content": [{"type": "image"}, "a"]}]}, "0 pictures in the column for 1 places"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image"}, "a"]}], "images": ["a", "b"]},
            "2 pictures in the column for 1 places",
        ),
        ({"prompt": [{"role": "user", "content": f"{MARK} a {MARK}", "images": ["a"]}]}, "2 marks of pictures"),
        ({"prompt": "a", "image": "http://a/b.png"}, "download it first"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image", "image": "a"}, "b"], "images": ["c"]}]},
            "message 0: 1 images beside parts that have their own",
        ),
        ({"prompt": [{"role": "system", "content": "a"}], "images": ["a"]}, "no message of the user"),
    ],
)
def test_pictures_that_have_no_place_are_refused_by_their_row(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=rf"rows.jsonl:1: .*{said}"):
        problems(tmp_path, row)


def test_a_column_that_is_no_picture_can_be_left_out_or_named(tmp_path: Path) -> None:
    (text,) = problems(tmp_path, {"prompt": "a", "image": "https://a/b"}, image_column="")
    assert text.messages == [{"role": "user", "content": "a"}]
    assert text.info == {"image": "https://a/b"}
    (seen,) = problems(tmp_path, {"prompt": "a", "photo": "x.png"}, image_column="photo")
    assert images_of(seen.messages) == (str(tmp_path / "x.png"),)
    with pytest.raises(DataError, match="no column 'scan'"):
        problems(tmp_path, {"prompt": "a"}, image_column="scan")


def test_a_text_with_the_mark_and_no_picture_is_a_text() -> None:
    assert filled([{"role": "user", "content": f"a{MARK}b"}], None, None) == [{"role": "user", "content": f"a{MARK}b"}]


def test_stored_answers_have_their_pictures(tmp_path: Path) -> None:
    row = Row({"prompt": "a", "completion": "b", "images": ["x.png"]}, "here:1", 0, tmp_path)
    example = answered("a", "b", row)
    assert images_of(example.messages) == (str(tmp_path / "x.png"),)
    assert example.messages[0]["content"] == f"{MARK}a"


def test_where_nobody_sees_pictures_they_are_refused() -> None:
    with pytest.raises(DataError, match="1 images, which are not read here"):
        message_of({"role": "user", "content": "a", "images": ["x.png"]}, "row 1")
    with pytest.raises(DataError, match="part of 'image'"):
        message_of({"role": "user", "content": [{"type": "image", "image": "x"}]}, "row 1")


def test_a_named_column_is_not_given_twice(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, {"prompt": "a", "photo": "x.png", "level": 3}, image_column="photo")
    assert problem.info == {"level": 3, "images": [str(tmp_path / "x.png")]}


def test_a_place_without_a_picture_is_refused_from_python() -> None:
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}
    with pytest.raises(DataError, match="prompt 0: 0 pictures in the column for 1 places"):
        messages([message], "", "prompt 0", Pictures())
    with pytest.raises(DataError, match="part of 'image'"):
        messages([message], "", "prompt 0")


def test_what_environments_show_is_read_like_data() -> None:
    part = {"type": "image", "image": "/a.png"}
    for shown in (
        {"role": "user", "content": [part, {"type": "text", "text": "look"}]},
        {"role": "user", "content": "look", "images": ["/a.png"]},
    ):
        seen = _observed("step", Observation(messages=[shown]))
        assert seen.messages == [{"role": "user", "content": f"{MARK}look", "images": ["/a.png"]}]


def test_rewards_that_read_texts_refuse_pictures() -> None:
    shown = [{"role": "user", "content": f"{MARK}what?", "images": ["/a.png"]}]
    played = episodes("red", problem=Problem(id="p", messages=shown))
    with pytest.raises(DataError, match="problem p: 2 pictures, and the judge of success reads texts alone"):
        question(played[0])
    chat = Chat(make_tokenizer())
    for template in ("chat", "{{ prompt }} {{ response }}"):
        with pytest.raises(DataError, match="1 pictures in the prompt, and reward models read texts alone"):
            Encoder(chat, template, "\n", 64)(AnswerRow(prompt=shown, response="red"))
