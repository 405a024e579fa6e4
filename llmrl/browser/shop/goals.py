"""Goals in the shop, by kind and seed: a text, the facts of the database that it asks for, and the shop before it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llmrl.browser.curriculum import target_fields
from llmrl.browser.shop.store import CATEGORIES, COLOURS, PAYMENTS, USERS, Product, Store, catalogue, price

Holds = Callable[[Store, str], bool]
"""Tell whether a fact holds, of the shop's database and the policy's answer."""
Products = Sequence[Product]
Customers = Mapping[str, str]  # passwords by name
STREETS = ("Oak Lane", "Mill Road", "High Street", "Park Avenue", "Lake View")
TOWNS = ("Norwich", "Aarhus", "Bergen", "Tartu", "Ghent")


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact that a goal asks for: its name is login, cart, address, payment or answer; `value` is what it must be."""

    name: str
    holds: Holds
    value: object = None


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal in words and as facts; it is reached where all hold once the policy ends, or has placed an order."""

    text: str
    facts: Sequence[Fact]
    products: Sequence[Product]
    customers: Mapping[str, str]  # passwords by name
    orders: Sequence[tuple[str, Mapping[int, int]]] = ()  # placed before the episode, by customer
    cart: Mapping[int, int] | None = None  # before the episode

    @property
    def asks_order(self) -> bool:
        """True if it is over with an order."""
        return any(fact.name in ("address", "payment") for fact in self.facts)

    def store(self) -> Store:
        """A shop as the goal finds it."""
        store = Store(self.products, self.customers)
        for customer, lines in self.orders:
            for product, quantity in lines.items():
                store.put(product, quantity)
            store.place(customer, "1 Old Street, Ghent", "invoice", is_new=False)
        for product, quantity in (self.cart or {}).items():
            store.put(product, quantity)
        return store


def make_goal(kind: str, seed: int, progress: float = 1.0) -> Goal:
    """The goal of a kind (one of `KINDS`) and a seed.

    Below a `progress` of 1 a goal of several parts asks for the first of them alone.
    """
    chance = random.Random(f"shop/{kind}/{seed}")
    products = catalogue(seed)
    customers = {user: f"{chance.choice(COLOURS)}{chance.randrange(10, 100)}" for user in USERS}
    return KINDS[kind](chance, products, customers, progress)


def _find(chance: random.Random, products: Products, customers: Customers, progress: float) -> Goal:
    wanted = chance.choice(products)
    text = f"Find out what the {wanted.name} costs, and answer with its price."
    return Goal(text, [_answer(price(wanted.cents))], products, customers)


def _cheapest(chance: random.Random, products: Products, customers: Customers, progress: float) -> Goal:
    category = chance.choice(CATEGORIES)
    colour = chance.choice(sorted({p.colour for p in products if p.category == category}))
    fitting = [p for p in products if (p.category, p.colour) == (category, colour)]
    best = min(fitting, key=lambda p: p.cents)
    text = f"Put the cheapest {colour} {category} into the cart, one piece."
    return Goal(text, [_cart({best.id: 1})], products, customers)


def _basket(chance: random.Random, products: Products, customers: Customers, progress: float) -> Goal:
    wanted = {p.id: (p, chance.randrange(1, 4)) for p in chance.sample(products, 2)}
    parts = " and ".join(f"{quantity} x {p.name}" for p, quantity in wanted.values())
    facts = [_cart({id: quantity for id, (_, quantity) in wanted.items()})]
    return Goal(f"Put {parts} into the cart, and nothing else.", facts, products, customers)


def _remove(chance: random.Random, products: Products, customers: Customers, progress: float) -> Goal:
    cart = {p.id: chance.randrange(1, 4) for p in chance.sample(products, 3)}
    gone = chance.choice(sorted(cart))
    name = next(p.name for p in products if p.id == gone)
    left = {id: quantity for id, quantity in cart.items() if id != gone}
    return Goal(f"Remove the {name} from the cart.", [_cart(left)], products, customers, cart=cart)


def _login(chance: random.Random, products: Products, customers: Customers, progress: float) -> Goal:
    user = chance.choice(USERS)
    text = f'Log in as "{user}" with the password "{customers[user]}".'
    return Goal(text, [_logged_in(user, customers)], products, customers)


def _spent(chance: random.Random, products: Products, customers: Customers, progress: float) -> Goal:
    user = chance.choice(USERS)
    orders = [(chance.choice([user, *USERS]), {chance.choice(products).id: chance.randrange(1, 4)}) for _ in range(5)]
    orders.append((user, {p.id: 1 for p in chance.sample(products, 2)}))
    last = sum(p.cents for p in products if p.id in orders[-1][1])
    text = f'Log in as "{user}" with the password "{customers[user]}", and answer with the total of the latest order.'
    return Goal(text, [_logged_in(user, customers), _answer(price(last))], products, customers, orders)


def _buy(chance: random.Random, products: Products, customers: Customers, progress: float) -> Goal:
    user, wanted, quantity = chance.choice(USERS), chance.choice(products), chance.randrange(1, 4)
    address = f"{chance.randrange(1, 99)} {chance.choice(STREETS)}, {chance.choice(TOWNS)}"
    payment = chance.choice(PAYMENTS)
    parts = [
        (f'log in as "{user}" with the password "{customers[user]}"', _logged_in(user, customers)),
        (f"put {quantity} x {wanted.name} into the cart", _bought({wanted.id: quantity})),
        (f'order it to be sent to "{address}"', _ordered("address", address)),
        (f"pay by {payment}", _ordered("payment", payment)),
    ][: target_fields(4, progress)]
    text = ", ".join(text for text, _ in parts)
    return Goal(text[0].upper() + text[1:] + ".", [fact for _, fact in parts], products, customers)


def _logged_in(user: str, customers: Mapping[str, str]) -> Fact:
    return Fact("login", lambda shop, _: shop.customer == user, (user, customers[user]))


def _cart(wanted: Mapping[int, int]) -> Fact:
    return Fact("cart", lambda shop, _: shop.cart == wanted, wanted)


def _bought(wanted: Mapping[int, int]) -> Fact:
    return Fact("cart", lambda shop, _: (_new(shop, "lines") or shop.cart) == wanted, wanted)


def _ordered(column: str, wanted: str) -> Fact:
    return Fact(column, lambda shop, _: _new(shop, column) == wanted, wanted)


def _answer(wanted: str) -> Fact:
    return Fact("answer", lambda _, answer: _amount(answer) == _amount(wanted), wanted)


def _new(shop: Store, column: str) -> object:
    """A column of the one order that the episode placed; None where it placed none, or several."""
    placed = [order for order in shop.orders if order.is_new]
    return getattr(placed[0], column) if len(placed) == 1 else None


def _amount(text: str) -> str | None:
    """The one amount of money in a text, without its sign; None where there is none, or several."""
    amounts = re.findall(r"[0-9]{1,7}(?:\.[0-9]{1,2})?", text)
    return f"{float(amounts[0]):.2f}" if len(amounts) == 1 else None


KINDS: Mapping[str, Callable[[random.Random, Products, Customers, float], Goal]] = {
    "find": _find,
    "cheapest": _cheapest,
    "basket": _basket,
    "remove": _remove,
    "login": _login,
    "spent": _spent,
    "buy": _buy,
}
OF_PARTS = frozenset(["buy"])
"""Kinds of several parts, of which `progress` asks for the first."""
