"""Stored answers as samples: their texts become tokens, as the policy would have read and written them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmrl.chat import Chat
from llmrl.datafiles.images import images_of
from llmrl.datafiles.rows import LeftOutError, Row
from llmrl.errors import DataError
from llmrl.offline.example import ASSISTANT, Example
from llmrl.recipe import RolloutOptions
from llmrl.rollout.samples import to_samples
from llmrl.run_folder.records import EpisodeRecord
from llmrl.samples import Sample
from llmrl.types import Completion, Finish, Message, Problem, Trajectory, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """A message of the policy, and what came behind it."""

    text: str
    ids: Sequence[int] | None = None  # as the chat template writes it, where it calls tools; None: the text's
    finish: Finish = "stop"
    ends: bool = True  # by the token that ends a turn
    reply: Sequence[Message] = ()
    reward: float = 0.0
    whole: bool = False  # the reply is the whole next prompt
    before: str = ""  # text of the same message that the policy did not write


@dataclass(frozen=True)
class AnswerEncoder:
    """Makes samples of stored answers, within the limits of the recipe's `rollout`."""

    chat: Chat
    options: RolloutOptions
    end: int = field(init=False, compare=False)  # token that ends the policy's turn

    def __post_init__(self) -> None:
        object.__setattr__(self, "end", self.chat.turn_end())

    def samples(self, examples: Sequence[Example], group: str) -> list[Sample]:
        """Samples of the answers of one row: they are a group, its episodes in their order.

        Raises:
            LeftOutError: one of them is longer than allowed.
            DataError: the chat template refuses a conversation.
        """
        return [
            replace(sample, role=example.role, numbers=example.numbers)
            for episode, example in enumerate(examples)
            for sample in self.fit(self._trajectory(example, group, episode))
        ]

    def episodes(self, rows: Sequence[Row], group: str) -> list[Sample]:
        """Samples of a group of a run's `rollouts.jsonl`: of its tokens, where it logged them and they are the chat's.

        Raises:
            LeftOutError: no episode has a score, or one is longer than allowed.
            DataError: a row is no record of an episode.
        """
        made = []
        for row in rows:
            try:
                record = EpisodeRecord.from_json(row.values)
            except (KeyError, ValueError, TypeError, AttributeError) as error:
                raise DataError(f"{row.where}: no record of an episode: {type(error).__name__}: {error}") from None
            made += self.fit(replace(self.in_tokens(record), group=group))
        if not made:
            raise LeftOutError("not scored")
        return made

    def in_tokens(self, record: EpisodeRecord) -> Trajectory:
        """A record's trajectory: as it was sampled, or its texts in this tokenizer's tokens."""
        played = record.trajectory
        kept = record.has_tokens and all(
            turn.text.endswith(self.chat.text(turn.completion.token_ids)) for turn in played.turns
        )
        if kept:
            return played
        written = [
            _Written(
                text=turn.text,
                finish=turn.completion.finish,
                reply=turn.reply,
                reward=turn.reward,
                whole=turn.whole,
            )
            for turn in played.turns
        ]
        asked = played.problem.messages if played.shown is None else played.shown
        score = None if played.score is None else replace(played.score, token_rewards=None)
        prompt = self.chat.prompt_ids(asked, played.tools, pictures=True)
        return replace(played, turns=self._turns(asked, prompt, written, played.tools), score=score)

    def _trajectory(self, example: Example, group: str, episode: int) -> Trajectory:
        asked = list(example.messages[: example.start])
        prompt = self.chat.prompt_ids(asked, example.tools, pictures=True)
        turns = self._sampled(example, prompt)
        return Trajectory(
            problem=Problem(id=group, messages=asked),
            turns=turns or self._turns(asked, prompt, self._written(example), example.tools),
            status="done" if example.ends else "max_tokens",
            score=example.score,
            group=group,
            episode=episode,
            shown=asked,
        )

    def _sampled(self, example: Example, prompt: list[int]) -> list[Turn]:
        """The turn of the tokens that were stored; none where they are not what this chat writes for the texts."""
        if example.sampled is None:
            return []
        before, ids = example.sampled
        text = example.messages[-1]["content"]
        begun = before[: len(prompt)] == prompt and self.chat.text(before[len(prompt) :]) == example.prefix
        if not begun or self.chat.text(ids) != text:
            return []
        completion = Completion(token_ids=array("i", ids), logprobs=(), finish="stop", version=0)
        opened = self.chat.opened(prompt) + example.prefix
        seen = images_of(example.messages[: example.start])
        return [Turn(prompt_ids=array("i", before), completion=completion, text=text, opened=opened, images=seen)]

    def _turns(
        self, asked: Sequence[Message], prompt: list[int], written: Sequence[_Written], tools: Any = ()
    ) -> list[Turn]:
        """Turns of a conversation, each prompt as an environment's reply would have made it; `prompt` is the first."""
        turns: list[Turn] = []
        past = list(asked)
        for message in written:
            if turns:
                prompt, past = self._next(turns[-1], past, tools)
            opened = self.chat.opened(prompt) + message.before
            prompt = prompt + self.chat.answer_ids(message.before, prompt)
            past.append({"role": ASSISTANT, "content": message.before + message.text})
            ids = self.chat.answer_ids(message.text, prompt) + (
                [self.end] if message.finish == "stop" and message.ends else []
            )
            ids = ids if message.ids is None else list(message.ids)
            completion = Completion(token_ids=array("i", ids), logprobs=(), finish=message.finish, version=0)
            turns.append(
                Turn(
                    prompt_ids=array("i", prompt),
                    completion=completion,
                    text=message.text,
                    reply=message.reply,
                    reward=message.reward,
                    whole=message.whole,
                    opened=opened,
                    images=images_of(past),
                )
            )
        return turns

    def _next(self, turn: Turn, past: list[Message], tools: Any) -> tuple[list[int], list[Message]]:
        """The prompt behind a turn, and the conversation in it."""
        if turn.whole:
            return self.chat.prompt_ids(turn.reply, tools, pictures=True), list(turn.reply)
        fed = [*turn.prompt_ids, *turn.completion.token_ids]
        return self.chat.next_prompt(fed, past, turn.reply, tools, pictures=True), [*past, *turn.reply]

    def fit(self, trajectory: Trajectory) -> list[Sample]:
        """Samples of an episode that is within the limits.

        Raises:
            LeftOutError: it is longer than allowed.
        """
        for turn in trajectory.turns[:1]:
            if len(turn.prompt_ids) > self.options.max_prompt_length:
                raise LeftOutError("prompt longer than rollout.max_prompt_length")
        for turn in trajectory.turns:
            if len(turn.completion.token_ids) > self.options.max_completion_length:
                raise LeftOutError("answer longer than rollout.max_completion_length")
        return to_samples(trajectory)

    def _written(self, example: Example) -> list[_Written]:
        """The policy's messages, each with the messages that answer it."""
        written: list[_Written] = []
        for place, message in enumerate(example.messages[example.start :], start=example.start):
            if message["role"] != ASSISTANT:
                written[-1] = replace(written[-1], reply=[*written[-1].reply, message])
                continue
            text, ids = message["content"], None
            if message.get("tool_calls"):
                ids = self.chat.written_ids(example.messages[: place + 1], example.tools)
                text = self.chat.text(ids)
            written.append(_Written(text=text, ids=ids, reward=float(message.get("reward", 0.0))))
        written[0] = replace(written[0], before=example.prefix)
        written[-1] = replace(written[-1], ends=example.ends)
        return written
