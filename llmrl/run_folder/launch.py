"""Environment variables by which launchers tell processes of each other; without a launcher they are strays."""

from __future__ import annotations

import logging
import multiprocessing
import os

from llmrl.errors import RecipeError
from llmrl.run_folder.command import launched

RANKS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
PLACES = ("MASTER_ADDR", "MASTER_PORT")
_LAUNCHERS = (
    *("TORCHELASTIC_RUN_ID", "FORK_LAUNCHED", "SLURM_PROCID"),
    *("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MPI_LOCALRANKID"),
)
"""Variables that a launcher, or a scheduler that starts one process for each rank, sets besides."""
log = logging.getLogger(__name__)


def require_launch() -> None:
    """Refuse a process that its environment calls one of several while no launcher has started it.

    Libraries would wait for the others for hours. Strays that say nothing of others are taken away, for libraries read
    them, too.

    Raises:
        RecipeError: so it is, or a variable is no number; names the variables.
    """
    found = {name: os.environ[name] for name in RANKS if name in os.environ}
    for name, value in found.items():
        if not value.strip().lstrip("-").isdecimal():
            raise RecipeError(f"environment variable {name} is {value!r}; expected a number, or none: unset {name}")
    numbers = {name: int(value) for name, value in found.items()}
    world = numbers.get("WORLD_SIZE", 1)
    if launched() or multiprocessing.parent_process() or any(name in os.environ for name in _LAUNCHERS):
        missing = [name for name in ("RANK", *PLACES) if world > 1 and name not in os.environ]
        if missing:
            raise RecipeError(
                f"environment variable WORLD_SIZE is {world}, and {', '.join(missing)} is not set: the processes would "
                "not find each other; launch with `accelerate launch -m llmrl train ...`"
            )
        return
    of_several = {
        name: value
        for name, value in numbers.items()
        if value > (1 if name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE") else 0)
    }
    strays = [*found, *(name for name in PLACES if name in os.environ)]
    if of_several:
        said = ", ".join(f"{name}={value}" for name, value in of_several.items())
        raise RecipeError(
            f"the environment says {said}, and no launcher has started this process: it would wait for others that "
            f"never come. For one process: unset {' '.join(strays)}; for several: accelerate launch -m llmrl ..."
        )
    for name in strays:
        del os.environ[name]
    if strays:
        log.info(f"ignored environment variables of a launcher: {', '.join(strays)}")
