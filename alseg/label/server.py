"""The web application: who may come in, and what a request may do."""

import hmac
import ipaddress
import json
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from alseg.core.errors import UserError
from alseg.label.desk import Desk, new_token
from alseg.label.values import Refused

log = logging.getLogger(__name__)

#: Name of the cookie, with the port behind it: cookies of one name are shared between ports.
COOKIE = "alseg_label_{port}"
#: Names under which the loopback address is reached.
LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: Bytes of a request at most: the mask of a large image, run by run.
MOST_BYTES = 32 << 20
#: What the page consists of, and its media types. Nothing else is ever read from disk by name.
STATIC = {
    "page.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "view.js": "text/javascript; charset=utf-8",
    "paint.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


# A page that goes on by itself, not a redirection: a strict cookie is not sent where a link of
# another site leads, and after a redirection the whole way still counts as that link's.
_WELCOME = """<!doctype html><meta charset="utf-8"><title>alseg</title>
<link rel="icon" href="/icon.svg">
<meta http-equiv="refresh" content="0;url=/"><p><a href="/">Go on</a>
"""


class Door:
    """Links, and the cookies they were exchanged for.

    A link is good for one visit. When it is used the next one is announced, since a browser that
    is killed takes its cookie along.

    Args:
        annotators: Everybody who may come in, by name.
        announce: Told a name and the token of its next link.
    """

    def __init__(self, annotators: list[str], announce: Callable[[str, str], None]) -> None:
        self._announce = announce
        self._lock = threading.Lock()
        self._tokens = {name: new_token() for name in annotators}
        self._cookies: dict[str, str] = {}

    def token(self, name: str) -> str:
        """The token of the link that an annotator can use now."""
        return self._tokens[name]

    def exchange(self, token: str) -> str | None:
        """The cookie for a token, None for one that is not, or no longer, good."""
        with self._lock:
            for name, good in self._tokens.items():
                if hmac.compare_digest(good.encode(), token.encode()):
                    self._tokens[name] = new_token()
                    cookie = new_token()
                    self._cookies[cookie] = name
                    self._announce(name, self._tokens[name])
                    return cookie
        return None

    def name_of(self, cookie: str | None) -> str | None:
        """Whose cookie it is; None for nobody's."""
        given = (cookie or "").encode()
        with self._lock:
            for good, name in self._cookies.items():
                if hmac.compare_digest(good.encode(), given):
                    return name
        return None


class Office:
    """What is asked at the moment: a round's desk, or nothing while the run is at work.

    Attributes:
        desk: The desk of the round that waits.
        message: What the page says while there is none.
    """

    def __init__(self, desk: Desk | None = None, message: str = "") -> None:
        self.desk = desk
        self.message = message

    def open_desk(self, round: int | None = None) -> Desk:
        """The desk, where it is that of a certain round.

        Raises:
            Refused: If there is none, or that of another round.
        """
        desk = self.desk
        if desk is None or (round is not None and desk.round != round):
            raise Refused("this round is not asked now.", 404)
        return desk


class Guard:
    """Refuses what does not come from the page itself.

    Args:
        app: The application behind.
        host: The address the server listens on.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a refusal."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                return
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        reason = self._refusal(scope["method"], headers)
        if reason is not None:
            response = PlainTextResponse(reason[1], reason[0], headers=HEADERS)
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not is_own_name(host, self._host):
            return 421, "this server does not answer under that name"
        if method in ("GET", "HEAD"):
            return None
        if headers.get("origin") != f"http://{host}":
            return 403, "writes are taken from the page itself only"
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return 415, "writes are taken as application/json only"
        return None


def is_own_name(host: str, listens: str) -> bool:
    """Whether a Host header names this server.

    A page of somebody else can have its own name point to this machine, and would then count as the
    same site; only names nobody else can give are accepted. Addresses are such names.

    Args:
        host: The header, with or without a port.
        listens: The address the server listens on.

    >>> is_own_name("localhost:8000", "127.0.0.1"), is_own_name("evil.example", "127.0.0.1")
    (True, False)
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in LOOPBACK:
        return True
    if listens in LOOPBACK:
        return False
    if name in {listens.lower(), socket.gethostname().lower()}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def make_app(office: Office, door: Door, host: str = "127.0.0.1") -> ASGIApp:
    """The application.

    Args:
        office: What is asked.
        door: Who may come in.
        host: The address the server listens on.
    """
    folder = resources.files("alseg.label") / "static"
    files = {name: (folder / name).read_bytes() for name in STATIC}

    def file(name: str) -> Response:
        return Response(files[name], media_type=STATIC[name], headers={"Cache-Control": "no-store"})

    async def page(request: Request) -> Response:
        token = request.query_params.get("token")
        if token is not None and request.method == "GET":  # no preview of a link uses it up
            cookie = door.exchange(token)
            if cookie is not None:
                welcome = HTMLResponse(_WELCOME, headers={"Cache-Control": "no-store"})
                welcome.set_cookie(
                    cookie_of(request), cookie, httponly=True, samesite="strict", path="/"
                )
                return welcome
        if door.name_of(request.cookies.get(cookie_of(request))) is None:
            return PlainTextResponse(
                "This link was used already, or is not one of this server's. Open the last link "
                "that the program printed.",
                401,
            )
        return file("page.html") if token is None else RedirectResponse("/", 303)

    def static(name: str) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            return file(name)

        return serve

    def entered(
        work: Callable[[Request, str], Awaitable[Response]],
    ) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            name = door.name_of(request.cookies.get(cookie_of(request)))
            if name is None:
                return JSONResponse({"error": "open the last link that was printed."}, 401)
            try:
                return await work(request, name)
            except Refused as refusal:
                return JSONResponse({"error": str(refusal)}, refusal.status)
            except UserError as error:
                return JSONResponse({"error": str(error)}, 500)
            except OSError as error:
                log.error("cannot write answers: %s", error)
                text = f"the answer could not be written ({error.strerror}); it is not kept."
                return JSONResponse({"error": text}, 507)

        return serve

    def state_of(name: str) -> dict[str, Any]:
        desk = office.desk
        if desk is None:
            return {"round": None, "message": office.message, "annotator": name, "questions": []}
        return desk.state(name)

    async def about(request: Request, name: str) -> Response:
        desk = office.open_desk()
        return JSONResponse(await run_in_threadpool(desk.about))

    async def state(request: Request, name: str) -> Response:
        return JSONResponse(await run_in_threadpool(state_of, name))

    async def grid(request: Request, name: str) -> Response:
        return JSONResponse(await run_in_threadpool(office.open_desk().grid, name))

    def writing(
        work: Callable[[Desk, str, Mapping[str, Any]], None], replies: bool = True
    ) -> Callable[[Request, str], Awaitable[Response]]:
        async def serve(request: Request, name: str) -> Response:
            body = await _json(request)

            def do() -> dict[str, Any]:
                work(office.open_desk(), name, body)
                return state_of(name) if replies else {}

            return JSONResponse(await run_in_threadpool(do))

        return serve

    def picture(
        make: Callable[[Desk, int], tuple[bytes, str]],
    ) -> Callable[[Request, str], Awaitable[Response]]:
        async def serve(request: Request, name: str) -> Response:
            desk = office.open_desk(request.path_params["round"])
            content, media_type = await run_in_threadpool(make, desk, request.path_params["number"])
            headers = {"Cache-Control": "private, max-age=3600"}
            return Response(content, media_type=media_type, headers=headers)

        return serve

    routes = [Route("/", page), *(Route(f"/{name}", static(name)) for name in STATIC)]
    routes += [
        Route("/api/about", entered(about)),
        Route("/api/state", entered(state)),
        Route("/api/grid", entered(grid)),
    ]
    for path, work, replies in (
        ("answer", Desk.answer, True),
        ("undo", Desk.undo, True),
        ("draft", Desk.draft, False),
        ("finish", Desk.finish, True),
    ):
        routes.append(Route(f"/api/{path}", entered(writing(work, replies)), methods=["POST"]))
    for path, make in (("crop", _crop), ("overview", _overview), ("superpixels", _superpixels)):
        routes.append(Route(f"/{path}/{{round:int}}/{{number:int}}", entered(picture(make))))
    app = Starlette(routes=routes)
    return Guard(_WithHeaders(app), host)


def cookie_of(request: Request) -> str:
    """Name of the cookie of the server that a request goes to."""
    return COOKIE.format(port=request.url.port or 80)


def _crop(desk: Desk, row: int) -> tuple[bytes, str]:
    if row >= len(desk.session):
        raise Refused("there is no such question.", 404)
    return desk.pictures.crop_picture(row)


def _overview(desk: Desk, image: int) -> tuple[bytes, str]:
    if image not in desk.session.pictures:
        raise Refused("there is no such image.", 404)
    return desk.pictures.overview(image)


def _superpixels(desk: Desk, row: int) -> tuple[bytes, str]:
    if row >= len(desk.session) or desk.session.column != "masks":
        raise Refused("there is no such question.", 404)
    return desk.pictures.superpixels(row), "application/octet-stream"


async def _json(request: Request) -> dict[str, Any]:
    """The body of a request, an object.

    Raises:
        Refused: If it is too long or no JSON object.
    """
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise Refused("the request is too long.", 413)
        parts.append(part)
    try:
        body = json.loads(b"".join(parts), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused("the request is no JSON.", 400) from error
    if not isinstance(body, dict):
        raise Refused("the request is no JSON object.", 400)
    return body


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


class _WithHeaders:
    """Adds `HEADERS` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Any) -> None:
            if message["type"] == "http.response.start":
                more = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app(scope, receive, add)
