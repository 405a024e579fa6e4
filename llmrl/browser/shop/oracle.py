"""A scripted player of the shop, which knows the goal's facts and reads pages as a policy does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmrl.browser.actions import Action
from llmrl.browser.elements import Element
from llmrl.browser.shop.goals import Fact
from llmrl.browser.shop.store import Product
from llmrl.browser.shop.task import ShopTask
from llmrl.browser.wishes import NoPlanError, Wish, chosen, click, filled, find


def next_action(task: ShopTask, elements: Sequence[Element]) -> Action:
    """The next action towards the goal's first fact that does not hold.

    Raises:
        NoPlanError: the page is none of the shop's.
    """
    missing = next((fact for fact in task.goal.facts if not fact.holds(task.store, "")), None)
    if missing is None:
        return Action("stop")
    if missing.name == "login":
        return _log_in(elements, *missing.value)  # type: ignore[misc]
    if missing.name == "cart":
        return _fill_cart(task, elements, missing.value)  # type: ignore[arg-type]
    if missing.name == "answer":
        return _answer(task, elements, str(missing.value))
    return _check_out(elements, {fact.name: fact for fact in task.goal.facts})


def _log_in(elements: Sequence[Element], user: str, password: str) -> Action:
    if not _has(elements, "password"):
        return click(find(elements, "a", "Log in"))
    return _first(elements, "Log in", filled(_at(elements, "name"), user), filled(_at(elements, "password"), password))


def _fill_cart(task: ShopTask, elements: Sequence[Element], wanted: Mapping[int, int]) -> Action:
    cart = task.store.cart
    surplus = [number for number, id in enumerate(cart) if id not in wanted]
    if surplus:
        buttons = [element for element in elements if element.tag == "button" and element.text == "Remove"]
        return click(buttons[surplus[0]] if buttons else _cart_link(elements))
    id, quantity = next((id, quantity) for id, quantity in wanted.items() if cart.get(id) != quantity)
    product = task.store.product(id)
    assert product is not None
    if not _is_page_of(elements, product):
        return _open(elements, product)
    return _first(elements, "Add to cart", filled(_at(elements, "quantity"), str(quantity)))


def _answer(task: ShopTask, elements: Sequence[Element], answer: str) -> Action:
    """Answer with an amount once it is on the page; until then go where it stands."""
    if any(answer in element.text for element in elements):
        return Action("stop", text=answer)
    if task.store.customer:
        return click(find(elements, "a", "Orders"))
    return _open(elements, next(p for p in task.goal.products if p.name in task.goal.text))


def _check_out(elements: Sequence[Element], facts: Mapping[str, Fact]) -> Action:
    if _has(elements, "address"):
        wishes = [filled(_at(elements, "address"), str(facts["address"].value))]
        payment: Any = facts["payment"].value if "payment" in facts else "invoice"
        return _first(elements, "Place order", *wishes, chosen(_at(elements, "payment"), payment))
    checkout = next((element for element in elements if element.text == "Check out" and element.tag == "a"), None)
    return click(checkout or _cart_link(elements))


def _open(elements: Sequence[Element], product: Product) -> Action:
    """Open a product's page, by a search for its name."""
    link = next((element for element in elements if element.tag == "a" and element.text == product.name), None)
    if link is not None:
        return click(link)
    if not _has(elements, "q"):
        return click(find(elements, "a", "Shop"))
    return _first(elements, "Search", filled(_at(elements, "q"), product.name))


def _is_page_of(elements: Sequence[Element], product: Product) -> bool:
    return any(element.tag == "h1" and element.text == product.name for element in elements)


def _first(elements: Sequence[Element], button: str, *wishes: Wish) -> Action:
    """The action of the first wish that is not met, else a click on the button."""
    return next((wish.action for wish in wishes if not wish.is_met), click(find(elements, "button", button)))


def _has(elements: Sequence[Element], id: str) -> bool:
    return any(element.id == id for element in elements)


def _at(elements: Sequence[Element], id: str) -> Element:
    return find(elements, "", id=id)


def _cart_link(elements: Sequence[Element]) -> Element:
    cart = next((e for e in elements if e.tag == "a" and e.text.startswith("Cart (")), None)
    if cart is None:
        raise NoPlanError("no link to the cart on the page")
    return cart
