"""An agent as its author wrote it: OpenAI's client, its usual variables, a tool, and no word of llmrl."""

import json
import os
import sys
from typing import Any

from openai import OpenAI

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Add two numbers.",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
                "required": ["a", "b"],
            },
        },
    }
]

client = OpenAI()
messages: list[Any] = [{"role": "user", "content": sys.argv[1]}]
for _ in range(3):
    reply = client.chat.completions.create(model=os.environ.get("MODEL", "gpt-4o"), messages=messages, tools=TOOLS)
    message = reply.choices[0].message
    messages.append(message.model_dump(exclude_none=True))
    for call in message.tool_calls or ():
        given = json.loads(call.function.arguments) if call.type == "function" else {}
        messages.append({"role": "tool", "tool_call_id": call.id, "content": str(given.get("a", 0))})
    if not message.tool_calls:
        messages.append({"role": "user", "content": "Sure?"})
