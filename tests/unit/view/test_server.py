from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from llmrl.view.answers import View, thinned
from llmrl.view.runs import Runs
from llmrl.view.server import SCRIPTS, address, app, plain
from tests.view_runs import HOSTILE, write_evaluation, write_run

LOCAL = "http://127.0.0.1:8400"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "one", steps=2, count=6, texts=HOSTILE)
    write_run(folder / "two-1", steps=2)
    write_evaluation(folder / "one" / "eval" / "step-000001", [True, False])
    (folder / "one" / "shot.png").write_bytes(b"\x89PNG\r\n")
    (folder / "one" / "errors.log").write_text("x" * 300_000 + "the end <b>")
    (folder / "secret.txt").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(app(View(Runs([folder]))), base_url=LOCAL) as client:
        yield client


def asked(client: TestClient, name: str, **query: Any) -> Any:
    response = client.get(f"/api/{name}", params=query)
    assert response.status_code == 200, response.text
    return response.json()


def test_everything_that_the_page_asks_is_answered(client: TestClient) -> None:
    assert [run["name"] for run in asked(client, "runs")["runs"]] == ["one", "two-1"]
    assert asked(client, "runs")["metrics"] == ["entropy", "reward"]
    curves = asked(client, "curves", runs="one\ntwo-1", metrics="reward\nnothing")
    assert curves == {name: {"reward": [[0.0, 0.0], [1.0, 0.1]]} for name in ("one", "two-1")}
    assert [row["key"] for row in asked(client, "differences", runs="one\ntwo-1")["rows"]] == ["train.seed"]
    assert len(asked(client, "steps", run="one")["steps"]) == 2
    found = asked(client, "episodes", run="one", step=1, verdict="wrong", order="tokens", limit=2, offset=1)
    assert (found["total"], found["offset"], len(found["rows"]), found["progress"]) == (3, 1, 2, 1.0)
    whole = asked(client, "episode", run="one", step=1, row=0)
    assert whole["turns"][0]["text"] == HOSTILE[0]
    assert [each["row"] for each in whole["siblings"]] == [0, 1, 2, 3]
    assert asked(client, "evaluations")[0]["evaluations"][0]["label"] == "after 1 steps"
    sides = {
        f"{side}_{key}": value
        for side in ("before", "after")
        for key, value in (("run", "one"), ("folder", "eval/step-000001"))
    }
    assert asked(client, "comparison", benchmark="sums", change="both", **sides)["counts"]["both"] == 1
    assert {file["path"] for file in asked(client, "files", run="one")} >= {"shot.png", "errors.log"}
    text = asked(client, "text", run="one", path="errors.log")
    assert text["cut"]
    assert text["text"].endswith("the end <b>")
    assert asked(client, "run", run="one")["recipe"]["train"]["seed"] == 3
    assert client.get("/file", params={"run": "one", "path": "shot.png"}).headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    ("name", "query", "status", "words"),
    [
        ("nothing", {}, 404, "no such question"),
        ("steps", {"run": "three"}, 404, "run 'three': not there"),
        ("episode", {"run": "one", "step": "9", "row": "0"}, 404, "step 9, episode 0: not in"),
        ("episode", {"run": "one", "step": "-1", "row": "0"}, 400, "expected a whole number"),
        ("episodes", {"run": "one", "offset": "9" * 40}, 400, "expected a whole number"),
        ("episodes", {"run": "one", "order": "size"}, 400, "order 'size': expected one of file"),
        ("episodes", {"run": "one", "least_reward": "nan"}, 400, "expected a number"),
        ("episodes", {"run": "one", "step": "1; drop"}, 400, "expected a number"),
        ("text", {"run": "one", "path": "../secret.txt"}, 404, "no text of the run"),
        ("text", {"run": "one", "path": "shot.png"}, 404, "no text of the run"),
        ("comparison", {"change": "x"}, 400, "expected one of lost"),
        ("comparison", {"before_run": "one", "before_folder": "..", "benchmark": "secret"}, 404, "no answers"),
    ],
)
def test_what_cannot_be_answered_says_why(
    name: str, query: dict[str, str], status: int, words: str, client: TestClient
) -> None:
    response = client.get(f"/api/{name}", params=query)
    assert response.status_code == status
    assert words in response.json()["error"]


@pytest.mark.parametrize("path", ["../secret.txt", "/etc/hostname", "errors.log", "recipe.yaml", "", "..%2f"])
def test_only_pictures_of_the_run_are_pictures(path: str, client: TestClient) -> None:
    assert client.get("/file", params={"run": "one", "path": path}).status_code == 404


@pytest.mark.parametrize(
    "path", ["/static/../server.py", "/static/%2e%2e/server.py", "/static/page.html", "/static/x.js"]
)
def test_only_the_pages_own_files_are_static(path: str, client: TestClient) -> None:
    assert client.get(path).status_code == 404


def test_the_page_runs_its_own_scripts_alone(client: TestClient) -> None:
    for path in ("/", f"/static/{SCRIPTS[0]}", "/static/style.css", "/api/runs", "/api/nothing"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in client.get("/").text, "none within the page"


def test_no_script_makes_markup_of_a_text() -> None:
    from llmrl.view.server import static

    for name in (*SCRIPTS, "exported.js"):
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "srcdoc",
        ):
            assert word not in static(name), f"{name}: {word}"


def test_a_page_of_elsewhere_cannot_read_this_machine(client: TestClient) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:8400"):
        assert client.get("/api/runs", headers={"host": host}).status_code == 400
    for host in ("localhost:8400", "127.0.0.1", "127.0.0.1:1"):
        assert client.get("/api/runs", headers={"host": host}).status_code == 200


def test_with_a_key_nobody_else_is_let_in(folder: Path) -> None:
    with TestClient(app(View(Runs([folder])), "key-é"), base_url="http://somewhere:80") as client:
        for path in ("/", "/api/runs", "/static/core.js", "/file", "/?key=other"):
            assert client.get(path).status_code == 401
        assert client.get("/health").status_code == 200
        assert client.get("/api/runs", headers={"authorization": "Bearer key-é".encode()}).status_code == 200
        assert client.get("/api/runs", headers={"cookie": "llmrl-view-key=other"}).status_code == 401
    with TestClient(app(View(Runs([folder])), "a-key"), base_url="http://somewhere:80") as client:
        assert client.get("/api/runs?key=a-key").status_code == 401, "an address that is passed on holds no key"
        entered = client.get("/?key=a-key", follow_redirects=False)
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        assert {"HttpOnly", "SameSite=Strict"} <= set(entered.headers["set-cookie"].split("; "))
        assert client.get("/api/runs").status_code == 200, "by the cookie"


def test_addresses_are_those_to_open() -> None:
    assert address("127.0.0.1", 5, None) == "http://127.0.0.1:5/"
    assert address("0.0.0.0", 5, "k") == "http://127.0.0.1:5/?key=k"
    assert address("::", 5, None) == "http://[::1]:5/"


def test_numbers_that_json_has_not_are_texts() -> None:
    assert json.loads(plain({"a": [float("nan"), 1.0, (float("-inf"),)]})) == {"a": ["nan", 1.0, ["-inf"]]}


def test_long_curves_are_averaged() -> None:
    found = thinned([(step, float(step % 2)) for step in range(9_999)])
    assert len(found) <= 1200
    assert {value for _, value in found} <= {0.5, 4 / 9, 5 / 9}
    assert thinned([(1, 2.0)]) == [(1.0, 2.0)]
