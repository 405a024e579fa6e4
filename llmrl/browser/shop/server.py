"""Web server of the shop: pages of one episode's store, chosen by a cookie that only the environment sets."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from llmrl.browser.shop import views
from llmrl.browser.shop.store import PAYMENTS, Store

COOKIE = "episode"
MOST = 99  # pieces of a product in a cart
START_S = 20.0


class ShopServer:
    """A server on loopback for the stores of all open episodes."""

    def __init__(self) -> None:
        self.stores: dict[str, Store] = {}
        self.address = ""  # host and port, once it has started
        self._owner = os.getpid()
        self._serving: asyncio.Task[None] | None = None

    @property
    def is_ours(self) -> bool:
        """False in a fork, in which nothing serves."""
        return self._owner == os.getpid()

    def enter(self, store: Store) -> str:
        """Open a store; return the cookie's value by which its pages are found."""
        token = secrets.token_hex(8)
        self.stores[token] = store
        return token

    def leave(self, token: str) -> None:
        """Close a store; safe to call twice."""
        store = self.stores.pop(token, None)
        if store is not None:
            store.close()

    async def start(self) -> None:
        """Serve on the running loop until it ends; safe to call twice."""
        import uvicorn

        if self._serving is None:
            listening = socket.create_server(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{listening.getsockname()[1]}"
            config = uvicorn.Config(app(self), log_level="critical", access_log=False, lifespan="off")
            self._server = uvicorn.Server(config)
            self._serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[listening]))
        async with asyncio.timeout(START_S):
            while not self._server.started:
                await asyncio.sleep(0.01)


_server: ShopServer | None = None


async def server() -> ShopServer:
    """The running server of this process; called on the browser's loop."""
    global _server
    if _server is None or not _server.is_ours:
        _server = ShopServer()
    await _server.start()
    return _server


Page = Callable[[Store, Request, dict[str, str]], Response | str]


def app(shop: ShopServer) -> Starlette:
    """The shop's pages."""

    def route(path: str, page: Page, *methods: str) -> Route:
        async def endpoint(request: Request) -> Response:
            store = shop.stores.get(request.cookies.get(COOKIE, ""))
            if store is None:
                return HTMLResponse("no such episode", status_code=404)
            sent = parse_qs((await request.body())[:10_000].decode(errors="replace"), keep_blank_values=True)
            answer = page(store, request, {key: values[0].strip() for key, values in sent.items()})
            return HTMLResponse(answer) if isinstance(answer, str) else answer

        return Route(path, endpoint, methods=list(methods or ["GET"]))

    return Starlette(
        routes=[
            route("/", lambda store, request, sent: views.home(store)),
            route("/search", _search),
            route("/product/{id:int}", _product),
            route("/cart", lambda store, request, sent: views.cart(store)),
            route("/cart/put", _put, "POST"),
            route("/cart/set", _set, "POST"),
            route("/login", lambda store, request, sent: views.login(store)),
            route("/login/send", _login, "POST"),
            route("/logout", _logout, "POST"),
            route("/checkout", lambda store, request, sent: views.checkout(store)),
            route("/checkout/send", _order, "POST"),
            route("/orders", lambda store, request, sent: views.orders(store)),
        ]
    )


def _to(path: str) -> Response:
    return RedirectResponse(path, status_code=303)


def _number(text: str) -> int:
    """A quantity or an id as a field has it; -1 where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else -1


def _search(store: Store, request: Request, sent: dict[str, str]) -> str:
    asked = request.query_params
    return views.results(
        store, asked.get("q", ""), asked.get("category", ""), asked.get("colour", ""), asked.get("sort", "name")
    )


def _product(store: Store, request: Request, sent: dict[str, str]) -> Response | str:
    product = store.product(request.path_params["id"])
    return views.product(store, product) if product else _to("/")


def _put(store: Store, request: Request, sent: dict[str, str]) -> Response:
    quantity = _number(sent.get("quantity", "1"))
    product = store.product(_number(sent.get("product", "")))
    if product and quantity > 0:
        store.put(product.id, min(quantity, MOST))
    return _to("/cart")


def _set(store: Store, request: Request, sent: dict[str, str]) -> Response:
    quantity = _number(sent.get("quantity", "0"))
    product = store.product(_number(sent.get("product", "")))
    if product and quantity >= 0:
        store.set(product.id, min(quantity, MOST))
    return _to("/cart")


def _login(store: Store, request: Request, sent: dict[str, str]) -> Response | str:
    if store.log_in(sent.get("name", ""), sent.get("password", "")):
        return _to("/")
    return views.login(store, "Name and password do not match.")


def _logout(store: Store, request: Request, sent: dict[str, str]) -> Response:
    store.log_out()
    return _to("/")


def _order(store: Store, request: Request, sent: dict[str, str]) -> Response | str:
    address, payment = sent.get("address", ""), sent.get("payment", "")
    if not store.customer or not store.cart:
        return _to("/checkout")
    if not address or payment not in PAYMENTS:
        return views.checkout(store, "An address and a way to pay are needed.")
    store.place(store.customer, address, payment)
    return _to("/orders")
