"""The shop without a browser: its store, its goals and its pages over HTTP."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from llmrl.browser.shop.goals import KINDS, make_goal
from llmrl.browser.shop.server import COOKIE, ShopServer, app
from llmrl.browser.shop.store import Store, catalogue, price


def test_a_catalogue_belongs_to_its_seed() -> None:
    assert catalogue(3) == catalogue(3) != catalogue(4)
    products = catalogue(3)
    assert len({p.name for p in products}) == len({p.cents for p in products}) == len(products) == 96


def test_prices() -> None:
    assert [price(cents) for cents in (1250, 5, 100)] == ["$12.50", "$0.05", "$1.00"]


@pytest.fixture
def store() -> Store:
    return Store(catalogue(3), {"ann": "red12"})


def test_search_filters_and_sorts(store: Store) -> None:
    mugs = store.search("MUG", sort="price")
    assert mugs
    assert {p.category for p in mugs} == {"mug"}
    assert [p.cents for p in mugs] == sorted(p.cents for p in mugs)
    red = store.search(category="mug", colour="red")
    assert red == [p for p in store.search(category="mug") if p.colour == "red"]
    assert store.search("'; DROP TABLE products; --") == []
    assert len(store.search()) == 96


def test_an_order_takes_the_cart(store: Store) -> None:
    first, second = catalogue(3)[:2]
    store.put(first.id, 2)
    store.put(first.id, 1)
    store.put(second.id, 1)
    store.set(second.id, 0)
    assert store.cart == {first.id: 3}
    store.place("ann", "1 Oak Lane", "card")
    (order,) = store.orders
    assert (order.customer, order.address, order.payment) == ("ann", "1 Oak Lane", "card")
    assert (order.lines, order.cents, order.is_new, store.cart) == ({first.id: 3}, 3 * first.cents, True, {})


@pytest.mark.parametrize("kind", KINDS)
def test_no_goal_holds_at_the_beginning(kind: str) -> None:
    for seed in range(20):
        goal = make_goal(kind, seed)
        assert goal.text == make_goal(kind, seed).text
        assert not all(fact.holds(goal.store(), "") for fact in goal.facts)


def test_parts_of_a_goal_come_one_by_one() -> None:
    texts = [make_goal("buy", 5, progress) for progress in (0.25, 0.5, 0.75, 1.0)]
    assert [[fact.name for fact in goal.facts] for goal in texts] == [
        ["login"],
        ["login", "cart"],
        ["login", "cart", "address"],
        ["login", "cart", "address", "payment"],
    ]
    assert [goal.asks_order for goal in texts] == [False, False, True, True]
    assert texts[3].text.startswith(texts[0].text.removesuffix("."))


@pytest.mark.parametrize(("answer", "holds"), [("12", False), ("The total is $1", False), ("1 or 2", False)])
def test_a_wrong_answer_is_none(answer: str, holds: bool) -> None:
    goal = make_goal("find", 0)
    assert goal.facts[0].holds(goal.store(), answer) is holds


def test_an_answer_is_an_amount() -> None:
    goal = make_goal("find", 0)
    wanted = str(goal.facts[0].value)
    for answer in (wanted, f"It costs {wanted}.", wanted.removeprefix("$")):
        assert goal.facts[0].holds(goal.store(), answer)


def test_pages_belong_to_their_episode_and_survive_strange_forms() -> None:
    shop, first = ShopServer(), catalogue(3)[0]
    tokens = [shop.enter(Store(catalogue(3), {"ann": "red12"})) for _ in range(2)]

    async def visit() -> None:
        transport = httpx.ASGITransport(app(shop))
        clients = [
            httpx.AsyncClient(
                transport=transport, base_url="http://shop", cookies={COOKIE: token}, follow_redirects=True
            )
            for token in [*tokens, "another"]
        ]
        one, two, stranger = clients
        assert (await stranger.get("/")).status_code == 404
        for quantity in ("2", "-1", "x", "٣", "1e9", "9" * 5000, ""):
            page = await one.post("/cart/put", data={"product": str(first.id), "quantity": quantity})
            assert page.status_code == 200
        assert shop.stores[tokens[0]].cart == {first.id: 2}
        assert shop.stores[tokens[1]].cart == {}
        assert "Cart (2)" in (await one.get("/")).text
        assert "Cart (0)" in (await two.get("/")).text
        assert "do not match" in (await one.post("/login/send", data={"name": "ann", "password": "x"})).text
        assert "ann" in (await one.post("/login/send", data={"name": "ann", "password": "red12"})).text
        assert "<b>" not in (await one.get("/search", params={"q": "<b>"})).text
        sent = {"address": "<i>", "payment": "card"}
        assert "&lt;i&gt;" in (await one.post("/checkout/send", data=sent)).text
        assert [order.customer for order in shop.stores[tokens[0]].orders] == ["ann"]
        for client in clients:
            await client.aclose()

    asyncio.run(visit())
    shop.leave(tokens[0])
    shop.leave(tokens[0])
    assert list(shop.stores) == tokens[1:]
