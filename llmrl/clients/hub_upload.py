"""A model repository of the Hugging Face hub, to which folders are pushed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrl.clients.hub import NAME
from llmrl.errors import CheckpointError


@dataclass(frozen=True)
class HubRepo:
    """A repository by name; `create` asks the hub for it, and finds out whether the token may write there."""

    name: str  # owner/name, or name alone, in the namespace of the token's owner
    private: bool | None = None  # None: as the owner's default is
    token: str | None = field(default=None, repr=False)  # None: HF_TOKEN, or that of `hf auth login`
    revision: str | None = None  # a branch, made where it is missing; None: main

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise CheckpointError(f"hub_model_id {self.name}: no name of a hub; expected owner/name, or name alone")

    def require_token(self) -> None:
        """Refuse to begin without a token, as far as this machine knows.

        Raises:
            CheckpointError: there is none.
        """
        from huggingface_hub import get_token

        if self.token is None and get_token() is None:
            raise CheckpointError(
                f"push_to_hub {self.name}: no token of the hub; type `hf auth login`, set HF_TOKEN, or give "
                "train.hub_token"
            )

    def create(self) -> HubRepo:
        """Make the repository where it is missing; returns it by its whole name.

        Raises:
            CheckpointError: the hub is not reached, or refuses.
        """
        self.require_token()
        try:
            made = self._api().create_repo(self.name, private=self.private, exist_ok=True)
            whole = HubRepo(made.repo_id, self.private, self.token, self.revision)
            if self.revision is not None:
                self._api().create_branch(whole.name, branch=self.revision, exist_ok=True)
        except Exception as error:  # of HTTP, of the hub's answers, and of names that it does not like
            raise CheckpointError(f"push_to_hub {self.name}: {_reason(error)}") from error
        return whole

    def push(self, folder: Path, message: str, inside: str = "") -> str:
        """Push the files of a folder as one commit; returns the repository's address.

        Args:
            inside: the folder of the repository that they go to; "" for its root.
        Raises:
            CheckpointError: the hub is not reached, or refuses.
        """
        api = self._api()
        try:
            api.upload_folder(
                repo_id=self.name,
                folder_path=str(folder),
                path_in_repo=inside,
                commit_message=message,
                revision=self.revision,
            )
        except Exception as error:
            raise CheckpointError(f"push_to_hub {self.name}: {folder}: {_reason(error)}") from error
        return f"{api.endpoint}/{self.name}"

    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(token=self.token)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])[:300]}"
