"""Permission for the matrix tiles (AMX) of a processor, which vLLM's attention in bfloat16 uses without asking for it.

The kernel grants tiles to a process that asks. A matrix product asks by itself once it is large enough; a server whose
first prompt was of a few tokens died of an illegal instruction.
"""

from __future__ import annotations


class TilesAllowed:
    """Extension of vLLM's worker: its process has asked when this module is there."""


def allow_tiles() -> None:
    """Ask for the tiles, where the processor has them."""
    import torch

    torch.cpu._init_amx()


allow_tiles()
