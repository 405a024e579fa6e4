"""The responses API: OpenAI's own client, over the same tokens as chat completions."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from llmrl.gateway.session import Session
from tests.unit.gateway.served import TOKENIZER, Agent, play, scripted
from tests.unit.gateway.test_gateway import samples

TOOL: Any = {
    "type": "function",
    "name": "add",
    "description": "Add.",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
}
CALL = 'Let me see.<tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call>'


async def respond(agent: Agent, **options: Any) -> Any:
    return await agent.client.responses.create(model="any", **options)


def test_a_text_is_answered_and_recorded() -> None:
    async def work(agent: Agent) -> Session:
        answer = await respond(agent, input="2+2?", instructions="Be short.", include=["message.output_text.logprobs"])
        assert (answer.output_text, answer.status, answer.object) == ("4", "completed", "response")
        (call,) = agent.session.calls
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (len(call.prompt_ids), 2)
        assert [entry.logprob for entry in answer.output[0].content[0].logprobs] == [-1.0, -1.0]
        return agent.session

    (call,) = play(scripted(["4"]), work).calls
    assert (call.dialect, call.id) == ("responses", "call-0")
    spelled = TOKENIZER.decode(call.prompt_ids)
    assert "Be short." in spelled
    assert spelled.endswith("<|user|>2+2?<|end|><|assistant|>")


def test_calls_of_functions_go_on_from_recorded_tokens() -> None:
    async def work(agent: Agent) -> Session:
        asked: list[Any] = [{"role": "user", "content": "2+2?"}]
        first = await respond(agent, input=asked, tools=[TOOL])
        message, call = first.output
        assert (message.content[0].text, call.type, call.name) == ("Let me see.", "function_call", "add")
        assert json.loads(call.arguments) == {"a": 2}
        sent = [item.model_dump(exclude_none=True) for item in first.output]
        sent[1]["arguments"] = '{ "a":2 }'  # as clients write it again
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "4"}
        second = await respond(
            agent, input=[*asked, {"type": "reasoning", "id": "r", "summary": []}, *sent, output], tools=[TOOL]
        )
        assert second.output_text == "It is 4."
        return agent.session

    session = play(scripted([CALL, "It is 4."]), work)
    assert [call.parent for call in session.calls] == [None, 0]
    (sample,) = samples(session)
    assert sample.actions == sum(len(turn.completion.token_ids) for turn in session.turns())


def test_a_chat_and_a_response_of_one_conversation_have_the_same_tokens() -> None:
    async def by_chat(agent: Agent) -> Session:
        tool = {"type": "function", "function": {key: TOOL[key] for key in ("name", "description", "parameters")}}
        await agent.say([{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}], tools=[tool])
        return agent.session

    async def by_response(agent: Agent) -> Session:
        content: Any = [{"role": "user", "content": [{"type": "input_text", "text": "Q"}]}]
        await respond(agent, instructions="S", input=content, tools=[TOOL])
        return agent.session

    chat, response = (play(scripted(["4"]), work).calls[0] for work in (by_chat, by_response))
    assert list(chat.prompt_ids) == list(response.prompt_ids)


def test_a_stream_ends_with_the_whole_response() -> None:
    async def work(agent: Agent) -> tuple[list[str], list[str], Any]:
        async with agent.client.responses.stream(model="any", input="2+2?", tools=[TOOL]) as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
        texts = [event.delta for event in events if event.type == "response.output_text.delta"]
        return [event.type for event in events], texts, final

    kinds, texts, final = play(scripted([CALL]), work)
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert texts == ["Let me see."]
    assert "response.function_call_arguments.done" in kinds
    assert [item.type for item in final.output] == ["message", "function_call"]
    assert json.loads(final.output[1].arguments) == {"a": 2}


def test_a_cut_off_answer_is_incomplete() -> None:
    async def work(agent: Agent) -> Any:
        return await respond(agent, input="2+2?", max_output_tokens=3)

    answer = play(scripted(["a long answer"]), work)
    assert (answer.status, answer.incomplete_details.reason, answer.output_text) == (
        "incomplete",
        "max_output_tokens",
        "a l",
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"previous_response_id": "call-0"}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "of type function"),
        ({"text": {"format": {"type": "json_object"}}}, "text"),
        ({"input": []}, "input: expected"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_what_the_gateway_lacks_is_refused(options: dict[str, Any], words: str) -> None:
    async def work(agent: Agent) -> int:
        with pytest.raises(openai.BadRequestError, match=words):
            await respond(agent, **{"input": "2+2?"} | options)
        return len(agent.session.calls)

    assert play(scripted(["4"]), work) == 0
