"""Templates of others: what takes too much memory, time or text is refused, whatever makes it."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jinja2
import pytest

from llmrl.chat import Chat
from llmrl.errors import DataError, EngineError
from llmrl.sandbox import rendering
from llmrl.sandbox.rendering import TemplateRefusal, rendered
from llmrl.tiny import make_tokenizer

DOUBLE = "{% set ns = namespace(s='ab') %}{% for i in range(40) %}{% set ns.s = BODY %}{% endfor %}{{ ns.s | length }}"
HUNGRY = {
    "concatenation": DOUBLE.replace("BODY", "ns.s ~ ns.s"),
    "sum": DOUBLE.replace("BODY", "ns.s + ns.s"),
    "product": "{{ ('ab' * 10 ** 12) | length }}",
    "join": DOUBLE.replace("BODY", "[ns.s, ns.s] | join"),
    "replace": DOUBLE.replace("BODY", "ns.s.replace('a', 'aa').replace('b', 'bb')"),
    "format": "{{ ('%1099511627776d' % 1) | length }}",
    "format of str": "{{ '{:>1099511627776}'.format(1) | length }}",
    "ljust": "{{ 'a'.ljust(2 ** 40) | length }}",
    "center": "{{ 'a' | center(2 ** 40) | length }}",
    "indent": "{{ 'a\nb' | indent(2 ** 40) | length }}",
    "lists": DOUBLE.replace("'ab'", "[1]").replace("BODY", "ns.s + ns.s"),
    "macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) + f(n - 1) }}{% else %}a{% endif %}{% endmacro %}{{ f(60) }}",
    "block": "{% set s = 'ab' %}" + 40 * "{% set s %}{{ s }}{{ s }}{% endset %}" + "{{ s | length }}",
    "integer": DOUBLE.replace("'ab'", "7").replace("BODY", "ns.s * ns.s").replace("| length", "% 3"),
    "json": "{{ [[1]] | tojson(indent=2 ** 33) | length }}",
    "output": "{% for i in range(99999) %}{% for j in range(99999) %}aaaaaaaaaaaaaaaa{% endfor %}{% endfor %}",
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "message": DOUBLE.replace("'ab'", "messages[0].content").replace("BODY", "ns.s ~ ns.s"),
}
LIMITS = r"the chat template (takes more than (512 MB|1 s)|makes a text of [\d,]+ characters|refuses .*)"
MESSAGES = [{"role": "user", "content": "hi"}]


def chat(template: str, **options: Any) -> Chat:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    return Chat(tokenizer, chat_template_kwargs=options)


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of time that tests can wait for."""
    monkeypatch.setattr(rendering, "SECONDS", 1)


@pytest.mark.parametrize("name", HUNGRY)
def test_what_takes_too_much_is_refused(name: str) -> None:
    hungry = chat(HUNGRY[name])
    chat("{{ messages[0].content }}").prompt_ids(MESSAGES)  # imports what it needs
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        DataError,
        match=r"the chat template (takes more than (512 MB|1 s)|makes a text of [\d,]+ characters|refuses .*)",
    ):
        hungry.prompt_ids(MESSAGES)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "not in this process"


def test_a_template_of_the_recipe(tmp_path: Any) -> None:
    with pytest.raises(DataError, match=r"the chat template takes more than 512 MB of memory: look for"):
        chat("{{ messages[0].content }}", chat_template=HUNGRY["sum"]).prompt_ids(MESSAGES)
    with pytest.raises(DataError, match=r"the chat template takes more than 512 MB of memory: look for"):
        chat("{{ ('ab' * times) | length }}", times=10**12).prompt_ids(MESSAGES)


def test_a_text_that_is_too_long_names_its_length() -> None:
    with pytest.raises(DataError, match=r"makes a text of 4,194,305 characters, at most 4,194,304 are allowed"):
        chat("{{ 'a' * 4194305 }}").prompt_ids(MESSAGES)


