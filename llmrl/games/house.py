"""Rules of the house in which stale food belongs into the fridge: rooms, things, and commands on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache

BACK = {"west": "east", "east": "west", "north": "south", "south": "north"}
DOORS = (
    ("bedroom", "west", "living room"),
    ("living room", "west", "dining room"),
    ("dining room", "west", "kitchen"),
    ("kitchen", "north", "garden"),
    ("kitchen", "west", "backyard"),
    ("living room", "south", "office"),
    ("office", "east", "bathroom"),
    ("bedroom", "south", "bathroom"),
)
EXITS: Mapping[str, Mapping[str, str]] = {
    room: {way: there for here, way, there in DOORS if here == room}
    | {BACK[way]: here for here, way, there in DOORS if there == room}
    for room in sorted({room for here, _, there in DOORS for room in (here, there)})
}
"""Rooms, and the room behind each of their exits."""
FURNITURE: Mapping[str, str] = {
    "bedroom": "table",
    "living room": "table",
    "dining room": "table",
    "office": "chest",
    "kitchen": "fridge",
}
"""Rooms with something that holds things; each has one."""
CLOSABLE = ("chest", "fridge")
FOOD = ("stale food", "fresh food", "fruit")
THINGS: Mapping[str, str] = {
    "stale food": "living room",
    "fresh food": "living room",
    "bowl": "bedroom",
    "coffee cup": "dining room",
    "plate": "dining room",
    "utensils": "office",
    "fruit": "kitchen",
}
"""Things, and the room in whose furniture each lies at first."""
CARRIED, EATEN = "carried", "eaten"


@dataclass(frozen=True, slots=True)
class House:
    """State of the house. A place is `carried`, `eaten`, `in ROOM` (its furniture) or `floor ROOM`."""

    room: str
    places: tuple[str, ...] = tuple(f"in {room}" for room in THINGS.values())  # of THINGS, in their order
    opened: frozenset[str] = frozenset()  # of CLOSABLE
    moves: int = 0

    def at(self, place: str) -> list[str]:
        """The things at a place."""
        return [thing for thing, there in zip(THINGS, self.places, strict=True) if there == place]

    def place_of(self, thing: str) -> str:
        """Place of a thing."""
        return self.places[list(THINGS).index(thing)]

    def with_place(self, thing: str, place: str) -> House:
        """The state with the thing at another place."""
        places = [place if name == thing else there for name, there in zip(THINGS, self.places, strict=True)]
        return replace(self, places=tuple(places))

    def furniture(self) -> str | None:
        """Furniture of the room, if any."""
        return FURNITURE.get(self.room)

    def is_open(self) -> bool:
        """True if things can be put into, or taken from, the furniture of the room."""
        furniture = self.furniture()
        return furniture is not None and (furniture not in CLOSABLE or furniture in self.opened)

    def is_stored(self) -> bool:
        """True once the stale food is in the closed fridge: the task is done."""
        return self.place_of("stale food") == "in kitchen" and "fridge" not in self.opened

    def is_lost(self) -> bool:
        """True once the stale food was eaten."""
        return self.place_of("stale food") == EATEN


@lru_cache(maxsize=4096)
def commands(house: House) -> Mapping[str, House]:
    """The commands that change the state, in alphabetical order, each with the state after it; `moves` stays."""
    after = {f"go {way}": replace(house, room=there) for way, there in EXITS[house.room].items()}
    furniture, inside, floor = house.furniture(), f"in {house.room}", f"floor {house.room}"
    for thing in house.at(floor):
        after[f"take {thing}"] = house.with_place(thing, CARRIED)
    for thing in house.at(CARRIED):
        after[f"drop {thing}"] = house.with_place(thing, floor)
        if thing in FOOD:
            after[f"eat {thing}"] = house.with_place(thing, EATEN)
        if house.is_open():
            verb = f"insert {thing} into" if furniture in CLOSABLE else f"put {thing} on"
            after[f"{verb} {furniture}"] = house.with_place(thing, inside)
    if house.is_open():
        for thing in house.at(inside):
            after[f"take {thing} from {furniture}"] = house.with_place(thing, CARRIED)
    if furniture in CLOSABLE:
        verb = "close" if furniture in house.opened else "open"
        after[f"{verb} {furniture}"] = replace(house, opened=house.opened ^ {furniture})
    return dict(sorted(after.items()))


@cache
def way(start: str, end: str) -> tuple[str, ...]:
    """Directions on a shortest way between two rooms."""
    ways: dict[str, tuple[str, ...]] = {start: ()}
    queue = deque([start])
    while queue:
        room = queue.popleft()
        for direction, there in EXITS[room].items():
            if there not in ways:
                ways[there] = (*ways[room], direction)
                queue.append(there)
    return ways[end]


def plan(house: House) -> list[str]:
    """Commands on a shortest way to the goal, from any state in which the stale food was not eaten."""
    place = house.place_of("stale food")
    if place == "in kitchen":
        steps = [f"go {step}" for step in way(house.room, "kitchen")]
        return steps if house.is_stored() else [*steps, "close fridge"]
    steps = []
    room = house.room
    if place != CARRIED:
        room = place.partition(" ")[2]
        steps = [f"go {step}" for step in way(house.room, room)]
        furniture = FURNITURE.get(room)
        if place.startswith("in ") and furniture in CLOSABLE and furniture not in house.opened:
            steps.append(f"open {furniture}")
        steps.append("take stale food" + (f" from {furniture}" if place.startswith("in ") else ""))
    steps += [f"go {step}" for step in way(room, "kitchen")]
    opening = [] if "fridge" in house.opened else ["open fridge"]
    return [*steps, *opening, "insert stale food into fridge", "close fridge"]
