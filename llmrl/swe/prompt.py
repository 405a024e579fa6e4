"""The prompt of SWE-RL: an issue, whole files, and the form of the answer; the words are our own."""

from __future__ import annotations

from collections.abc import Mapping

from llmrl.types import Message

SYSTEM = (
    "You repair software. First think the problem through, then answer. Write your thoughts between <think> and "
    "</think> and your answer, behind them, between <solution> and </solution>. Use each of the four tags once."
)
ASKED = """\
This issue was filed for a repository of software.

--- BEGIN ISSUE ---
{issue}
--- END ISSUE ---

These are files of the repository. Some of them may need no change.

--- BEGIN FILES ---
{files}
--- END FILES ---

Find out where the fault lies, then repair it by edits. Each edit is a block in this form:

```python
### path/to/file.py
<<<<<<< SEARCH
lines exactly as they stand in the file, with their indentation
=======
the lines that take their place
>>>>>>> REPLACE
```

There may be several blocks, also of one file. Repeat no more lines than are needed to find the place; the lines to
search must stand together in the file, and the lines in their place must be different."""


def messages(issue_title: str, issue_body: str, files: Mapping[str, str], *, system: bool = True) -> list[Message]:
    """Ask for edits that resolve an issue.

    Args:
        files: whole texts by path, in the order in which they are shown.
        system: the thoughts and tags are asked for in a system message; else at the beginning of the user's.
    """
    issue = f"{issue_title}\n{issue_body}".strip()
    shown = "\n\n".join(f"### {path}\n{text}" for path, text in files.items())
    asked = ASKED.format(issue=issue, files=shown)
    if system:
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}]
    return [{"role": "user", "content": f"{SYSTEM}\n\n{asked}"}]
