"""Messages of an episode on the web: every page as it was, or the last page alone with placeholders before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from llmrl.types import Message

History = Literal["kept", "placeholders"]
PLACEHOLDER = "** Simplified html **"


@dataclass
class Transcript:
    """Rounds so far. With `kept` each page is appended to the chat; with `placeholders` the chat is written anew.

    In the second, round 0 shows the goal and later ones `** Simplified html **` in place of their pages, as
    WebArena-Lite's agents read it, so that a prompt holds one page however long the episode is.
    """

    history: History
    help: str  # before the first page; "" for a policy that knows the actions
    goal: str = ""
    replies: list[str] = field(default_factory=list)  # of the policy, one a round

    @property
    def is_whole(self) -> bool:
        """True if the messages of the next page are the whole prompt and no addition."""
        return self.history == "placeholders" and bool(self.replies)

    def show(self, page: str) -> Sequence[Message]:
        """Messages that show a page: those to append, or the whole prompt where `is_whole`."""
        if self.history == "kept":
            return [_user(page if self.replies else self._first(f"Goal: {self.goal}\n\n{page}"))]
        shown = [self.goal, *(PLACEHOLDER for _ in self.replies[1:])] if self.replies else []
        messages: list[Message] = []
        for number, text in enumerate([*shown, page]):
            said = f"Round {number}\n\n{text}"
            messages.append(_user(said if number else self._first(f"Task Instruction: {self.goal}\n\n{said}")))
            messages += [{"role": "assistant", "content": reply} for reply in self.replies[number : number + 1]]
        return messages

    def _first(self, text: str) -> str:
        return f"{self.help}\n\n{text}" if self.help else text


def _user(text: str) -> Mapping[str, str]:
    return {"role": "user", "content": text}
