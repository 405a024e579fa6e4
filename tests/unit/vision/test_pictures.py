"""Files of pictures: what opens, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from llmrl.errors import DataError
from llmrl.types import Completion, Problem, Trajectory, Turn
from llmrl.vision import pictures


def written(path: Path, size: tuple[int, int] = (4, 4), mode: str = "RGB") -> Path:
    Image.new(mode, size).save(path)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_every_picture_is_rgb(tmp_path: Path, mode: str) -> None:
    file = str(written(tmp_path / "a.png", mode=mode))
    assert pictures.opened(file).mode == "RGB"
    uri = pictures.data_uri(file)
    assert pictures.opened(uri).tobytes() == pictures.opened(file).tobytes()
    assert pictures.data_uri(uri) == uri


def test_what_is_no_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "a.txt"
    text.write_text("no picture")
    whole = written(tmp_path / "whole.png", (64, 64)).read_bytes()
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole[: len(whole) // 2])
    for name in (text, cut, tmp_path):
        with pytest.raises(DataError, match=f"picture {name}"):
            pictures.opened(str(name))
    with pytest.raises(DataError, match="No such file"):
        pictures.opened(str(tmp_path / "none.png"))
    with pytest.raises(DataError, match="no base64"):
        pictures.opened("data:image/png;base64,=?")
    monkeypatch.setattr(pictures, "MOST_PIXELS", 4000)
    with pytest.raises(DataError, match="64 x 64 pixels; expected 4000 at most"):
        pictures.opened(str(tmp_path / "whole.png"))
    monkeypatch.setattr(pictures, "MOST_BYTES", 10)
    with pytest.raises(DataError, match="more than 0 MiB"):
        pictures.opened(str(tmp_path / "whole.png"))


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match="no picture that can be read"):
        pictures.opened(str(written(tmp_path / "big.png", (64, 64))))


def test_the_last_picture_of_an_episode() -> None:
    said = Completion(token_ids=[1], logprobs=[0.0], finish="stop", version=0)
    seen = {"role": "user", "content": "", "picture": "end.png"}
    asked = [{"role": "user", "content": "", "images": ["a.png", "b.png"]}]
    turns = [
        Turn(prompt_ids=[1], completion=said, text="x", reply=[seen]),
        Turn(prompt_ids=[1], completion=said, text="y"),
    ]
    problem = Problem(id="p", messages=asked)
    assert pictures.last_picture(Trajectory(problem=problem, turns=turns, status="done")) == "end.png"
    assert pictures.last_picture(Trajectory(problem=problem, turns=turns[1:], status="done")) == "b.png"
    other = Trajectory(problem=problem, turns=turns[1:], status="done", shown=[{"role": "user", "content": "text"}])
    assert pictures.last_picture(other) is None


def test_pictures_are_bytes_first(tmp_path: Path) -> None:
    written_bytes = io.BytesIO()
    Image.new("RGB", (2, 2), "blue").save(written_bytes, "PNG")
    file = tmp_path / "named.jpeg"  # by its name another kind
    file.write_bytes(written_bytes.getvalue())
    assert pictures.data_uri(str(file)).startswith("data:image/png;base64,")
