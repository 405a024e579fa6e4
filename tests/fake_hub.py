"""The part of the Hugging Face hub's HTTP API that pushes of models ask, on loopback, for the real client."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class FakeHub:
    """Keeps repositories: by name, and in each the files of the last commit and the messages of all."""

    def __init__(self, token: str = "hf_right") -> None:
        self.token = token
        self.repos: dict[str, dict[str, Any]] = {}
        self.large: dict[str, bytes] = {}  # by SHA-256
        self.refuses = ""  # commits whose message has this text are refused
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def files(self, name: str) -> dict[str, bytes]:
        """Files of a repository, by path."""
        found: dict[str, bytes] = self.repos[name]["files"]
        return found

    def post(self, path: str, data: bytes) -> tuple[int, Any]:
        """The answer to a POST."""
        if path == "/api/repos/create":
            return self._create(json.loads(data))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if match := re.fullmatch(r"/api/models/(.+)/preupload/(.+)", path):
            return 200, {"files": [_mode(file["path"]) for file in json.loads(data)["files"]]}
        if match := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            wanted = json.loads(data)["objects"]
            upload = {each["oid"]: {"upload": {"href": f"{self.url}/large/{each['oid']}"}} for each in wanted}
            return 200, {"transfer": "basic", "objects": [{**each, "actions": upload[each["oid"]]} for each in wanted]}
        if match := re.fullmatch(r"/api/models/(.+)/commit/(.+)", path):
            return self._commit(match[1], data)
        return 404, {"error": f"the fake hub knows no {path}"}

    def put(self, path: str, data: bytes) -> int:
        """The answer to a PUT: content of a large file."""
        digest = path.rpartition("/")[2]
        if hashlib.sha256(data).hexdigest() != digest:
            return 400
        self.large[digest] = data
        return 200

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if name.startswith("others/"):
            return 403, {"error": "You don't have the rights to create a model under the namespace others"}
        there = name in self.repos
        self.repos.setdefault(
            name, {"private": asked.get("private") or asked.get("visibility") == "private", "files": {}, "commits": []}
        )
        return (409 if there else 200), {"url": f"{self.url}/{name}", "name": name, "id": name}

    def _commit(self, name: str, data: bytes) -> tuple[int, Any]:
        lines = [json.loads(line) for line in data.splitlines() if line]
        message = lines[0]["value"]["summary"]
        if self.refuses and self.refuses in message:
            return 500, {"error": "the disk of the hub is full"}
        repo = self.repos[name]
        for line in lines[1:]:
            value = line["value"]
            whole = line["key"] == "file"
            repo["files"][value["path"]] = base64.b64decode(value["content"]) if whole else self.large[value["oid"]]
        repo["commits"].append(message)
        sha = f"{len(repo['commits']):040x}"
        return 200, {"success": True, "commitUrl": f"{self.url}/{name}/commit/{sha}", "commitOid": sha}


def _mode(path: str) -> dict[str, Any]:
    mode = "lfs" if path.endswith((".safetensors", ".bin", ".pkl", ".pt")) else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False}


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _data(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _send(self, status: int, body: Any = None) -> None:
            text = json.dumps(body).encode() if body is not None else b""
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        def do_POST(self) -> None:
            data = self._data()
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                self._send(401, {"error": "Invalid username or password."})
            else:
                self._send(*hub.post(self.path, data))

        def do_PUT(self) -> None:
            self._send(hub.put(self.path, self._data()))

        def do_GET(self) -> None:
            self._send(404, {"error": "the fake hub gives nothing back"})

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler
