from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from llmrl.clients.cache import Cache, key_of


def fill(folder: str, seed: int) -> int:
    cache = Cache(Path(folder))
    for number in range(60):
        key = key_of({"number": number % 20})
        found = cache.get(key)
        assert found in (None, f"text {number % 20}" * 500)
        cache.put(key, f"text {number % 20}" * 500, {"seed": seed})
    return cache.corrupt


def test_processes_share_a_folder(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as two:
        assert list(two.map(fill, [str(tmp_path)] * 2, range(2))) == [0, 0]
    assert len(list(tmp_path.rglob("*.json"))) == 20
    assert not list(tmp_path.rglob("*.tmp"))
