"""Files of games in a folder, as TextWorld makes them."""

from __future__ import annotations

from pathlib import Path

from llmrl.errors import DataError

ENDINGS = (".json", ".z3", ".z5", ".z8", ".ulx")
"""Of files that are games; a .json alone needs no interpreter of the Z-machine."""


def game_files(folder: str) -> list[Path]:
    """Game files of a folder, sorted, without the .json that `tw-make` writes beside each.

    Raises:
        DataError: there is no folder, or no game in it.
    """
    place = Path(folder)
    if not place.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with games: tw-make ... --output {folder}/1.z8")
    found = sorted(path for path in place.iterdir() if path.suffix in ENDINGS and path.is_file())
    compiled = {path.stem for path in found if path.suffix != ".json"}
    games = [path for path in found if path.suffix != ".json" or path.stem not in compiled]
    if not games:
        raise DataError(f"{folder}: no game; make one there: tw-make tw-simple ... --output {folder}/1.z8")
    return games
