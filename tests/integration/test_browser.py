"""MiniWoB++ and the shop in a real Chromium; skipped where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from llmrl import plugins
from llmrl.browser.devtools import PageLostError
from llmrl.browser.episode import WebEpisode
from llmrl.browser.host import PAGES, host
from llmrl.browser.miniwob.catalogue import TASKS
from llmrl.browser.players import Oracle, RandomPlayer, play
from llmrl.browser.shop.goals import KINDS
from llmrl.browser.variants import SPLIT
from llmrl.sandbox.cleanup import MARK
from llmrl.types import Observation, Problem
from tests.builders import some
from tests.chromium import needs_chromium

T = TypeVar("T")


pytestmark = needs_chromium


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, 240))


@pytest.fixture(scope="module", autouse=True)
def no_orphans() -> Iterator[None]:
    yield
    pid = host().browser.pid
    family = family_of(pid) if pid else None
    run(host().run(host().browser.close()))
    assert family is None or not living(family)


Family = tuple[int, str]
"""The session of a Chromium, and the mark in the environment of its processes, those that left the session too."""


def family_of(pid: int) -> Family:
    """The family of a Chromium, by its first process."""
    entries = Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
    return pid, next(entry for entry in entries if entry.startswith(f"{MARK}="))


def living(family: Family) -> list[int]:
    """Its processes that are no zombies."""
    session, mark = family
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, its = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            entries = (folder / "environ").read_text(errors="replace").split("\0")
            found += [int(folder.name)] if state != "Z" and (int(its) == session or mark in entries) else []
    return found


def miniwob(task: str, seed: int, progress: float = 1.0, **options: object) -> WebEpisode:
    problem = Problem(id=task, messages=[], info={"task": task, "seed": seed, "progress": progress})
    made: WebEpisode = plugins.build("env", {"name": "miniwob", **options}).make(problem)
    return made


def shop(kind: str, seed: int, progress: float = 1.0, **options: object) -> WebEpisode:
    problem = Problem(id=kind, messages=[], info={"kind": kind, "seed": seed, "progress": progress})
    made: WebEpisode = plugins.build("env", {"name": "shop", **options}).make(problem)
    return made


async def played(episode: WebEpisode, player: Any) -> list[Observation]:
    try:
        return await play(episode, player)
    finally:
        await episode.close()


async def shown(episode: WebEpisode) -> str:
    try:
        return str((await episode.reset()).messages[0]["content"])
    finally:
        await episode.close()


async def said(episode: WebEpisode, text: str) -> Observation:
    return await episode.step({"role": "assistant", "content": text})


ORACLES = ["click-test-2", "click-button", "enter-text", "login-user", "click-checkboxes", "focus-text", "choose-list"]


@pytest.mark.parametrize("task", ORACLES)
def test_an_oracle_solves_twenty_of_twenty(task: str) -> None:
    async def all_of_them() -> list[list[Observation]]:
        return await asyncio.gather(*(played(miniwob(task, SPLIT + seed), Oracle()) for seed in range(20)))

    ends = [answers[-1] for answers in run(all_of_them())]
    assert [(end.verdict, end.reward, end.done, end.cut) for end in ends] == [("correct", 1.0, True, False)] * 20


async def submitted(task: str, seed: int, *first: str) -> tuple[str, Observation]:
    """The goal of a page, and the end where its Submit is clicked behind these actions."""
    episode = miniwob(task, seed)
    try:
        text = str((await episode.reset()).messages[0]["content"])
        for reply in first:
            await said(episode, reply)
        found = re.search(r'\[(\d+)\] button[^\n]*"Submit"', text)
        assert found, text
        return text, await said(episode, f"click({found[1]})")
    finally:
        await episode.close()


def test_a_part_of_what_is_asked_is_not_right() -> None:
    """Pages pay for the boxes that were rightly left alone: Submit at once got 0.2 or more of most of them."""

    async def all_of_them() -> list[tuple[str, Observation]]:
        return await asyncio.gather(*(submitted("click-checkboxes", seed) for seed in range(12)))

    ends = [end for text, end in run(all_of_them()) if "Select nothing" not in text]
    assert len(ends) > 6
    assert {(end.verdict, end.reward) for end in ends} == {("wrong", 0.0)}


def test_seeds_of_test_have_the_goals_that_a_page_keeps_for_tests() -> None:
    async def goals() -> list[str]:
        return await asyncio.gather(*(shown(miniwob("click-test-transfer", seed)) for seed in (3, SPLIT + 3)))

    train, test = run(goals())
    assert re.search("^Goal: .*ONE", train, re.MULTILINE)
    assert re.search("^Goal: .*TWO", test, re.MULTILINE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("actions", ["calls", "webarena"])
def test_an_oracle_shops(kind: str, actions: str) -> None:
    options: dict[str, Any] = {"actions": actions} | (
        {"observation": "html", "history": "placeholders"} if actions == "webarena" else {}
    )

    async def all_of_them() -> list[list[Observation]]:
        return await asyncio.gather(*(played(shop(kind, seed, **options), Oracle()) for seed in range(5)))

    assert [answers[-1].verdict for answers in run(all_of_them())] == ["correct"] * 5


@pytest.mark.slow
def test_chance_solves_little_of_it() -> None:
    async def all_of_them() -> list[list[Observation]]:
        episodes = [shop(kind, seed) for seed in range(2) for kind in KINDS]
        return await asyncio.gather(*(played(episode, RandomPlayer(n)) for n, episode in enumerate(episodes)))

    ends = [answers[-1] for answers in run(all_of_them())]
    assert sum(end.verdict == "correct" for end in ends) <= 2
    assert {(end.done, end.cut, end.verdict) for end in ends} & {(True, True, "truncated")}


@pytest.mark.parametrize("observation", ["dom", "axtree"])
def test_a_seed_is_a_page(observation: str) -> None:
    async def pages() -> list[str]:
        seeds = (7, 7, 8)
        return [await shown(miniwob("login-user", seed, observation=observation)) for seed in seeds]

    first, again, other = run(pages())
    assert first == again != other
    assert "Goal: Enter the username" in first
    assert 'Login"' in first


def test_no_oracle_field_is_shown() -> None:
    async def pages() -> list[str]:
        return [
            await shown(miniwob(task, 3, observation=form))
            for task in ("email-inbox-nl-turk", "click-test")
            for form in ("dom", "axtree", "html")
        ]

    for page in some(run(pages())):
        for word in ("fields", "Last reward", "Episodes done", "START", "wob_"):
            assert word not in page


def test_every_task_begins_alike_twice() -> None:
    async def pages() -> list[str]:
        episodes = [miniwob(task, SPLIT + 11) for task in TASKS for _ in range(2)]
        return await asyncio.gather(*map(shown, episodes))

    texts = run(pages())
    assert [task for task, one, two in zip(TASKS, texts[::2], texts[1::2], strict=True) if one != two] == []
    assert all("Goal: " in text and "[1]" in text for text in texts)


def test_limits_end_an_episode() -> None:
    async def ends() -> list[Observation]:
        found = []
        for reply, options in [("nothing", {}), ("wait()", {"max_steps": 2}), ("click(99)", {}), ('stop("")', {})]:
            episode = miniwob("login-user", 1, **options)
            await episode.reset()
            answer = await said(episode, reply)
            while not answer.done:
                answer = await said(episode, reply)
            found.append(answer)
            await episode.close()
        return found

    unread, cut, refused, stopped = run(ends())
    assert (unread.verdict, unread.cut, unread.metrics["steps"]) == ("unparsable", False, 3)
    assert (cut.verdict, cut.cut, cut.metrics["steps"]) == ("truncated", True, 2)
    assert (refused.verdict, refused.cut, refused.metrics["refused"]) == ("wrong", False, 5)
    assert (stopped.verdict, stopped.metrics["steps"]) == ("wrong", 1)


def test_refusals_are_told() -> None:
    async def texts() -> list[str]:
        episode = shop("find", 1)
        await episode.reset()
        replies = ["fly(1)", "click(9999)", 'press("Nothing")', "back()", 'select(1, "x")']
        answers = [str((await said(episode, reply)).messages[0]["content"]) for reply in replies]
        await episode.close()
        return answers

    words = [
        "unknown action fly",
        "no element 9999",
        "unknown key 'Nothing'",
        "no page to go back to",
        "element 1 is no list",
    ]
    for answer, expected in zip(run(texts()), words, strict=True):
        assert answer.startswith("Error: ")
        assert expected in answer
        assert "[1]" in answer


def test_back_leads_to_the_page_before() -> None:
    async def titles() -> list[str]:
        episode = shop("find", 1)
        await episode.reset()
        login = next(e.ref for e in await episode.look() if e.text == "Log in")
        found = []
        for reply in (f"click({login})", "back()", "forward()"):
            await said(episode, reply)
            found.append(next(e.text for e in await episode.look() if e.tag == "h1"))
        await episode.close()
        return found

    assert run(titles()) == ["Log in", "Welcome to the shop", "Log in"]


def test_a_warm_start_fills_fields_and_the_rest_is_left() -> None:
    async def shares() -> list[float]:
        found = []
        for progress in (0.001, 0.5, 1.0):
            episodes = [miniwob("login-user", seed, progress) for seed in range(8)]
            for episode in episodes:
                await episode.reset()
                found.append(await episode.task.potential(await episode.look()))
                await episode.close()
        return found

    found = run(shares())
    assert found[:8] == [1.0] * 8
    assert 0 < sum(found[8:16]) < 8
    assert found[16:] == [0.0] * 8


def test_shaping_telescopes_to_the_end() -> None:
    answers = run(played(miniwob("login-user", 4, shaping=0.5), Oracle()))
    assert sum(answer.reward for answer in answers) == pytest.approx(1 + 0.5)
    assert [round(answer.reward, 3) for answer in answers[1:]] == [0.25, 0.25, 1.0]


def test_pages_reach_nothing_but_their_server() -> None:
    async def reached() -> list[object]:
        episode = shop("find", 1)
        await episode.reset()
        assert episode.page is not None
        ask = "fetch(%s, {mode: 'no-cors'}).then(() => true, () => false)"
        others = [f"'http://{place}/'" for place in (f"127.0.0.1:{port}", "192.0.2.1", "example.com")]
        found = [await host().run(episode.page.evaluate(ask % place)) for place in ("location.origin", *others)]
        await episode.close()
        return found

    listener = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert listener.stdout is not None
        port = listener.stdout.readline().split()[5].decode()
        assert run(reached()) == [True, False, False, False]
    finally:
        listener.kill()
        listener.communicate()


def test_a_killed_chromium_costs_its_episodes_alone() -> None:
    async def killed() -> tuple[Family, str, int | None]:
        episode = miniwob("login-user", 1)
        await episode.reset()
        pid = host().browser.pid
        assert pid is not None
        family = family_of(pid)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(PageLostError) as caught:
            await said(episode, "wait()")
        await episode.close()
        answers = await played(miniwob("click-test", 2), Oracle())
        assert answers[-1].verdict == "correct"
        return family, str(caught.value), host().browser.pid

    family, reason, next_pid = run(killed())
    assert "Chromium has ended" in reason
    assert next_pid not in (None, family[0])
    assert not living(family)


def test_a_page_that_hangs_is_given_up() -> None:
    async def hung() -> None:
        episode = miniwob("click-test", 1)
        await episode.reset()
        assert episode.page is not None
        endless = episode.page.call("Runtime.evaluate", {"expression": "for (;;) {}"}, timeout_s=1.0)
        with pytest.raises(PageLostError, match="within 1 s"):
            await host().run(endless)
        await episode.close()
        assert (await played(miniwob("click-test", 2), Oracle()))[-1].verdict == "correct"

    run(hung())


def test_a_page_more_waits_for_one_that_closes() -> None:
    async def crowd() -> int:
        episodes = [miniwob("click-test", seed) for seed in range(PAGES + 1)]
        first = await asyncio.gather(*(episode.reset() for episode in episodes[:PAGES]))
        late = asyncio.create_task(episodes[PAGES].reset())
        await asyncio.sleep(0.5)
        assert not late.done()
        await episodes[0].close()
        await late
        await asyncio.gather(*(episode.close() for episode in episodes))
        await episodes[0].close()
        return len(first)

    assert run(crowd()) == PAGES


CHILD = """
import asyncio, os, sys
from tests.integration.test_browser import family_of, miniwob
from llmrl.browser.host import host
episode = miniwob("click-test", 1)
asyncio.run(episode.reset())
print(*family_of(host().browser.pid), flush=True)
if sys.argv[1] == "wait":
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_chromium_ends_with_its_process(end: str) -> None:
    words = [sys.executable, "-c", CHILD, "wait" if end == "kill" else "exit"]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert child.stdout is not None
    session, mark = child.stdout.readline().decode().split()
    family = int(session), mark
    if end == "kill":
        assert len(living(family)) > 5
        child.kill()
    child.communicate(timeout=60)
    deadline = time.monotonic() + 20
    while living(family) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not living(family)