def test_one_that_raises_is_refused() -> None:
    with pytest.raises(DataError, match=r"roles user: TypeError: can only concatenate str"):
        chat("{{ messages[0].content + 1 }}").prompt_ids(MESSAGES)
    with pytest.raises(DataError, match=r"roles user: line 2: unexpected '}'"):
        chat("\n{{ }").prompt_ids(MESSAGES)


def test_conversations_that_others_render_are_checked() -> None:
    greedy = chat("{% if messages | length > 2 %}{{ 'ab' * 10 ** 12 }}{% endif %}")
    greedy.check([MESSAGES] * 600)
    with pytest.raises(DataError, match=r"takes more than 512 MB of memory"):
        greedy.check([*[MESSAGES] * 600, MESSAGES * 3])


ASKED: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True}


def by_transformers(tokenizer: Any, messages: list[dict[str, Any]], tools: Any) -> str:
    """Rendering by Transformers: of texts, or of parts where the template drops or refuses texts."""
    parts = [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in messages]
    try:
        text = str(tokenizer.apply_chat_template(messages, tools=tools, **ASKED))
    except jinja2.UndefinedError:
        return str(tokenizer.apply_chat_template(parts, tools=tools, **ASKED))
    return text if "hi" in text else str(tokenizer.apply_chat_template(parts, tools=tools, **ASKED))


def test_it_is_what_transformers_renders() -> None:
    from trl import chat_template_utils as trl  # ten templates of real models

    templates = {name: value for name, value in vars(trl).items() if isinstance(value, str) and "{%" in value}
    assert len(templates) >= 5
    reply = {"role": "assistant", "content": "<think>\nx\n</think>\n\nyo"}
    system = {"role": "system", "content": "be short"}
    compared, dropping = 0, set()
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    for name, template in templates.items():
        tokenizer = make_tokenizer()
        tokenizer.chat_template = template
        for given in (None, tools):
            for messages in (MESSAGES, [*MESSAGES, reply, *MESSAGES], [system, *MESSAGES, reply, *MESSAGES]):
                try:
                    expected = by_transformers(tokenizer, messages, given)
                except Exception as error:  # no system role, say
                    with pytest.raises(DataError, match=re.escape(str(error))):
                        Chat(tokenizer)._render(messages, given or ())
                    continue
                try:
                    took_texts = expected == tokenizer.apply_chat_template(messages, tools=given, **ASKED)
                except jinja2.UndefinedError:
                    took_texts = False
                dropping |= set() if took_texts else {name}
                assert Chat(tokenizer)._render(messages, given or ()) == expected, name
                compared += 1
    assert compared > 4 * len(templates)
    assert "idefics3_chat_template" in dropping


def pid() -> list[str]:
    return [str(os.getpid())]


def killed() -> list[str]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def test_the_process_is_one_and_is_replaced() -> None:
    (first,) = rendered("a test", pid)
    assert rendered("a test", pid) == [first]
    assert int(first) != os.getpid()
    os.kill(int(first), signal.SIGKILL)
    (second,) = rendered("a test", pid)
    assert second != first, "somebody else has ended it: it is started again"
    with pytest.raises(EngineError, match=r"ended with code -9"):
        rendered("a test", killed)
    with pytest.raises(TemplateRefusal, match="TypeError"):
        rendered("a test", pid, "one too many")


def test_it_ends_with_its_owner() -> None:
    code = (
        "import os, signal; from llmrl.sandbox.rendering import rendered\n"
        "from tests.integration.test_rendering import pid\n"
        "print(rendered('a test', pid)[0], flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=root,
        env={**os.environ, "PYTHONPATH": root},
    )
    until = time.monotonic() + 10
    while Path(f"/proc/{done.stdout.strip()}").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert done.stdout.strip().isdigit(), done.stderr
    assert not Path(f"/proc/{done.stdout.strip()}").exists()
