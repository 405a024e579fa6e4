from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from llmrl.chat import Chat
from llmrl.datagen.judge import OPENING, EngineJudge, ServerJudge, both_orders, open_judge, question
from llmrl.errors import DataError, EngineError
from llmrl.reward_models.principles import Principle
from llmrl.tiny import make_tokenizer
from llmrl.types import Problem

PROBLEM = Problem(id="p", messages=[{"role": "user", "content": "Say something."}])
CONCISE = Principle(name="Concise", text="Short.", opposite="Long.")


@dataclass
class Handling:
    """Time that the server takes for a reply."""

    pause_s: float = 0.0


HANDLING = Handling()


@dataclass
class Likes:
    """An engine that gives each token a log-probability by its id and its place."""

    async def score(self, token_ids: Sequence[int]) -> list[float]:
        return [-0.001 * token * (1 + 0.1 * place) for place, token in enumerate(token_ids[1:])]


def test_the_frame_shows_everything_once() -> None:
    text = question(PROBLEM, "first answer", "second answer", CONCISE)
    for words in ("Say something.", "(a)]\nfirst answer", "(b)]\nsecond answer", "Concise: Short."):
        assert text.count(words) == 1


def test_the_gap_is_that_of_the_letters_where_they_stand() -> None:
    chat = Chat(make_tokenizer())
    judge = EngineJudge(Likes(), chat)  # type: ignore[arg-type]
    head = len(chat.prompt_ids([{"role": "user", "content": "Which?"}])) + len(chat.tokenizer.encode(OPENING))
    a, b = (chat.tokenizer.encode(letter)[0] for letter in "ab")
    found = asyncio.run(judge.gap("Which?"))
    assert found == pytest.approx(-0.001 * (1 + 0.1 * (head - 1)) * (a - b))


def test_the_second_order_is_turned_round() -> None:
    class Fixed:
        async def gap(self, question: str) -> float:
            return 1.0 if "(a)]\none" in question else 0.25

    assert asyncio.run(both_orders(Fixed(), PROBLEM, ["one", "two"], CONCISE)) == (1.0, -0.25)


def test_a_question_that_is_too_long_is_refused() -> None:
    judge = EngineJudge(Likes(), Chat(make_tokenizer()), max_tokens=20)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="at most 20 are asked"):
        asyncio.run(judge.gap("Which?"))


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any], list[tuple[int, Any]]]]:
    """An address, what was asked there, and the answers it will give: the last one again and again."""
    asked: list[Any] = []
    answers: list[tuple[int, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, json.loads(body)))
            time.sleep(HANDLING.pause_s)
            status, answer = answers[min(len(asked), len(answers)) - 1]
            text = json.dumps(answer).encode() if not isinstance(answer, bytes) else answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}/v1", asked, answers
    running.shutdown()
    thread.join()
    running.server_close()


def chat_answer(**logprobs: float) -> Any:
    top = [{"token": token.replace("_", " "), "logprob": value} for token, value in logprobs.items()]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}


def asked_of(judge: ServerJudge) -> float:
    async def ask() -> float:
        try:
            return await judge.gap("Which?")
        finally:
            await judge.close()

    return asyncio.run(ask())


def test_a_server_with_chat_completions(server: tuple[str, list[Any], list[tuple[int, Any]]]) -> None:
    url, asked, answers = server
    answers.append((200, chat_answer(a=math.log(0.3), _A=math.log(0.2), b=math.log(0.25), c=-0.1)))
    assert asked_of(ServerJudge(url, "m")) == pytest.approx(math.log(2))  # 0.3 + 0.2 against 0.25
    path, body = asked[0]
    assert path == "/v1/chat/completions"
    assert (body["model"], body["max_tokens"], body["top_logprobs"]) == ("m", 1, 20)


def test_a_server_with_completions(server: tuple[str, list[Any], list[tuple[int, Any]]]) -> None:
    url, asked, answers = server
    answers.append((200, {"choices": [{"logprobs": {"top_logprobs": [{"a": -1.0, "b": -3.0}]}}]}))
    assert asked_of(ServerJudge(url, "m", "completions")) == 2.0
    assert asked[0][1]["prompt"].endswith(OPENING)


def test_a_letter_that_is_not_among_the_likeliest(server: tuple[str, list[Any], list[tuple[int, Any]]]) -> None:
    url, _, answers = server
    answers.append((200, chat_answer(a=-0.1, the=-3.0)))
    with pytest.raises(DataError, match="b not among the 20 likeliest"):
        asked_of(ServerJudge(url, "m"))


def test_what_passes_is_tried_again(server: tuple[str, list[Any], list[tuple[int, Any]]]) -> None:
    url, asked, answers = server
    answers += [(503, {}), (200, chat_answer(a=-1.0, b=-2.0))]
    assert asked_of(ServerJudge(url, "m", pause_s=0.01)) == 1.0
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("status", "answer", "kind", "words"),
    [
        (400, {"error": "too long"}, DataError, "the judge refuses it: HTTP 400"),
        (401, {}, EngineError, "HTTP 401"),
        (500, {}, EngineError, "HTTP 500"),
        (200, b"<html>", EngineError, "no JSON"),
        (200, {"choices": []}, EngineError, "expected a server that gives top_logprobs"),
    ],
)
def test_what_fails(
    server: tuple[str, list[Any], list[tuple[int, Any]]], status: int, answer: Any, kind: type[Exception], words: str
) -> None:
    url, _, answers = server
    answers.append((status, answer))
    with pytest.raises(kind, match=words):
        asked_of(ServerJudge(url, "m", pause_s=0.01))


def test_questions_that_wait_for_a_connection_are_not_lost(
    server: tuple[str, list[Any], list[tuple[int, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked, answers = server
    answers.append((200, chat_answer(a=-1.0, b=-2.0)))
    judge = ServerJudge(url, "m", timeout_s=0.5, tries=1, concurrency=1)
    monkeypatch.setattr(HANDLING, "pause_s", 0.15)

    async def all_at_once() -> list[float]:
        try:
            return await asyncio.gather(*(judge.gap("Which?") for _ in range(6)))  # 0.9 s for the last of them
        finally:
            await judge.close()

    assert asyncio.run(all_at_once()) == [1.0] * 6
    assert len(asked) == 6


def test_nobody_there() -> None:
    with pytest.raises(EngineError, match="is the server running"):
        asked_of(ServerJudge("http://127.0.0.1:9/v1", "m", pause_s=0.01))
    with (
        pytest.raises(EngineError, match="which model"),
        open_judge("http://x/v1", engine="hf", api="chat", max_tokens=9),
    ):
        pass


def test_a_real_model_judges_by_its_own_logits(tiny_model_dir: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype="float32")
    with open_judge(str(tiny_model_dir), engine="hf", api="chat", max_tokens=600) as judge:
        assert isinstance(judge, EngineJudge)
        text = question(PROBLEM, "one", "two", CONCISE)
        found = asyncio.run(judge.gap(text))
        ids = judge.chat.prompt_ids([{"role": "user", "content": text}]) + judge.chat.tokenizer.encode(OPENING)
        a, b = (judge.chat.tokenizer.encode(letter)[0] for letter in "ab")
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1].double()
    assert found == pytest.approx(float(logits[a] - logits[b]), abs=1e-4)
