"""Judges, and servers of scores and of environments: what scripted ones are asked, and what comes of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from tempfile import mkdtemp
from typing import Any

from llmrl.errors import RewardError
from llmrl.scoring import serialization
from llmrl.types import Problem, Score
from tests.felt.elsewhere import HERE as ELSEWHERE
from tests.felt.probe import Options, Probe, Values
from tests.felt.rewards import answers, pool, problem
from tests.http_server import HttpServer, Reply, Request, completion

KEY = "FELT_API_KEY"
PRICES: Options = {"prompt_price": [2.0], "completion_price": [3.0]}
LATE_S = 0.4  # of a slow server
QUICK: Options = {"pause_s": 0.01, "timeout_s": 20.0, "patience_s": 20.0}
GROUP = answers(problem(rubric="By heart.", task="a pen"), "4", "<think>4</think>five", "<think>6</think>five")
ONE = GROUP[:1]


class Scripted(HttpServer):
    """Replies by the digest of a request: the first `broken` of them with nonsense, each after `wait` seconds."""

    def __init__(self, salt: str) -> None:
        super().__init__()
        self.salt, self.broken, self.wait, self.company = salt, 0, threading.Event(), False
        self.seconds, self.away = 0.0, False
        self.models = (200, {"data": [{"id": f"model-{salt}"}]})

    def begin(self, broken: int = 0, seconds: float = 0.0, company: bool = False, away: bool = False) -> None:
        """Forget all requests, and take the script of a probe."""
        self.away = away
        self.requests, self.most = [], 0
        self.broken, self.seconds, self.company = broken, seconds, company
        self.wait.clear()

    def reply(self, request: Request) -> Reply:
        if self.busy > 1:
            self.wait.set()  # somebody else is here
        if self.company:
            self.wait.wait(LATE_S)
        elif self.seconds:
            threading.Event().wait(self.seconds)
        if self.away:
            return 503, "starting"
        if len(self.requests) <= self.broken:
            return 200, b"nonsense"
        return self._scores(request) if request.path.endswith("/score") else self._said(request.body)

    def _scores(self, request: Request) -> Reply:
        group, _ = serialization.request_from_json(request.data)
        scores = [Score(float(len(one.text)) + len(self.salt)) for one in group]
        return 200, json.dumps({"scores": serialization.scores_to_json(scores)}).encode()

    def _said(self, body: Mapping[str, Any]) -> Reply:
        asked = str(body["messages"][-1]["content"])
        number = int.from_bytes(hashlib.blake2b((self.salt + asked).encode(), digest_size=4).digest())
        if "<count>" in asked:
            return 200, completion(f"<count>{number % 9}</count>")
        if "from 0 (not at all) to 10" in asked:
            return 200, completion(str(number % 10))
        found = re.search(r"a whole number from (-?\d+) to (\d+)", asked)
        if found is None and '"better"' not in asked:
            return 200, completion(f"I want it {number}.")
        reason = {"reason": "so"} if '"reason"' in asked else {}
        if found is None:
            return 200, completion({**reason, "better": ("A", "B", "tie")[number % 3]})
        low, high = map(int, found.groups())
        return 200, completion({**reason, "grade": low + number % (high - low + 1)})


@lru_cache
def server(salt: str = "") -> Scripted:
    """A server of this process, which ends with it."""
    return Scripted(salt)


def asking(ask: Callable[[Any], Any], **script: Any) -> Callable[[Any], Any]:
    """A use: what comes of the answers of the servers, what these were asked, and if two requests ever met."""

    def use(owner: Any) -> Any:
        os.environ[KEY] = "secret"
        servers = [server(), server("other")]
        for each in servers:
            each.begin(**script)
        try:
            came: Any = ask(owner)
        except (RewardError, ConnectionError) as error:
            came = type(error).__name__
        if script:  # of time: how often was asked before an end depends on the machine
            return came, script.get("company") and server().most > 1
        return came, [sorted((one.path, str(one.key), one.data) for one in each.requests) for each in servers]

    return use


def judged(group: Any, times: int = 1) -> Callable[[Any], Any]:
    """Scores of a group, without what names the server."""

    def ask(reward: Any) -> Any:
        made = reward.as_group_reward(pool())

        async def scored() -> Any:
            return [await made.score(group) for _ in range(times)]

        return [(score.value, score.verdict, dict(score.parts)) for some in asyncio.run(scored()) for score in some]

    return ask


def values(reward: Any) -> Any:
    """Values of a group, or None."""
    return [score.value for score in asyncio.run(reward.as_group_reward(pool()).score(ONE))]


def counts(reward: Any) -> Any:
    """Numbers of a group that are no costs."""
    scores = asyncio.run(reward.as_group_reward(pool()).score(ONE))
    return [{name: part for name, part in score.parts.items() if part is not None} for score in scores]


def several(reward: Any) -> Any:
    """Scores of two groups at once."""
    made = reward.as_group_reward(pool())

    async def scored() -> Any:
        return await asyncio.gather(made.score(ONE), made.score(GROUP[1:]))

    return [[score.value for score in some] for some in asyncio.run(scored())]


def talking(simulator: Any) -> Any:
    """A line of a user, twice, and its rating."""
    spoken = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "What do you want?"}]

    async def lines() -> Any:
        replies = [await simulator.reply(GROUP[0].problem, spoken) for _ in range(2)]
        return replies, await simulator.rate(GROUP[0].problem, spoken)

    return asyncio.run(lines())


def patient(ask: Callable[[Any], Any], base: Options) -> list[Probe]:
    """Probes of a client's bounds: servers that break one reply, and that are slow; what is told has no counts."""
    quick = {**base, "retries": 1}
    return [
        Probe(use=asking(ask, broken=1), base=quick, values={"retries": [0], "pause_s": [99.0]}, only=True),
        Probe(
            use=asking(ask, broken=1),
            base={**quick, "retries": 3, "pause_s": 1.2, "timeout_s": 0.5, "patience_s": 0.5},
            values={"patience_s": [30.0]},
            only=True,
        ),
        Probe(
            use=asking(ask, seconds=LATE_S),
            base={**base, "retries": 0},
            values={"timeout_s": [LATE_S / 8]},
            only=True,
        ),
    ]


