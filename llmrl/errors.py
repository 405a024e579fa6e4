"""Errors for users. Each names the place, what was found, what was expected, and what to do next."""

import signal


class LlmrlError(Exception):
    """Parent of every error that llmrl raises. The command line prints its message without a traceback."""


class RecipeError(LlmrlError, ValueError):
    """A recipe, an override or an option of a plug-in is wrong."""


class DataError(LlmrlError, ValueError):
    """A row of data is broken or lacks what it must have; names the file and the line."""


class ColumnError(LlmrlError, AttributeError):
    """An algorithm reads a column that nobody filled; names the reader, the column and what would fill it."""


class CheckpointError(LlmrlError, OSError):
    """A model folder or a checkpoint is missing, incomplete or does not fit."""


class EngineError(LlmrlError, RuntimeError):
    """An engine did not start, did not answer, or answered nonsense."""


class SyncError(EngineError):
    """The engine does not hold the trainer's weights."""


class RewardError(LlmrlError, RuntimeError):
    """A reward raised, hung, or returned something other than a score, too often to go on."""


class TrainingError(LlmrlError, ArithmeticError):
    """Training cannot go on: losses, gradients or weights that are not finite."""


class BrowserError(LlmrlError, RuntimeError):
    """There is no browser that starts, or the pages of a task are not on this machine."""


class SandboxError(LlmrlError, RuntimeError):
    """Untrusted code cannot be run as safely as was asked for; nothing was run."""


class Stopped(KeyboardInterrupt):
    """A signal asks a run to end. It is no error: `except Exception` lets it pass.

    Args:
        number: of the signal, such as 15 for SIGTERM.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.steps = 0  # that the run's newest checkpoint holds, once the run has ended

    def __str__(self) -> str:
        return signal.Signals(self.number).name
