"""Tools: what their functions give, of servers of MCP, of programs in the sandbox and of files."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from llmrl.errors import LlmrlError
from tests.felt.probe import Probe
from tests.felt.programs import levels
from tests.http_server import HttpServer

JSON = {"Content-Type": "application/json"}


def probes() -> dict[str, list[Probe]]:
    return {
        "tool mcp": _served(),
        "tool python": [
            Probe(
                use=calling("python", {"code": "print(len(bytearray(250 << 20)))"}),
                base={"min_level": "subprocess", "timeout_s": 20.0, "memory_mb": 512},
                values={"memory_mb": [128]},
                only=True,
            ),
            Probe(
                use=calling("python", {"code": "import time; time.sleep(1); print(1)"}),
                base={"min_level": "subprocess", "timeout_s": 20.0},
                values={"timeout_s": [0.5]},
                only=True,
            ),
            *levels(lambda tool: tool.sandbox(), "min_level", base={}),
        ],
        "tool search_files": _searched(),
    }


def calling(name: str, *arguments: Mapping[str, Any]) -> Callable[[Any], Any]:
    """A use: names of a tool's functions, and results of calls of one."""

    async def called(tool: Any) -> Any:
        try:
            async with tool.functions() as functions:
                found = {each.name: each for each in functions}
                return sorted(found), [await found[name].call(given) for given in arguments if name in found]
        except (LlmrlError, ExceptionGroup, OSError) as error:
            return type(error).__name__

    return lambda tool: asyncio.run(called(tool))


def spoken(asked: Mapping[str, Any], about: Any = None) -> Any:
    """Replies of a server of MCP: two tools, which repeat what they are told; None to what needs no reply."""
    if "id" not in asked:
        return None
    given, schema = asked.get("params") or {}, {"type": "object", "properties": {"x": {"type": "string"}}}
    if given.get("arguments", {}).get("x") == "slow":
        time.sleep(0.7)
    said = json.dumps([given.get("name"), given.get("arguments"), about])
    results: Any = {
        "initialize": {
            "protocolVersion": given.get("protocolVersion"),
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "felt", "version": "1"},
        },
        "tools/list": {"tools": [{"name": name, "description": "d", "inputSchema": schema} for name in ("a", "b")]},
        "tools/call": {"content": [{"type": "text", "text": said}]},
    }
    if asked["method"] in results:
        return {"jsonrpc": "2.0", "id": asked["id"], "result": results[asked["method"]]}
    return {"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32601, "message": "no such method"}}


def _served() -> list[Probe]:
    speaker = Path(mkdtemp(prefix="felt-")) / "speaker.py"
    source = inspect.getsource(spoken).replace("Mapping[str, Any]", "dict").replace("Any", "object")
    told = "reply = spoken(json.loads(line), [os.environ.get('FELT_OWN'), sys.argv[1:]])\n    "
    speaker.write_text(
        f"import json, os, sys, time\n{source}"
        f"for line in sys.stdin:\n    {told}if reply:\n        print(json.dumps(reply), flush=True)\n"
    )
    command = [sys.executable, "-I", "-S", str(speaker)]

    def listening(about: str) -> str:
        server = HttpServer(answer=lambda asked: (200, said, JSON) if (said := spoken(asked, about)) else (202, b""))
        server.models = (405, b"")
        return f"{server.url}/mcp"

    return [
        Probe(
            use=calling("a", {"x": "1"}),
            base={"command": command},
            values={"command": [[*command, "more"]], "env": [{"FELT_OWN": "own"}], "only": [["a"]]},
            only=True,
        ),
        Probe(
            use=calling("a", {"x": "1"}), base={"url": listening("one")}, values={"url": [listening("two")]}, only=True
        ),
        Probe(use=calling("a", {"x": "slow"}), base={"command": command}, values={"timeout_s": [0.2]}, only=True),
    ]


def _searched() -> list[Probe]:
    place, other = Path(mkdtemp(prefix="felt-")), Path(mkdtemp(prefix="felt-"))
    (place / "a.txt").write_text("one cat\ntwo cats and a cat\n")
    (place / "b.md").write_text("a cat\n")
    (other / "c.txt").write_text("a cat\n")
    return [
        Probe(
            use=calling("search", {"query": "a cat"}),
            base={"folder": str(place)},
            values={"folder": [str(other)], "pattern": ["*.md"], "max_results": [1]},
        )
    ]
