"""Database of the shop: products, customers, the cart and orders of one episode, in SQLite."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

BRANDS = ("Alder", "Birch", "Cedar", "Dune", "Ember", "Fjord")
COLOURS = ("red", "blue", "green", "black", "white", "yellow")
CATEGORIES = ("mug", "lamp", "chair", "backpack", "notebook", "kettle", "blanket", "clock")
USERS = ("ann", "bob", "cleo", "dan", "eva", "finn", "gus", "hana")
PAYMENTS = ("invoice", "card", "transfer")
PRODUCTS = 96
SCHEMA = """
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT UNIQUE, category TEXT, colour TEXT, cents INTEGER, stars REAL);
CREATE TABLE customers (name TEXT PRIMARY KEY, password TEXT);
CREATE TABLE visit (customer TEXT);
CREATE TABLE cart (product INTEGER PRIMARY KEY, quantity INTEGER);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, address TEXT, payment TEXT, cents INTEGER, placed INTEGER);
CREATE TABLE lines (order_id INTEGER, product INTEGER, quantity INTEGER);
"""


@dataclass(frozen=True, slots=True)
class Product:
    """A product as it stands in the catalogue; `stars` are those of customers, 1 to 5."""

    id: int
    name: str
    category: str
    colour: str
    cents: int
    stars: float


@dataclass(frozen=True, slots=True)
class Purchase:
    """An order; `lines` are quantities by product. Those from before the episode are not `is_new`."""

    id: int
    customer: str
    address: str
    payment: str
    cents: int
    is_new: bool
    lines: Mapping[int, int]


def price(cents: int) -> str:
    """A price as pages and answers write it: `$12.50`."""
    return f"${cents // 100}.{cents % 100:02}"


def catalogue(seed: int) -> list[Product]:
    """The products of a seed; names and prices are unique, so that a task has one answer."""
    chance = random.Random(f"shop/{seed}")
    kinds = chance.sample(list(product(BRANDS, COLOURS, CATEGORIES)), PRODUCTS)
    cents = chance.sample(range(300, 9900, 5), PRODUCTS)
    return [
        Product(number, f"{brand} {colour} {category}", category, colour, amount, chance.randrange(10, 51) / 10)
        for number, ((brand, colour, category), amount) in enumerate(zip(kinds, cents, strict=True), start=1)
    ]


class Store:
    """The shop of one episode. Each method is a statement or two; used from one event loop."""

    def __init__(self, products: Sequence[Product], customers: Mapping[str, str]) -> None:
        self._sql = sqlite3.connect(":memory:", check_same_thread=False)
        self._sql.executescript(SCHEMA)
        rows = [(p.id, p.name, p.category, p.colour, p.cents, p.stars) for p in products]
        self._sql.executemany("INSERT INTO products VALUES (?, ?, ?, ?, ?, ?)", rows)
        self._sql.executemany("INSERT INTO customers VALUES (?, ?)", list(customers.items()))

    def close(self) -> None:
        """Free its memory."""
        self._sql.close()

    def product(self, id: int) -> Product | None:
        """The product of this number."""
        row = self._sql.execute("SELECT * FROM products WHERE id = ?", (id,)).fetchone()
        return Product(*row) if row else None

    def search(self, words: str = "", category: str = "", colour: str = "", sort: str = "name") -> list[Product]:
        """Products whose name holds every word, of a category and a colour where these are given.

        Sorted by `name`, `price` or `stars` (the best first).
        """
        order = {"price": "cents", "stars": "stars DESC, name"}.get(sort, "name")
        rows = self._sql.execute(
            f"SELECT * FROM products WHERE ? IN ('', category) AND ? IN ('', colour) ORDER BY {order}",
            (category, colour),
        )
        found = [Product(*row) for row in rows]
        return [p for p in found if all(word in p.name.lower() for word in words.lower().split())]

    def log_in(self, name: str, password: str) -> bool:
        """Log a customer in; False where name and password do not go together."""
        row = self._sql.execute("SELECT password FROM customers WHERE name = ?", (name,)).fetchone()
        if row is None or row[0] != password:
            return False
        self.log_out()
        self._sql.execute("INSERT INTO visit VALUES (?)", (name,))
        return True

    def log_out(self) -> None:
        """Log out whoever is logged in."""
        self._sql.execute("DELETE FROM visit")

    @property
    def customer(self) -> str:
        """Name of the customer who is logged in; "" where nobody is."""
        row = self._sql.execute("SELECT customer FROM visit").fetchone()
        return row[0] if row else ""

    @property
    def cart(self) -> dict[int, int]:
        """Quantities in the cart, by product."""
        return dict(self._sql.execute("SELECT product, quantity FROM cart ORDER BY product").fetchall())

    def put(self, product: int, quantity: int) -> None:
        """Put a quantity more of a product into the cart."""
        self.set(product, self.cart.get(product, 0) + quantity)

    def set(self, product: int, quantity: int) -> None:
        """Set the quantity of a product in the cart; 0 removes it."""
        self._sql.execute("DELETE FROM cart WHERE product = ?", (product,))
        if quantity > 0:
            self._sql.execute("INSERT INTO cart VALUES (?, ?)", (product, quantity))

    def place(self, customer: str, address: str, payment: str, *, is_new: bool = True) -> int:
        """Order what is in the cart; return the order's number."""
        cart = self.cart
        cents = sum(self._cents(product) * quantity for product, quantity in cart.items())
        row = (customer, address, payment, cents, int(is_new))
        columns = "customer, address, payment, cents, placed"
        number = self._sql.execute(f"INSERT INTO orders ({columns}) VALUES (?, ?, ?, ?, ?)", row).lastrowid
        assert number is not None
        self._sql.executemany("INSERT INTO lines VALUES (?, ?, ?)", [(number, *line) for line in cart.items()])
        self._sql.execute("DELETE FROM cart")
        return number

    @property
    def orders(self) -> list[Purchase]:
        """The orders, the oldest first."""
        rows = self._sql.execute("SELECT * FROM orders ORDER BY id").fetchall()
        lines = "SELECT product, quantity FROM lines WHERE order_id = ?"
        return [
            Purchase(
                id, customer, address, payment, cents, bool(placed), dict(self._sql.execute(lines, (id,)).fetchall())
            )
            for id, customer, address, payment, cents, placed in rows
        ]

    def _cents(self, product: int) -> int:
        cents: int = self._sql.execute("SELECT cents FROM products WHERE id = ?", (product,)).fetchone()[0]
        return cents
