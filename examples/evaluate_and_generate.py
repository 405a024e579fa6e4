"""Ask a model: a benchmark, rows of your own, and single prompts, each answered by the same engine as in training."""

from __future__ import annotations

import sys
from pathlib import Path

import llmrl
from llmrl import tiny


def main(folder: Path, limit: int = 16) -> None:
    model = tiny.make(folder / "model", vocab="arithmetic", hidden=64, layers=2)  # random: it knows nothing

    results = llmrl.evaluate(model, "arithmetic", limit=limit, engine="hf", out=folder / "answers")
    estimate = results["arithmetic"].metrics["avg@1"]
    print(f"arithmetic: {estimate.value:.1%} right, 95 % interval {estimate.low:.1%} to {estimate.high:.1%}")

    rows = [{"prompt": f"{n}+1=", "answer": str(n + 1)} for n in range(10)]
    mine = llmrl.evaluate(
        model, data=rows, reward={"name": "numeric"}, name="mine", max_tokens=8, engine="hf", out=folder / "mine"
    )
    print(mine["mine"])
    wrong = next(answer for answer in mine["mine"].answers() if answer["verdict"] != "correct")
    print(f"asked {wrong['prompt'][-1]['content']!r}, answered {wrong['completion']!r}: {wrong['reason']}")

    for answer in llmrl.generate(model, ["1+1=", "2+2="], samples=2, max_tokens=4, engine="hf"):
        likelihood = sum(answer.logprobs)
        print(f"{answer.prompt} {answer.text!r}, {len(answer.token_ids)} tokens, log-probability {likelihood:.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples"))
