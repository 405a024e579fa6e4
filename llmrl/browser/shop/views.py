"""HTML of the shop's pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from llmrl.browser.shop.store import CATEGORIES, COLOURS, PAYMENTS, Product, Store, price

MOST = 12  # products in a list of results
STYLE = """
body { font: 14px sans-serif; margin: 0; max-width: 640px; color: #222 }
nav { background: #234; padding: 8px } nav a, nav span { color: white; margin-right: 12px }
form { display: inline-block; margin: 4px 0 } td, th { padding: 3px 8px; text-align: left }
input, select, button { font: inherit; margin: 2px } .error { color: #a00 } h1 { font-size: 18px }
"""


def page(store: Store, title: str, *parts: str) -> str:
    """A page with the shop's head above its parts."""
    who = store.customer
    account = (
        f"<span>{escape(who)}</span> <a href='/orders'>Orders</a>{_form('/logout', _button('Log out'))}"
        if who
        else "<a href='/login'>Log in</a>"
    )
    head = f"<nav><a href='/'>Shop</a> <a href='/cart'>Cart ({sum(store.cart.values())})</a> {account}</nav>"
    style = f"<meta charset='utf-8'><title>{escape(title)}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{style}</head><body>{head}<h1>{escape(title)}</h1>{''.join(parts)}"


def home(store: Store) -> str:
    """The first page: the search."""
    return page(store, "Welcome to the shop", _search_form())


def results(store: Store, words: str, category: str, colour: str, sort: str) -> str:
    """The products that a search finds."""
    found = store.search(words, category, colour, sort)
    rows = [(f"<a href='/product/{p.id}'>{p.name}</a>", price(p.cents), f"{p.stars} stars") for p in found[:MOST]]
    more = f"<p>{len(found) - MOST} more; search for less.</p>" if len(found) > MOST else ""
    none = "" if found else "<p>Nothing found.</p>"
    return page(store, f"{len(found)} products", _search_form(words, category, colour, sort), _table(rows), more, none)


def product(store: Store, shown: Product) -> str:
    """A product, with a button that puts it into the cart."""
    facts = f"<p id='price'>{price(shown.cents)}</p><p>{shown.category}, {shown.colour}, {shown.stars} stars</p>"
    put = _form("/cart/put", _hidden("product", shown.id), _field("quantity", "Quantity", "1"), _button("Add to cart"))
    return page(store, shown.name, facts, put)


def cart(store: Store) -> str:
    """The cart, with buttons that change it."""
    rows, total = [], 0
    for id, quantity in store.cart.items():
        shown = store.product(id)
        assert shown is not None
        total += shown.cents * quantity
        change = _form("/cart/set", _hidden("product", id), _field("quantity", "", str(quantity)), _button("Update"))
        remove = _form("/cart/set", _hidden("product", id), _hidden("quantity", 0), _button("Remove"))
        rows.append((f"<a href='/product/{id}'>{shown.name}</a>", price(shown.cents), change, remove))
    if not rows:
        return page(store, "Your cart", "<p>It is empty.</p>")
    return page(store, "Your cart", _table(rows), f"<p>Total {price(total)}</p><a href='/checkout'>Check out</a>")


def login(store: Store, error: str = "") -> str:
    """The form to log in."""
    fields = _field("name", "Name"), _field("password", "Password", kind="password"), _button("Log in")
    return page(store, "Log in", _error(error), _form("/login/send", *fields))


def checkout(store: Store, error: str = "") -> str:
    """The form to order; it asks to log in first."""
    if not store.customer:
        return page(store, "Check out", "<p>Please log in first.</p>")
    if not store.cart:
        return page(store, "Check out", "<p>Your cart is empty.</p>")
    payment = _choice("payment", "Pay by", ("", *PAYMENTS), "")
    return page(
        store,
        "Check out",
        _error(error),
        _form("/checkout/send", _field("address", "Address"), payment, _button("Place order")),
    )


def orders(store: Store) -> str:
    """The customer's orders, the latest last."""
    if not store.customer:
        return page(store, "Your orders", "<p>Please log in first.</p>")
    rows = [
        (f"Order {order.id}", price(order.cents), escape(order.address), order.payment)
        for order in store.orders
        if order.customer == store.customer
    ]
    return page(store, "Your orders", _table(rows) if rows else "<p>There are none.</p>")


def _search_form(words: str = "", category: str = "", colour: str = "", sort: str = "name") -> str:
    return _form(
        "/search",
        _field("q", "Search", words),
        _choice("category", "Category", ("", *CATEGORIES), category),
        _choice("colour", "Colour", ("", *COLOURS), colour),
        _choice("sort", "Sort by", ("name", "price", "stars"), sort),
        _button("Search"),
        method="get",
    )


def _form(action: str, *parts: str, method: str = "post") -> str:
    return f"<form action='{action}' method='{method}'>{''.join(parts)}</form>"


def _field(name: str, label: str, value: str = "", kind: str = "text") -> str:
    size = 3 if name == "quantity" else 20
    field = f"<input id='{name}' name='{name}' type='{kind}' size='{size}' value='{escape(value, quote=True)}'>"
    return f"<label>{label} {field}</label>" if label else field


def _hidden(name: str, value: int) -> str:
    return f"<input type='hidden' name='{name}' value='{value}'>"


def _choice(name: str, label: str, options: Sequence[str], chosen: str) -> str:
    inner = "".join(
        f"<option value='{option}'{' selected' if option == chosen else ''}>{option or 'choose'}</option>"
        for option in options
    )
    return f"<label>{label} <select id='{name}' name='{name}'>{inner}</select></label>"


def _button(text: str) -> str:
    return f"<button>{text}</button>"


def _error(text: str) -> str:
    return f"<p class='error'>{escape(text)}</p>" if text else ""


def _table(rows: Iterable[Sequence[str]]) -> str:
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{lines}</table>"
