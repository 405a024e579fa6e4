"""The gateway before a scripted engine: an agent that only knows OpenAI's client, and the tokens that it made."""

from __future__ import annotations

import asyncio
import json
from array import array
from dataclasses import replace
from typing import Any

import numpy as np
import openai
import pytest

from llmrl.gateway.session import Session
from llmrl.protocols import Engine
from llmrl.rollout.samples import to_samples
from llmrl.samples import Sample
from llmrl.types import Completion, Sampling, Score
from tests.builders import episode
from tests.unit.gateway.served import CHAT, TOKENIZER, Agent, play, scripted

ASK: list[Any] = [{"role": "user", "content": "2+2?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}


def said(reply: Any) -> dict[str, Any]:
    message: dict[str, Any] = reply.choices[0].message.model_dump(exclude_none=True)
    return message


def samples(session: Session) -> list[Sample]:
    return to_samples(replace(episode(*session.turns()), score=Score(1.0)))


async def two_turns(agent: Agent) -> Session:
    first = await agent.say(ASK)
    more = [*ASK, said(first), {"role": "user", "content": "And 3+3?"}]
    second = await agent.say(more)
    assert [said(reply)["content"] for reply in (first, second)] == ["4", "6"]
    return agent.session


def test_a_conversation_is_one_sample_of_the_engines_own_tokens() -> None:
    engine = scripted(["4", "6"])
    session = play(engine, two_turns)
    (sample,) = samples(session)
    (first, _), (second, _) = engine.calls
    four, six = ([*TOKENIZER.encode(text), TOKENIZER.eos_token_id] for text in ("4", "6"))
    assert second[: len(first) + len(four)] == first + four, "what was sampled is fed again as it was"
    assert sample.token_ids.tolist() == second + six
    wanted = [-1] * len(first) + [0] * 2 + [-1] * (len(second) - len(first) - 2) + [1] * 2
    assert sample.turn_ids.tolist() == wanted
    assert [call.parent for call in session.calls] == [None, 0]
    assert not any(call.drift for call in session.calls)


def test_a_native_episode_of_the_same_messages_has_the_same_tokens() -> None:
    session = play(scripted(["4", "6"]), two_turns)
    first = CHAT.prompt_ids(ASK)
    sampled = [*first, *TOKENIZER.encode("4"), TOKENIZER.eos_token_id]
    second = CHAT.extend_ids(sampled, [{"role": "user", "content": "And 3+3?"}])
    assert [list(call.prompt_ids) for call in session.calls] == [first, second]


class Drifting:
    """Samples "abc" as the ids of "a" and an end, whatever the tokenizer would make of the text again."""

    def __init__(self) -> None:
        self.prompts: list[list[int]] = []

    async def generate(self, prompt_ids: Any, sampling: Sampling) -> Completion:
        self.prompts.append(list(prompt_ids))
        odd = [TOKENIZER.unk_token_id, *TOKENIZER.encode("a"), TOKENIZER.eos_token_id]  # encodes to another list
        return Completion(token_ids=array("i", odd), logprobs=array("f", [-1.0] * 3), finish="stop", version=7)


def test_tokens_that_no_text_encodes_to_are_fed_again() -> None:
    async def work(agent: Agent) -> None:
        first = await agent.say(ASK)
        await agent.say([*ASK, said(first), {"role": "user", "content": "?"}])

    engine = Drifting()
    play(engine, work)
    odd = [TOKENIZER.unk_token_id, *TOKENIZER.encode("a"), TOKENIZER.eos_token_id]
    assert engine.prompts[1][: len(engine.prompts[0]) + 3] == engine.prompts[0] + odd


def test_parallel_calls_and_rewritten_histories_become_a_tree() -> None:
    async def work(agent: Agent) -> Session:
        root = await agent.say(ASK)
        past = [*ASK, said(root)]
        left, right = await asyncio.gather(
            agent.say([*past, {"role": "user", "content": "left"}]),
            agent.say([*past, {"role": "user", "content": "right"}]),
        )
        await agent.say([*past, {"role": "user", "content": "right"}, said(right), {"role": "user", "content": "on"}])
        await agent.say([{"role": "user", "content": "Summary: 4."}])
        assert said(left)["content"] == "left."
        return agent.session

    def reply(prompt: str, sampling: Sampling) -> str:
        return "left." if "left" in prompt else "right." if "right" in prompt else "root."

    session = play(scripted(reply), work)
    assert [call.parent for call in session.calls] == [None, 0, 0, 2, None]
    assert [call.drift for call in session.calls] == [False, False, False, False, True]
    made = samples(session)
    turns = [sorted(set(sample.turn_ids.tolist()) - {-1}) for sample in made]
    assert turns == [[0, 1], [2, 3], [4]], "a sample a leaf; the root's tokens are learned in the first alone"
    root = session.calls[0]
    assert root.completion is not None
    begin, size = len(root.prompt_ids), len(root.completion.token_ids)
    shared = made[1].token_ids[begin : begin + size]
    assert shared.tolist() == list(root.completion.token_ids)
    assert (made[1].turn_ids[begin : begin + size] == -1).all()
    assert sum(sample.actions for sample in made) == sum(len(turn.completion.token_ids) for turn in session.turns())


def test_tools_are_called_and_the_history_stays_token_exact() -> None:
    call = '<tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call>'

    async def work(agent: Agent) -> Session:
        first = await agent.say(ASK, tools=[TOOL])
        message = said(first)
        assert first.choices[0].finish_reason == "tool_calls"
        assert message.get("content") == "Let me see."
        (tool,) = message["tool_calls"]
        assert (tool["function"]["name"], json.loads(tool["function"]["arguments"])) == ("add", {"a": 2})
        answer = {"role": "tool", "tool_call_id": tool["id"], "content": "4"}
        again = dict(message)
        again["tool_calls"] = [  # as clients do: spaces of their own
            tool | {"function": {"name": "add", "arguments": '{ "a":2 }'}}
        ]
        await agent.say([*ASK, again, answer], tools=[TOOL])
        return agent.session

    session = play(scripted(["Let me see. " + call, "4"]), work)
    assert [call.parent for call in session.calls] == [None, 0]
    assert len(samples(session)) == 1
    assert session.turns()[0].reply[0]["content"] == "4"


def test_a_malformed_call_is_text_to_the_agent() -> None:
    async def work(agent: Agent) -> str:
        return str(said(await agent.say(ASK, tools=[TOOL]))["content"])

    assert play(scripted(['<tool_call>{"name": }</tool_call>']), work) == '<tool_call>{"name": }</tool_call>'


@pytest.mark.parametrize("tools", [[], [TOOL]])
def test_a_stream_says_the_same(tools: list[Any]) -> None:
    text = '<tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call>' if tools else "four"

    async def work(agent: Agent) -> list[Any]:
        options = {"tools": tools} if tools else {}
        stream = await agent.say(ASK, stream=True, stream_options={"include_usage": True}, **options)
        chunks = [chunk async for chunk in stream]
        assert len(agent.session.turns()) == 1, "the record is there before the answer ends"
        return chunks

    chunks = play(scripted([text]), work)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    if tools:
        assert deltas[0].tool_calls[0].function.name == "add"
    else:
        assert "".join(delta.content or "" for delta in deltas) == "four"
    assert chunks[-2].choices[0].finish_reason == ("tool_calls" if tools else "stop")
    assert chunks[-1].usage.completion_tokens == len(TOKENIZER.encode(text)) + 1


def test_training_samples_as_its_recipe_says() -> None:
    async def work(agent: Agent) -> None:
        await agent.say(ASK, temperature=0, top_p=0.1, seed=3, max_tokens=5, stop=["x"])
        await agent.say(ASK, max_completion_tokens=1000)

    engine = scripted(["four"])
    play(engine, work, sampling=Sampling(temperature=0.7, max_tokens=9))
    (_, first), (_, second) = engine.calls
    assert first == Sampling(temperature=0.7, max_tokens=5, stop=("x",))
    assert second == Sampling(temperature=0.7, max_tokens=9)


def test_a_stop_string_is_kept_in_the_tokens_and_not_in_the_text() -> None:
    async def work(agent: Agent) -> Session:
        first = await agent.say(ASK, stop=["END"])
        assert said(first)["content"] == "four"
        await agent.say([*ASK, said(first), {"role": "user", "content": "?"}], stop=["END"])
        return agent.session

    session = play(scripted(["fourENDmore"]), work)
    assert session.turns()[0].text == "fourEND"
    assert [call.parent for call in session.calls] == [None, 0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 2}, "n 2: the gateway samples one completion"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tool_choice": "required", "tools": [TOOL]}, "tool_choice 'required'"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_another_policy_is_refused(options: dict[str, Any], words: str) -> None:
    async def work(agent: Agent) -> str:
        with pytest.raises(openai.BadRequestError) as caught:
            await agent.say(ASK, **({"max_tokens": -1} if options == {"max_tokens": 0} else options))
        assert not agent.session.calls
        return str(caught.value)

    assert words in play(scripted(["4"]), work)


def test_completions_go_on_from_their_tokens() -> None:
    async def work(agent: Agent) -> Session:
        first = await agent.client.completions.create(model="any", prompt="2+2=", logprobs=1)
        assert first.choices[0].text == "4"
        assert first.choices[0].logprobs is not None
        assert first.choices[0].logprobs.token_logprobs == [-1.0, -1.0]
        await agent.client.completions.create(model="any", prompt="2+2=4; 3+3=")
        await agent.client.completions.create(model="any", prompt=TOKENIZER.encode("other"))
        await agent.client.completions.create(model="any", prompt=f"2+2=4{TOKENIZER.eos_token}; 3+3=")
        with pytest.raises(openai.BadRequestError, match="expected ids below"):
            await agent.client.completions.create(model="any", prompt=[1, 10_000_000])
        return agent.session

    session = play(scripted(["4"]), work)
    assert [call.parent for call in session.calls] == [None, 0, None, 0]
    first, second, third, closed = (list(call.prompt_ids) for call in session.calls)
    assert closed == second, "the end token that the agent spells is the one that was sampled"
    assert first == TOKENIZER.encode("2+2=")
    assert second == [*first, *TOKENIZER.encode("4"), TOKENIZER.eos_token_id, *TOKENIZER.encode("; 3+3=")]
    assert third == TOKENIZER.encode("other")


def test_rewards_belong_to_a_call_or_to_the_episode() -> None:
    async def work(agent: Agent) -> Session:
        first = await agent.say(ASK)
        await agent.say([*ASK, said(first), {"role": "user", "content": "?"}])
        assert (await agent.post("/reward", {"value": 0.25, "call_id": first.id})).status_code == 200
        assert (await agent.post("/reward", {"value": 2})).status_code == 200
        assert (await agent.post("/reward", {"value": 1, "verdict": "correct"})).status_code == 200
        assert "no answer has this id" in (await agent.post("/reward", {"value": 1, "call_id": "x"})).text
        assert "finite number" in (await agent.post("/reward", {"value": "1"})).text
        assert "expected one of correct" in (await agent.post("/reward", {"value": 1, "verdict": "good"})).text
        return agent.session

    session = play(scripted(["4"]), work)
    assert [turn.reward for turn in session.turns()] == [0.25, 1.0]
    assert session.verdict == "correct"


def limit(agent: Agent) -> str | None:
    return agent.session.limit


def test_a_session_has_bounds() -> None:
    async def work(agent: Agent) -> None:
        first = await agent.say(ASK)
        with pytest.raises(openai.BadRequestError, match="no room for an answer") as long:
            await agent.say([*ASK, said(first), {"role": "user", "content": "x" * 300}])
        assert long.value.code == "context_length_exceeded"
        assert limit(agent) == "max_tokens"
        await agent.say(ASK)
        with pytest.raises(openai.PermissionDeniedError, match=r"all its 2 calls \(rollout.max_turns\)"):
            await agent.say(ASK)
        assert limit(agent) == "max_turns"
        body = await agent.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * (2 << 20)}]})
        assert "more than 1 MiB" in body.text
        assert "no JSON" in (await agent.http.post("/v1/chat/completions", content=b"{")).text
        await agent.post("/end", {"status": "bored"})
        assert "has ended: bored" in (await agent.post("/v1/chat/completions", {"messages": ASK})).text

    play(scripted(["4"]), work, max_calls=2, max_tokens=200, max_body_mb=1)


