"""Write an agent's episodes as conversations to imitate."""

from __future__ import annotations

import json
from pathlib import Path

from llmrl.errors import DataError, LlmrlError
from llmrl.run_folder import reader
from llmrl.swe.trajectories import rows


def write(run: Path, out: Path, least: float = 1.0) -> int:
    """Write a row for each episode of a run that earned at least so much; return how many.

    Raises:
        DataError: the run has no episodes that can be read, or the file is there, or cannot be written.
    """
    count = 0
    try:
        with open(out, "x", encoding="utf-8") as file:
            for row in rows((record.trajectory for record in reader.episodes(run)), least):
                file.write(json.dumps(row) + "\n")
                count += 1
    except LlmrlError:
        if not count:
            out.unlink()
        raise
    except FileExistsError:
        raise DataError(f"{out}: is there already; choose another --out, or remove it") from None
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror}; choose another --out") from None
    return count
