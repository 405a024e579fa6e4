"""The gateway under load: sessions at once, a tenth killed behind their second turn, every token compared.

    python benchmarks/gateway.py --sessions 200 --turns 4 --out benchmarks/gateway.json

An agent is a task with HTTP connections of its own; a killed one drops its connection in the midst of its third call.
The engine answers after 5 ms, with tokens made from the prompt, and keeps a log of its own: prompt and completion of
every request that it was given. The same conversations are then asked of the engine directly, in token ids, which is
what the overhead is measured against. Exit code 1 where a token differs or a turn is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from llmrl.chat import Chat
from llmrl.gateway.server import Gateway
from llmrl.gateway.session import Session
from llmrl.gateway.sessions import GatewayLimits, Sessions
from llmrl.tiny import make_tokenizer
from llmrl.types import Completion, Sampling

DELAY_S = 0.005
TOKENS = 24
FIRST_ID = 40  # ids of bytes, none of them special


@dataclass
class LoggedEngine:
    """Samples ids that follow from the prompt, which mostly are no text that the tokenizer would write so."""

    end: int
    log: list[tuple[list[int], list[int]]] = field(default_factory=list)

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Answer after a moment."""
        await asyncio.sleep(DELAY_S)
        digest = hashlib.blake2b(array("i", prompt_ids).tobytes(), digest_size=TOKENS - 1).digest()
        ids = [FIRST_ID + byte % 200 for byte in digest] + [self.end]
        self.log.append((list(prompt_ids), ids))
        return Completion(token_ids=array("i", ids), logprobs=array("f", [-1.0] * TOKENS), finish="stop", version=0)


async def agent(url: str, session: Session, number: int, turns: int, killed: bool) -> float:
    """Talk for some turns; a killed agent goes away while its third call runs. Seconds that it took."""
    begun = time.perf_counter()
    messages = [{"role": "user", "content": f"Task {number}: " + "count on. " * 8}]
    headers = {"Authorization": f"Bearer {session.id}"}
    path = f"{url}/sessions/{session.id}/v1/chat/completions"
    async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=120, verify=False) as client:
        for turn in range(turns):
            asked = client.post(path, json={"model": "m", "messages": messages})
            if killed and turn == 2:
                task = asyncio.ensure_future(asked)
                while len(session.calls) < 3:  # until the engine works on it
                    await asyncio.sleep(0)
                task.cancel()
                break
            reply = (await asked).raise_for_status().json()["choices"][0]["message"]
            messages += [reply, {"role": "user", "content": f"Turn {turn}: go on."}]
    return time.perf_counter() - begun


async def directly(engine: LoggedEngine, conversations: Sequence[Sequence[Sequence[int]]]) -> float:
    """Ask the engine for the same prompts, sessions at once and turns one after the other; seconds."""

    async def one(prompts: Sequence[Sequence[int]]) -> None:
        for prompt in prompts:
            await engine.generate(prompt, Sampling())

    begun = time.perf_counter()
    await asyncio.gather(*map(one, conversations))
    return time.perf_counter() - begun


def lost(sessions: Sequence[Session], killed: set[int], turns: int, engine: LoggedEngine) -> list[str]:
    """Complaints about turns that are missing, prompts that do not extend, and ids that the engine's log has not."""
    logged = {(tuple(prompt), tuple(ids)) for prompt, ids in engine.log}
    found = []
    for number, session in enumerate(sessions):
        made = session.turns()
        expected = 2 if number in killed else turns
        # a killed agent's third answer may have been on its way already when it died
        if not (len(made) == expected or (number in killed and len(made) == expected + 1)):
            found.append(f"session {number}: {len(made)} turns, expected {expected}")
        for before, turn in zip([None, *made], made, strict=False):
            if (tuple(turn.prompt_ids), tuple(turn.completion.token_ids)) not in logged:
                found.append(f"session {number}: ids that the engine has not seen")
            if before is not None and turn.observed_after(before) is None:
                found.append(f"session {number}: a prompt that does not extend the last turn")
    return found


async def measured(count: int, turns: int) -> dict[str, Any]:
    """Run all; figures."""
    tokenizer = make_tokenizer()
    engine = LoggedEngine(tokenizer.eos_token_id)
    limits = GatewayLimits(max_sessions=count, max_calls=turns, max_tokens=1 << 14)
    gateway = Gateway(engine, Chat(tokenizer), Sessions(sampling=Sampling(max_tokens=TOKENS), limits=limits))  # type: ignore[arg-type]
    url = await gateway.url()
    await agent(url, warm := gateway.sessions.open(), 0, 2, False)
    gateway.sessions.close(warm)
    engine.log.clear()
    killed = set(range(0, count, 10))
    sessions = [gateway.sessions.open() for _ in range(count)]
    begun = time.perf_counter()
    taken = await asyncio.gather(
        *(agent(url, session, number, turns, number in killed) for number, session in enumerate(sessions))
    )
    seconds = time.perf_counter() - begun
    await asyncio.sleep(0.2)  # calls of killed agents come to their end
    for session in sessions:
        gateway.sessions.close(session)
    await gateway.stop()
    complaints = lost(sessions, killed, turns, engine)
    prompts = [[turn.prompt_ids for turn in session.turns()] for session in sessions]
    calls = sum(map(len, prompts))
    direct = await directly(engine, prompts)
    return {
        "sessions": count,
        "turns": turns,
        "killed": len(killed),
        "calls": calls,
        "aborted": sum(call.status == "aborted" for session in sessions for call in session.calls),
        "lost_or_different": len(complaints),
        "complaints": complaints[:10],
        "seconds": round(seconds, 3),
        "sessions_per_second": round(count / seconds, 1),
        "calls_per_second": round(calls / seconds, 1),
        "median_session_s": round(median(taken), 3),
        "directly_s": round(direct, 3),
        "overhead_ms_per_call": round(1000 * (seconds - direct) / calls, 3),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    figures = asyncio.run(measured(options.sessions, options.turns))
    text = json.dumps(figures, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    return 1 if figures["lost_or_different"] else 0


if __name__ == "__main__":
    sys.exit(main())
