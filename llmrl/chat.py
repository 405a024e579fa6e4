"""Messages to token ids and back: the only caller of chat templates."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from llmrl.answers.thoughts import opened_thoughts
from llmrl.clients import hub
from llmrl.datafiles.images import images_of
from llmrl.datafiles.messages import with_texts
from llmrl.encoding.encoder import TextEncoder
from llmrl.encoding.soundness import require_repeatable
from llmrl.encoding.template import render
from llmrl.errors import CheckpointError, DataError
from llmrl.run_folder.checksums import require_intact
from llmrl.sandbox import rendering
from llmrl.types import Message
from llmrl.vision import sight

PAST_REPLY = "<think>\nreasoning\n</think>\n\nreply"  # templates like to remove reasoning from past turns
CHECKED_TOGETHER = 256  # conversations in one call of the process that renders


@dataclass(frozen=True)
class Chat:
    """A tokenizer with its chat template and the options of that template."""

    tokenizer: Any  # a Transformers tokenizer
    system_prompt: str | None = None  # for conversations that bring no system message of their own
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def messages(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Conversation as the template gets it: with the system prompt, unless it has one already."""
        conversation = [dict(message) for message in messages]
        if self.system_prompt is not None and not (conversation and conversation[0].get("role") == "system"):
            conversation.insert(0, {"role": "system", "content": self.system_prompt})
        return conversation

    def prompt_ids(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), *, pictures: bool = False
    ) -> list[int]:
        """Encode a conversation as a prompt: its last token is the one before the policy's first.

        A tokenizer without chat template takes one user message, as plain text with the special tokens the tokenizer
        adds by itself. Text inside a message never becomes a special token, whatever it spells.

        Args:
            messages, tools: of the conversation.
            pictures: the caller hands the messages' pictures to the model, which has tokens for each of them.
        Raises:
            DataError: no messages, or the template refuses them, or takes more memory, time or text than is allowed; or
                there are pictures, and without `pictures` nobody would see them.
            CheckpointError: no chat template, and more than one user message; or the model reads no pictures.
        """
        conversation = self.messages(messages)
        if not conversation:
            raise DataError("no messages to make a prompt of; expected at least one")
        if self.tokenizer.chat_template is None:
            return self._encoder.prompt_ids(_only_text(conversation))
        spelled = self._sight(conversation, pictures)
        conversation, hidden = self._hide_special(conversation)
        return spelled(self._encoder.ids(self._render(conversation, tools), hidden))

    def next_prompt(
        self,
        previous_ids: Sequence[int],
        past: Sequence[Message],
        reply: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        pictures: bool = False,
    ) -> list[int]:
        """The next turn's prompt, as the template has it: it extends `previous_ids` where earlier turns stay.

        Args:
            previous_ids: the last prompt and the completion sampled for it.
            past: all messages so far; the last is the policy's, in the text of that completion.
            reply: the environment's messages.
            tools, pictures: as for the first prompt.
        Returns:
            `previous_ids` untouched and the reply behind them, where the template keeps earlier turns as they were fed;
            else the template's rendering of the whole conversation, in which a row of its own begins.
        Raises:
            CheckpointError: no chat template.
            DataError: the template refuses the conversation.
        """
        self._require_template()
        *before, answer = self.messages(past)
        asked = len(before)
        spelled = self._sight([*past, *reply], pictures)
        conversation, hidden = self._hide_special([*before, answer, *reply])
        text = conversation[asked]["content"]
        usual = PAST_REPLY if "</think>" in text else "reply"  # what the template trims of this one answer is no matter
        answered = [*conversation[:asked], {"role": "assistant", "content": usual}, *conversation[asked + 1 :]]
        fed, whole, as_usual = self._renders([conversation[:asked], conversation, answered], tools)
        for rendered_with, said in ((whole, text), (as_usual, usual)):
            if rendered_with.startswith(fed + said):
                added = self._encoder.ids_behind(fed + said, rendered_with[len(fed + said) :], hidden)
                return joined(previous_ids, self._sight(reply, pictures)(added))
        return spelled(self._encoder.ids(whole, hidden))

    def _sight(self, messages: Sequence[Message], allowed: bool) -> Callable[[list[int]], list[int]]:
        """A function that spells the messages' pictures out, in a prompt with a mark for each.

        Raises:
            DataError: there are pictures, and none are allowed.
            CheckpointError: the model reads none.
        """
        images = images_of(messages)
        if not images:
            return list
        if not allowed:
            raise DataError(f"{len(images)} pictures in the messages, and this use of the model reads texts alone")
        return partial(sight.load(self.tokenizer.name_or_path).expanded, images=images)

    def extend_ids(
        self, previous_ids: Sequence[int], reply: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """The next turn's prompt: what was fed and sampled so far, untouched, then the reply and the turn's opening.

        Args:
            previous_ids: the last prompt and the completion sampled for it.
            reply: the environment's messages.
            tools: as for the first prompt.
        Raises:
            CheckpointError: no chat template, or one that rewrites earlier turns, so that no prompt extends the last.
        """
        asked = [{"role": "user", "content": "question"}]
        prompt = self.next_prompt(previous_ids, [*asked, {"role": "assistant", "content": PAST_REPLY}], reply, tools)
        if prompt[: len(previous_ids)] != list(previous_ids):
            raise CheckpointError(
                "the chat template rewrites earlier turns (it removes their reasoning, or adds to them), so no prompt "
                "extends the last; expected a template that only appends. Save the tokenizer with such a template, or "
                "try other model.chat_template_kwargs"
            )
        return prompt

    def turn_end(self) -> int:
        """The token that ends the policy's turn: the special one that the template puts there, else end-of-sequence.

        Raises:
            CheckpointError: there is none.
        """
        end = self._template_end()
        return self.stop_token_ids()[0] if end is None else end

    def written_ids(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """Encode the last message, the assistant's, as the template writes it behind the prompt, tool calls included.

        Returns:
            Tokens up to the one that ends the turn.
        Raises:
            CheckpointError: no chat template.
            DataError: the template refuses the conversation, or does not write the message behind its own prompt; or a
                tool call spells a special token.
        """
        if self.tokenizer.chat_template is None:
            raise CheckpointError("the tokenizer has no chat template, which tool calls need; set one and save it")
        calls = messages[-1].get("tool_calls") or ()
        called = json.dumps(calls, ensure_ascii=False)
        if spelled := [token for token in self._encoder.special_tokens() if token in called]:
            raise DataError(f"a tool call spells the special token {spelled[0]!r}, and would become it; remove it")
        conversation, hidden = self._hide_special(self.messages(messages))
        fed = self._render(conversation[:-1], tools)
        whole = self._rendered([conversation], tools, add_generation_prompt=False)[0]
        if not whole.startswith(fed):
            raise DataError(
                "the chat template does not write the assistant's message behind its own prompt, so its tokens are "
                "unknown; expected a template that only appends"
            )
        if missing := [call["function"]["name"] for call in calls if call["function"]["name"] not in whole[len(fed) :]]:
            raise DataError(f"the chat template writes no tool calls (of {missing[0]!r}); expected one that does")
        ids, end = self._encoder.ids_behind(fed, whole[len(fed) :], hidden), self.turn_end()
        return ids[: ids.index(end) + 1] if end in ids else ids

    def answer_ids(self, text: str, behind_ids: Sequence[int]) -> list[int]:
        """Encode what the policy might have written behind a prompt; no text becomes a special token."""
        hidden = self._encoder.hidden([text])
        before = self.tokenizer.decode(list(behind_ids[-16:]), clean_up_tokenization_spaces=False)
        return self._encoder.ids_behind(before, self._encoder.hide(text, hidden), hidden)

    def text(self, token_ids: Sequence[int]) -> str:
        """Decode tokens to text, without special tokens."""
        text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def opened(self, prompt_ids: Sequence[int]) -> str:
        """Find what a prompt's end begins of the answer: `<think>`, where its template opens the thoughts."""
        return opened_thoughts(self.tokenizer.decode(list(prompt_ids[-16:])))  # more tokens than that has

    def line_ends(self, token_ids: Sequence[int]) -> list[int]:
        """Numbers of tokens after which a line ends: reasoning cut there parts no step and no character."""
        pieces = {token: self.text([token]) for token in set(token_ids)}
        return [i + 1 for i, token in enumerate(token_ids) if pieces[token].endswith("\n")]

    def stop_token_ids(self, *configs: Any) -> list[int]:
        """Collect the tokens that end a completion, sorted.

        They are the tokenizer's, those of each config's `eos_token_id`, and the special token by which the chat
        template ends the policy's turn, which a base model's tokenizer often does not name.

        Args:
            configs: generation configs or model configs; their `eos_token_id` is a number, a list or None.
        Raises:
            CheckpointError: there is none, so that no completion could ever end by itself.
        """
        stops: set[int] = set()
        for value in [self.tokenizer.eos_token_id, *(getattr(config, "eos_token_id", None) for config in configs)]:
            stops |= {value} if isinstance(value, int) else set(value or ())
        if (end := self._template_end()) is not None:
            stops.add(end)
        if not stops:
            raise CheckpointError("no end-of-sequence token in tokenizer, config or generation config; set eos_token")
        return sorted(stops)

    def check(self, conversations: Sequence[Sequence[Message]], *, add_generation_prompt: bool = False) -> None:
        """Render conversations within the limits of `llmrl.sandbox.rendering`, for those who render them again without.

        Raises:
            DataError: the template refuses one, or takes more than is allowed.
        """
        if self.tokenizer.chat_template is not None:
            for start in range(0, len(conversations), CHECKED_TOGETHER):
                together = conversations[start : start + CHECKED_TOGETHER]
                self._rendered(together, (), add_generation_prompt=add_generation_prompt)

    @cached_property
    def _encoder(self) -> TextEncoder:
        return TextEncoder(self.tokenizer)

    def _template_end(self) -> int | None:
        """The special token that the chat template puts behind the policy's message, if any."""
        if self.tokenizer.chat_template is None:
            return None
        past = self.messages([{"role": "user", "content": "question"}])
        try:
            before = self._render(past, ()) + "reply"
            whole = self._render([*past, {"role": "assistant", "content": "reply"}], ())
        except DataError:  # it wants other conversations than this one, which are told when they are met
            return None
        behind = self._encoder.ids(whole[len(before) :], {}) if whole.startswith(before) else []
        return behind[0] if behind and behind[0] in self.tokenizer.all_special_ids else None

    def _require_template(self) -> None:
        if self.tokenizer.chat_template is None:
            raise CheckpointError("the tokenizer has no chat template, which a second turn needs; set one and save it")

    def _render(self, conversation: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> str:
        return self._renders([conversation], tools)[0]

    def _renders(
        self, conversations: Sequence[Sequence[Message]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> Sequence[str]:
        """Prompts of conversations, as texts."""
        return self._rendered(conversations, tools, add_generation_prompt=True)

    def _rendered(
        self,
        conversations: Sequence[Sequence[Message]],
        tools: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool,
    ) -> Sequence[str]:
        options = {**self.chat_template_kwargs, "add_generation_prompt": add_generation_prompt}
        return render(self.tokenizer, conversations, tools, options)

    def _hide_special(self, conversation: Sequence[Message]) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Replace text that spells a special token by a placeholder character; also return each placeholder's text."""
        hidden = self._encoder.hidden([str(message.get("content") or "") for message in conversation])
        shown = [dict(message) for message in conversation]
        for message in shown if hidden else ():
            if isinstance(message.get("content"), str):
                message["content"] = self._encoder.hide(message["content"], hidden)
        return shown, hidden


def load_tokenizer(model: str | Path, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model folder or a hub name; the first that is read of it, so that checksums are compared here.

    Raises:
        CheckpointError: there is none, or a file of the folder is damaged.
    """
    rendering.start()  # meanwhile
    from transformers import AutoTokenizer

    folder = Path(model)
    if folder.is_dir():
        held = sorted(file.name for file in folder.iterdir())
        if not any(name.startswith(("tokenizer", "vocab", "spiece", "sentencepiece")) for name in held):
            raise CheckpointError(
                f"{model}: no tokenizer in this folder; expected tokenizer.json, found "
                f"{', '.join(held[:8]) or 'nothing'}. Save one with `tokenizer.save_pretrained({str(model)!r})`"
            )
        require_intact(folder)
    hub.look(str(model), revision)
    try:
        made = AutoTokenizer.from_pretrained(str(model), revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{model}: no tokenizer could be loaded: {reason}; expected a folder with tokenizer.json, or a hub name "
            "that can be reached"
        ) from error
    require_repeatable(made, str(model))
    return made


def load_stop_token_ids(model: str | Path, chat: Chat) -> list[int]:
    """Collect the tokens that end a completion of this model folder or hub name: see `Chat.stop_token_ids`.

    Raises:
        CheckpointError: there is none.
    """
    from transformers import AutoConfig, GenerationConfig

    configs: list[Any] = []
    for kind in (GenerationConfig, AutoConfig):
        try:
            configs.append(kind.from_pretrained(str(model)))
        except (OSError, ValueError):  # a model without generation config is common; its tokenizer still has a say
            continue
    return chat.stop_token_ids(*configs)


def joined(previous_ids: Sequence[int], added: list[int]) -> list[int]:
    """Both behind each other; the token that closes the policy's turn once, where the policy has sampled it itself."""
    closed = bool(added and len(previous_ids)) and added[0] == previous_ids[-1]
    return [*previous_ids, *added[1 if closed else 0 :]]


def _only_text(conversation: Sequence[Message]) -> str:
    """The text of the single user message, for tokenizers without chat template."""
    roles = [str(message.get("role")) for message in conversation]
    if roles != ["user"]:
        raise CheckpointError(
            f"the tokenizer has no chat template, so it cannot join messages of the roles {', '.join(roles)}; expected "
            "one user message and no system prompt, or a tokenizer saved with a chat template"
        )
    if images_of(conversation):
        raise CheckpointError("the tokenizer has no chat template, which says where pictures stand; save it with one")
    return str(with_texts(conversation)[0]["content"])
