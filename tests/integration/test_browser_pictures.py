"""Screenshots of the pages of an episode, kept for the viewer; skipped where there is no Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrl import plugins
from llmrl.browser.episode import WebEpisode
from llmrl.browser.host import host
from llmrl.errors import BrowserError
from llmrl.types import Problem
from llmrl.view.runs import RunView
from tests.chromium import needs_browser
from tests.integration.test_browser import run

pytestmark = needs_browser


def shop(folder: Path | None) -> WebEpisode:
    problem = Problem(id="cheapest", messages=[], info={"kind": "cheapest", "seed": 3, "progress": 1.0})
    options = {} if folder is None else {"pictures": str(folder)}
    made: WebEpisode = plugins.build("env", {"name": "shop", **options}).make(problem)
    return made


def test_every_page_has_its_picture(tmp_path: Path) -> None:
    async def play(episode: WebEpisode) -> list[dict[str, object]]:
        try:
            seen = [await episode.reset(), await episode.step({"role": "assistant", "content": "click(2)"})]
            seen.append(await episode.step({"role": "assistant", "content": 'stop("done")'}))
            assert seen[-1].done
            return [dict(message) for each in seen for message in each.messages]
        finally:
            await episode.close()

    try:
        kept = run(play(shop(tmp_path / "mine" / "pictures")))
        names = [str(message.pop("picture")) for message in kept]
        assert kept.pop() == {"role": "user", "content": ""}, "the last page has a picture alone"
        assert kept == run(play(shop(None))), "nothing else is another"
        assert len(names) == 3
        view = RunView(tmp_path / "mine", "mine")
        for name in names:
            path = view.file("/".join(Path(name).parts[-2:]))
            assert path is not None
            assert path.read_bytes().startswith(b"\x89PNG")
        (tmp_path / "taken").write_text("a file")
        with pytest.raises(BrowserError, match=r"env.pictures=.*taken: cannot be written: .*; choose another folder"):
            run(play(shop(tmp_path / "taken")))
    finally:
        run(host().run(host().browser.close()))