WAITS: Values = dict.fromkeys(
    ("timeout_s", "retries", "pause_s", "patience_s", "concurrency", "requests_per_minute"), ()
)
"""Options that make requests wait: not tried where nobody waits."""


def chats(
    ask: Callable[[Any], Any], together: Callable[[Any], Any], once: Callable[[Any], Any], **values: Any
) -> list[Probe]:
    """Probes of what asks a chat model; `together` sends several requests at once, `once` tells nothing of costs."""
    base: Options = {**QUICK, "url": f"{server().url}/v1"}
    common: Options = {
        "url": [f"{server('other').url}/v1"],
        "model": ["another"],
        "api_key_variable": [KEY],
        "max_tokens": [7],
        "extra_body": [{"top_p": 0.5}],
        **WAITS,
        "cache": [],
    }
    return [
        Probe(use=asking(ask), base=base, values={**common, **values}),
        Probe(use=asking(ask), base=base, values={"cache": [mkdtemp(prefix="felt-cache-")]}, only=True),
        Probe(use=asking(together, company=True), base=base, values={"concurrency": [1]}, only=True),
        *patient(once, base),
    ]


def probes() -> dict[str, list[Probe]]:
    graded = judged(GROUP, times=2)
    asks = {"model": "m", **QUICK, "url": f"{server().url}/v1"}
    return {
        "reward judge": [
            *chats(
                graded,
                judged(GROUP),
                values,
                **PRICES,
                rubric=["By ear."],
                rubric_column=["rubric"],
                correct_from=[0.5],
            ),
            Probe(use=asking(graded), base={**asks, "form": "pairwise"}, values=WAITS),
        ],
        "reward behaviour_judge": chats(graded, judged(GROUP), counts, **PRICES, share=[0.4]),
        "simulator chat_model": chats(talking, _two_lines, talking, persona=["You are tired."], task_column=["task"]),
        "reward remote": _remote(),
        "env openenv": _sessions(),
    }


def _two_lines(simulator: Any) -> Any:
    spoken = [[{"role": "user", "content": text}] for text in ("Hello", "Good day")]

    async def lines() -> Any:
        return await asyncio.gather(*(simulator.reply(GROUP[0].problem, each) for each in spoken))

    return asyncio.run(lines())


def _remote() -> list[Probe]:
    base: Options = {**QUICK, "url": server().url}
    away: Options = {**base, "pause_s": 99.0}  # longer than anybody's patience
    bounds: Values = {name: [] for name in ("timeout_s", "retries", "pause_s", "patience_s", "concurrency", "give_up")}
    return [
        Probe(
            use=asking(judged(GROUP)),
            base=base,
            values={**bounds, "url": [server("other").url], "api_key_variable": [KEY]},
        ),
        Probe(use=asking(values, away=True), base=away, values={"give_up": ["error"]}, only=True),
        Probe(use=asking(several, company=True), base=base, values={"concurrency": [1]}, only=True),
        *patient(values, base),
    ]


def _sessions() -> list[Probe]:
    """Probes of an environment behind a server of OpenEnv's protocol, and of one by a client of its own."""
    one, other = (_listening(salt) for salt in ("one", "two"))
    guessed = Problem(id="n", messages=[{"role": "user", "content": "Guess."}])

    async def played(env: Any) -> Any:
        episode = env.make(guessed)
        seen = [await episode.reset()]
        try:
            return [*seen, *[await episode.step({"role": "assistant", "content": text}) for text in ("3", "seven")]]
        finally:
            await episode.close()

    return [
        Probe(
            use=lambda env: asyncio.run(played(env)),
            base={"base_url": one},
            values={
                "base_url": [other],
                "client": [f"{ELSEWHERE}:NumberClient"],
                "reset": [{"easy": True}],
                "action_field": ["text"],
                "action": [f"{ELSEWHERE}:typed"],
                "observation": [f"{ELSEWHERE}:shown"],
            },
        )
    ]


def _listening(salt: str) -> str:
    """The address of a server that repeats what it is told, in a thread of this process."""
    from websockets.sync.server import serve

    def session(connection: Any) -> None:
        for text in connection:
            asked = json.loads(text)
            if asked["type"] == "close":
                return
            told = {"observation": {"salt": salt, "told": asked["data"]}, "reward": 0.5, "done": False}
            connection.send(json.dumps({"type": "observation", "data": told}))

    made = serve(session, "127.0.0.1", 0)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{made.socket.getsockname()[1]}"
