"""Measure the browser environments: `python benchmarks/browser.py --episodes 200 --json FILE`.

Scripted players play tasks of MiniWoB++ and of the shop, with 1, 4 and 16 pages open; each row has episodes and steps
per second, processor time, and memory of Chromium. Then `--long` episodes, with the memory every 100, and the processes
that are left behind. `--pictures FOLDER` writes a picture for each kind of task instead.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llmrl import plugins
from llmrl.browser.episode import WebEpisode
from llmrl.browser.host import host
from llmrl.browser.miniwob.catalogue import EASY, KINDS
from llmrl.browser.players import Oracle, Player, RandomPlayer, play
from llmrl.browser.shop import goals
from llmrl.types import Problem

TICKS = os.sysconf("SC_CLK_TCK")
PICTURED = {
    "click": "click-dialog-2",
    "choose": "click-checkboxes",
    "text": "read-table",
    "form": "login-user",
    "mail": "email-inbox",
}


def episodes(env: str, count: int, first: int = 0, **options: Any) -> Iterator[WebEpisode]:
    """Episodes of the tasks that a scripted player solves, in turn."""
    key, names = ("task", EASY) if env == "miniwob" else ("kind", tuple(goals.KINDS))
    factory = plugins.build("env", {"name": env, **options})
    for number in range(count):
        info = {key: names[number % len(names)], "seed": first + number}
        yield factory.make(Problem(id=str(number), messages=[], info=info))


def processes() -> list[tuple[float, float]]:
    """Chromium's living processes: MB, shared ones divided, and seconds of processor with those of ended children."""
    pid, found = host().browser.pid, []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if pid is not None and int(fields[3]) == pid and fields[0] != "Z":
                rollup = (stat.parent / "smaps_rollup").read_text().splitlines()
                kb = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
                found.append((kb / 1024, sum(map(int, fields[11:15])) / TICKS))
    return found


def memory_mb() -> float:
    """Memory of Chromium, all processes together."""
    return round(sum(mb for mb, _ in processes()), 1)


def cpu_s() -> float:
    """Processor time of Chromium so far."""
    return sum(seconds for _, seconds in processes())


async def play_all(made: Sequence[WebEpisode], pages: int, player: Player, each: Any = None) -> Counter[str]:
    """Play episodes, so many at once; returns verdicts, and the steps as `steps`."""
    slots, counts = asyncio.Semaphore(pages), Counter[str]()

    async def one(episode: WebEpisode) -> None:
        async with slots:
            try:
                answers = await play(episode, player)
                counts[str(answers[-1].verdict)] += 1
                counts["steps"] += len(answers) - 1
            except Exception as error:
                counts[f"{type(error).__name__}: {error}"[:100]] += 1
            finally:
                await episode.close()
        if each is not None:
            each(sum(counts.values()) - counts["steps"])

    await asyncio.gather(*map(one, made))
    return counts


async def speed(env: str, count: int, pages: int) -> dict[str, Any]:
    """A row: a scripted player with so many pages open."""
    await play_all(list(episodes(env, pages)), pages, Oracle())  # starts Chromium and fills caches
    chromium, own, begin = cpu_s(), time.process_time(), time.perf_counter()
    top = 0.0

    def watch(done: int) -> None:
        nonlocal top
        top = max(top, memory_mb())

    counts = await play_all(list(episodes(env, count, first=1000)), pages, Oracle(), watch)
    seconds = time.perf_counter() - begin
    return {
        "env": env,
        "pages": pages,
        "episodes": count,
        "correct": counts["correct"],
        "other": {key: n for key, n in counts.items() if key not in ("correct", "steps")},
        "episodes_per_s": round(count / seconds, 2),
        "steps_per_s": round(counts["steps"] / seconds, 2),
        "python_cpu_ms_per_episode": round((time.process_time() - own) * 1000 / count, 1),
        "chromium_cpu_ms_per_episode": round((cpu_s() - chromium) * 1000 / count, 1),
        "peak_mb": top,
    }


async def endurance(count: int, pages: int) -> dict[str, Any]:
    """Memory over many episodes of at most 8 steps, by a random player on both environments."""
    half = count // 2
    both = [episodes(env, half, max_steps=8) for env in ("miniwob", "shop")]
    made = [episode for pair in zip(*both, strict=True) for episode in pair]
    memory: list[float] = []

    def watch(done: int) -> None:
        if done >= 100 * (len(memory) + 1):  # two may end at once
            memory.append(memory_mb())

    begin = time.perf_counter()
    counts = await play_all(made, pages, RandomPlayer(0), watch)
    return {
        "episodes": count,
        "pages": pages,
        "seconds": round(time.perf_counter() - begin, 1),
        "verdicts": {key: n for key, n in counts.items() if key != "steps"},
        "steps": counts["steps"],
        "memory_mb_each_100": memory,
        "processes_before_close": len(processes()),
    }


async def pictures(folder: Path) -> None:
    """A PNG for each kind of task of MiniWoB++, and of the shop."""
    folder.mkdir(parents=True, exist_ok=True)
    factory = plugins.build("env", "miniwob")
    for kind in KINDS:
        info = {"task": PICTURED[kind], "seed": 7}
        episode = factory.make(Problem(id=kind, messages=[], info=info))
        await episode.reset()
        (folder / f"miniwob_{kind}.png").write_bytes(await episode.picture(160, 210))
        await episode.close()
    episode = plugins.build("env", "shop").make(Problem(id="s", messages=[], info={"kind": "cheapest", "seed": 3}))
    await episode.reset()
    button = next(e.ref for e in await episode.look() if (e.tag, e.text) == ("button", "Search"))
    await episode.step({"role": "assistant", "content": f"click({button})"})
    (folder / "shop.png").write_bytes(await episode.picture(640, 420))
    await episode.close()


async def main(arguments: argparse.Namespace) -> None:
    if arguments.pictures:
        await pictures(arguments.pictures)
        return
    rows = []
    for env in ("miniwob", "shop"):
        for pages in (1, 4, 16) if arguments.episodes else ():
            rows.append(await speed(env, arguments.episodes, pages))
            print(json.dumps(rows[-1]), flush=True)
    long = await endurance(arguments.long, 16) if arguments.long else None
    pid = host().browser.pid
    await host().run(host().browser.close())
    left = [stat.parent.name for stat in Path("/proc").glob("[0-9]*/stat") if _session(stat) == pid]
    result = {
        "machine": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "rows": rows,
        "long": long,
        "orphans": left,
    }
    print(json.dumps({"long": long, "orphans": left}))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _session(stat: Path) -> int:
    with contextlib.suppress(OSError):
        fields = stat.read_text().rpartition(")")[2].split()
        return int(fields[3]) if fields[0] != "Z" else 0
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=200, help="for each row")
    parser.add_argument("--long", type=int, default=0, help="episodes over which memory is watched")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=Path)
    asyncio.run(main(parser.parse_args()))