def test_a_session_is_its_own_secret() -> None:
    async def work(agent: Agent) -> None:
        for headers in ({"Authorization": "Bearer other"}, {"Authorization": ""}):
            for method, path in (("GET", "/v1/models"), ("GET", "/trace"), ("POST", "/reward")):
                assert (await agent.http.request(method, path, headers=headers)).status_code == 401
        assert [model.id async for model in agent.client.models.list()] == ["policy"]
        url = await agent.gateway.url()
        assert (await agent.http.post(f"{url}/sessions", json={})).status_code == 401, "its own id opens no other"
        key = {"Authorization": f"Bearer {agent.gateway.sessions.key}"}
        made = await agent.http.post(f"{url}/sessions", json={"task_id": "t"}, headers=key)
        assert made.status_code == 201
        assert made.json()["base_url"] == f"{url}/sessions/{made.json()['session_id']}/v1"
        assert (await agent.http.post(f"{url}/sessions", json={}, headers=key)).status_code == 429
        assert (await agent.http.get(f"{url}/health", headers={"Authorization": ""})).json()["sessions"] == 2

    play(scripted(["4"]), work, max_sessions=2)


class Slow:
    """Answers when it is told to."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.go = engine, asyncio.Event()

    async def generate(self, prompt_ids: Any, sampling: Sampling) -> Completion:
        await self.go.wait()
        return await self.engine.generate(prompt_ids, sampling)


def test_a_client_that_goes_away_closes_its_record_and_made_no_turn() -> None:
    async def work(agent: Agent) -> None:
        with pytest.raises(openai.APITimeoutError):
            await agent.client.with_options(timeout=0.2).chat.completions.create(model="any", messages=ASK)
        await asyncio.sleep(0.1)  # until the server has seen the end of the connection
        agent.engine.go.set()
        while agent.session.calls[0].status == "waiting":
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        (call,) = agent.session.calls
        assert call.status == "aborted"
        assert call.completion is not None, "the record is complete all the same"
        assert agent.session.turns() == []
        await agent.say(ASK)
        assert len(agent.session.turns()) == 1

    play(Slow(scripted(["4"])), work, max_calls=1)


def test_the_end_of_a_session_cuts_off_what_it_waits_for() -> None:
    async def work(agent: Agent) -> None:
        asked = asyncio.ensure_future(agent.say(ASK))
        while not agent.session.calls:
            await asyncio.sleep(0.01)
        agent.gateway.sessions.close(agent.session)
        with pytest.raises(openai.BadRequestError, match="the session has ended: closed"):
            await asked
        assert agent.session.calls[0].status == "aborted"
        assert agent.session.failure is None

    play(Slow(scripted(["4"])), work)


def test_the_trace_has_every_token() -> None:
    async def work(agent: Agent) -> dict[str, Any]:
        await two_turns(agent)
        trace: dict[str, Any] = (await agent.http.get("/trace")).json()
        return trace

    engine = scripted(["4", "6"], logprob=-0.5)
    first, second = play(engine, work)["calls"]
    assert second["prompt_ids"] == engine.calls[1][0]
    assert first["completion_ids"] == [*TOKENIZER.encode("4"), TOKENIZER.eos_token_id]
    assert first["logprobs"] == [-0.5, -0.5]
    assert (first["finish_reason"], first["version"], second["parent"]) == ("stop", 0, 0)
    assert np.isfinite(first["latency_ms"])
