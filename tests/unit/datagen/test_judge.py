from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmrl.chat import Chat
from llmrl.datagen.judge import OPENING, EngineJudge, ServerJudge, both_orders, open_judge, question
from llmrl.errors import DataError, EngineError
from llmrl.reward_models.principles import Principle
from llmrl.tiny import make_tokenizer
from llmrl.types import Problem
from tests.http_server import HttpServer, Reply, in_turn

PROBLEM = Problem(id="p", messages=[{"role": "user", "content": "Say something."}])
CONCISE = Principle(name="Concise", text="Short.", opposite="Long.")


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


def test_a_server_with_chat_completions(server: HttpServer) -> None:
    server.answer = in_turn((200, chat_answer(a=math.log(0.3), _A=math.log(0.2), b=math.log(0.25), c=-0.1)))
    assert asked_of(ServerJudge(f"{server.url}/v1", "m")) == pytest.approx(math.log(2))  # 0.3 + 0.2 against 0.25
    assert server.requests[0].path == "/v1/chat/completions"
    body = server.asked[0]
    assert (body["model"], body["max_tokens"], body["top_logprobs"]) == ("m", 1, 20)


def test_a_server_with_completions(server: HttpServer) -> None:
    server.answer = in_turn((200, {"choices": [{"logprobs": {"top_logprobs": [{"a": -1.0, "b": -3.0}]}}]}))
    assert asked_of(ServerJudge(f"{server.url}/v1", "m", "completions")) == 2.0
    assert server.asked[0]["prompt"].endswith(OPENING)


def test_a_letter_that_is_not_among_the_likeliest(server: HttpServer) -> None:
    server.answer = in_turn((200, chat_answer(a=-0.1, the=-3.0)))
    with pytest.raises(DataError, match="b not among the 20 likeliest"):
        asked_of(ServerJudge(f"{server.url}/v1", "m"))


def test_what_passes_is_tried_again(server: HttpServer) -> None:
    server.answer = in_turn((503, {}), (200, chat_answer(a=-1.0, b=-2.0)))
    assert asked_of(ServerJudge(f"{server.url}/v1", "m", pause_s=0.01)) == 1.0
    assert len(server.asked) == 2


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
def test_what_fails(server: HttpServer, status: int, answer: Any, kind: type[Exception], words: str) -> None:
    server.answer = in_turn((status, answer))
    with pytest.raises(kind, match=words):
        asked_of(ServerJudge(f"{server.url}/v1", "m", pause_s=0.01))


def test_questions_that_wait_for_a_connection_are_not_lost(server: HttpServer) -> None:
    judge = ServerJudge(f"{server.url}/v1", "m", timeout_s=0.5, tries=1, concurrency=1)

    def slow(body: Any) -> Reply:
        time.sleep(0.15)
        return 200, chat_answer(a=-1.0, b=-2.0)

    async def all_at_once() -> list[float]:
        try:
            return await asyncio.gather(*(judge.gap("Which?") for _ in range(6)))  # 0.9 s for the last of them
        finally:
            await judge.close()

    server.answer = slow
    assert asyncio.run(all_at_once()) == [1.0] * 6
    assert len(server.asked) == 6


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
