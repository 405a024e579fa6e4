"""Take a step under ZeRO-2 in two processes, and compare it with arithmetic by hand. Prints one JSON object."""

from __future__ import annotations

import json
import time

import torch
from torch import nn

from llmrl.recipe import TrainOptions
from llmrl.train.parallel import accelerator

_RATE = 0.1


def main() -> None:
    began = time.perf_counter()
    accelerate = accelerator(TrainOptions(report_to="none"))
    torch.manual_seed(0)
    inputs, net = torch.randn(8, 4), nn.Linear(4, 1, bias=False)
    before = net.weight.detach().clone()
    # the gradient of the mean of squares, which two ranks must find from four rows each
    expected = before - _RATE * 2 * (inputs @ before.T * inputs).mean(0, keepdim=True)
    module, optimizer = accelerate.prepare(net, torch.optim.SGD(net.parameters(), lr=_RATE))
    share = inputs[accelerate.process_index :: accelerate.num_processes]
    accelerate.backward(module(share).square().mean())
    optimizer.step()
    after = accelerate.unwrap_model(module).weight.detach()
    everyone = accelerate.gather(after)
    gap = (everyone - expected).abs().max().item()
    if accelerate.is_main_process:
        outcome = {"world": accelerate.num_processes, "gap": gap, "moved": (after - before).abs().max().item()}
        print(json.dumps({"probe": "deepspeed", **outcome, "seconds": time.perf_counter() - began}), flush=True)
    accelerate.end_training()


if __name__ == "__main__":
    main()
