"""Methods inside a vLLM worker: loading full weights, and recording each layer's output norms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmrl.engines.vllm.amx import TilesAllowed

if TYPE_CHECKING:
    from torch import Tensor, nn


class WeightReceiver(TilesAllowed):
    """Extension of vLLM's worker (`worker_extension_cls`), called by `collective_rpc` in process or over HTTP."""

    model_runner: Any

    def receive(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Replace every weight; the names are those of the Hugging Face checkpoint."""
        self.model_runner.reload_weights(weights_iterator=iter(weights))
        model: nn.Module = self.model_runner.get_model()
        head = getattr(model, "lm_head", None)
        # On a CPU a tied head multiplies by a packed copy that reload_weights leaves stale; packing it again is exact.
        if head is not None and hasattr(head, "quant_method"):
            head.quant_method.process_weights_after_loading(head)
        self._pack_experts(model)

    def _pack_experts(self, model: nn.Module) -> None:
        """Pack experts on a CPU, whose kernels read packed copies that reload_weights fills with unpacked weights."""
        from vllm.platforms import current_platform

        if not current_platform.is_cpu():
            return
        for layer in model.modules():
            kernel = getattr(getattr(layer, "quant_method", None), "moe_kernel", None)
            if kernel is not None:
                kernel.fused_experts.process_weights_after_loading(layer)

    def reload_file(self, path: str) -> None:
        """Replace every weight by those of a safetensors file that this process can read."""
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            self.receive((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118 (not a dict)

    def watch_layers(self) -> None:
        """Record from now on the norm of the residual stream of each token after each decoder layer."""
        self._norms: list[list[float]] = [[] for _ in self._layers()]
        self._hooks = [layer.register_forward_hook(self._watcher(i)) for i, layer in enumerate(self._layers())]

    def layer_norms(self) -> list[list[float]]:
        """Norms recorded since `watch_layers`, (layers, tokens); ends the recording."""
        for hook in self._hooks:
            hook.remove()
        return self._norms

    def _layers(self) -> Any:
        from torch.nn import ModuleList

        count = self.model_runner.vllm_config.model_config.hf_text_config.num_hidden_layers
        model: nn.Module = self.model_runner.get_model()
        return next(part for part in model.modules() if isinstance(part, ModuleList) and len(part) == count)

    def _watcher(self, index: int) -> Any:
        def hook(_layer: nn.Module, _inputs: Any, output: Any) -> None:
            # vLLM's layers return (what the layer adds, the residual before it); some return the sum alone
            stream = output[0] + output[1] if isinstance(output, tuple) and output[1] is not None else output
            stream = stream[0] if isinstance(stream, tuple) else stream
            self._norms[index] += stream.float().norm(dim=-1).tolist()

        return hook
