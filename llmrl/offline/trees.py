"""Trees of a search as samples: the whole answers of a tree are a group, in the tokens that were sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmrl.datafiles.rows import LeftOutError, Row
from llmrl.errors import DataError
from llmrl.offline.encode import AnswerEncoder
from llmrl.offline.example import judged
from llmrl.reasoning.records import tree_of
from llmrl.reasoning.tree import SearchTree, TreeNode
from llmrl.samples import Sample
from llmrl.types import Score, Trajectory


def tree_samples(encoder: AnswerEncoder, rows: Sequence[Row], group: str) -> list[Sample]:
    """Samples of the whole answers of a tree, right or wrong, with `depth`, `visits` and `q` of their last node.

    The reward of an answer is 1 or 0 by its outcome, else the judge's number; one without either is left out.

    Raises:
        LeftOutError: no answer has a reward, or one is longer than allowed.
        DataError: the rows are no tree, or their tokens are of another tokenizer or chat template.
    """
    tree = tree_of((row.where, row.values) for row in rows)
    _require_own_tokens(encoder, tree, rows[0])
    tree.opened = encoder.chat.opened
    scored = [(leaf, score) for leaf in tree.leaves() if (score := score_of(leaf)) is not None]
    samples = []
    for episode, (leaf, score) in enumerate(scored):
        trajectory = _answer(tree, leaf, score, group, episode)
        numbers = {"depth": float(leaf.depth), "visits": float(leaf.visits), "q": leaf.q}
        samples += [replace(sample, numbers=numbers) for sample in encoder.fit(trajectory)]
    if not samples:
        raise LeftOutError("no whole answer with a reward")
    return samples


def score_of(leaf: TreeNode) -> Score | None:
    """Score of a whole answer; None where nobody judged it."""
    if leaf.outcome is not None:
        return judged(float(leaf.outcome == "correct"), leaf.outcome == "correct")
    return None if leaf.value is None else judged(leaf.value)


def _answer(tree: SearchTree, leaf: TreeNode, score: Score, group: str, episode: int) -> Trajectory:
    """The answer as an episode."""
    made = tree.trajectory(leaf)
    return replace(made, score=score, group=group, episode=episode, shown=tree.problem.messages)


def _require_own_tokens(encoder: AnswerEncoder, tree: SearchTree, row: Row) -> None:
    """Compare the tokens of the question, and the text of the first answer, with what this chat makes of them.

    Raises:
        DataError: they differ.
    """
    chat = encoder.chat
    same = list(tree.prompt_ids) == chat.prompt_ids(tree.problem.messages)
    leaf = next(tree.leaves(), None)
    if leaf is not None and leaf.prompt_ids is None:
        text = chat.text(leaf.completion.token_ids)
        same = same and text == leaf.text
    if not same:
        raise DataError(
            f"{row.where}: the tree's tokens are not those that this model's tokenizer and chat template make of its "
            "texts; expected trees of this model's own family, or rows of `llmrl data from-trees`, which are texts"
        )
