"""A judge that is shown the last picture of each episode, and no text of the policy."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llmrl.types import Score, Trajectory
from tests.http_server import HttpServer, Reply
from tests.seeing import painted
from tests.unit.rewards.judge.asking import error, group, judge, says


@pytest.fixture
def drawn(tmp_path: Path) -> dict[str, str]:
    names = ("red", "blue", "black")
    return dict(zip(names, painted(tmp_path, *names), strict=True))


def showing(*pictures: str | None) -> list[Trajectory]:
    played = group(*(f"secret {i}" for i in range(len(pictures))))
    return [
        replace(one, turns=[replace(one.turns[0], reply=[{"role": "user", "content": "", "picture": picture}])])
        for one, picture in zip(played, pictures, strict=True)
    ]


def seen(body: Mapping[str, Any]) -> dict[str, Any]:
    """Colour of each picture of a request, by its name."""
    parts = body["messages"][1]["content"]
    found = {}
    for name, picture in pairwise(parts):
        if picture["type"] == "image_url":
            content = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
            found[name["text"]] = Image.open(io.BytesIO(content)).getpixel((0, 0))
    return found


def ask(server: HttpServer, *pictures: str | None, **options: Any) -> list[Score]:
    return asyncio.run(judge(server, reads="picture", **options).score(showing(*pictures)))


def test_a_picture_is_graded(server: HttpServer, drawn: dict[str, str]) -> None:
    server.answer = lambda body: says({"reason": "", "grade": 10 if seen(body)["picture:"] == (255, 0, 0) else 2})
    red, blue = ask(server, drawn["red"], drawn["blue"], rubric="It is red.")
    assert (red.value, blue.value) == (1.0, 0.2)
    (text,) = [part["text"] for part in server.asked[0]["messages"][1]["content"] if "It is red." in str(part)]
    assert "Grade the picture" in text
    assert "Say hello." in text
    assert "secret" not in str(server.asked)


def test_pictures_are_compared_in_both_orders(server: HttpServer, drawn: dict[str, str]) -> None:
    def redder(body: Mapping[str, Any]) -> Reply:
        first, second = (seen(body)[f"picture {side}:"][0] for side in "AB")
        return says({"reason": "", "better": "tie" if first == second else "A" if first > second else "B"})

    server.answer = redder
    scores = ask(server, drawn["red"], drawn["blue"], drawn["black"], drawn["red"], form="pairwise")
    # red: ties with its equal, unasked, and wins two; blue and black tie and lose two
    assert [score.value for score in scores] == [2.5 / 3, 0.5 / 3, 0.5 / 3, 2.5 / 3]
    assert len(server.asked) == 6


def test_an_episode_without_a_picture_is_not_judged(server: HttpServer, drawn: dict[str, str], tmp_path: Path) -> None:
    one, other = ask(server, drawn["red"], None)
    assert "a sibling's problem cannot be judged" in error(one)
    assert "the episode shows no picture" in error(other)
    (gone,) = ask(server, str(tmp_path / "gone.png"))
    assert "gone.png: No such file" in error(gone)
    assert not server.asked


def test_a_problems_pictures_are_shown_beside_its_answers(server: HttpServer, drawn: dict[str, str]) -> None:
    server.answer = lambda body: says({"reason": "", "grade": 10 if seen(body) else 0})
    asked = [{"role": "user", "content": "\ufffcwhich?", "images": [drawn["blue"]]}]
    played = [replace(one, problem=replace(one.problem, messages=asked)) for one in group("blue", "red")]
    scores = asyncio.run(judge(server).score(played))
    assert [score.value for score in scores] == [1.0, 1.0]
    assert all(seen(body) == {"picture 1 of the problem:": (0, 0, 255)} for body in server.asked)
    lost = [{"role": "user", "content": "\ufffcwhich?", "images": ["/nowhere.png"]}]
    played = [replace(one, problem=replace(one.problem, messages=lost)) for one in group("blue")]
    (gone,) = asyncio.run(judge(server).score(played))
    assert "/nowhere.png: No such file" in error(gone)
