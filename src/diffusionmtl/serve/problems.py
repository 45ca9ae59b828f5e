"""What a program is told that gets no answer: a status and one line in `detail`, whoever found the mistake."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from diffusionmtl.errors import nearest
from diffusionmtl.serve.limits import Refused
from diffusionmtl.serve.schemas import Problem

IMAGE = "image"
_FORM = f"send a form with the picture as a file in the field {IMAGE}"
_NO_FORM = 400
# What FastAPI says of such a body if nobody knows why.
_UNREAD = "There was an error parsing the body"
_BUSY_SECONDS = 5
# What RFC 6455 has for a server that takes no such connection.
_NO_SOCKET = 1003
_SHOWN = 40
PROBLEMS: dict[int | str, dict[str, Any]] = {
    _NO_FORM: {"model": Problem, "description": "The body is no form."},
    403: {"model": Problem, "description": "Asked by another name, or by the page of another site."},
    413: {"model": Problem, "description": "Too many bytes, or too many pixels."},
    415: {"model": Problem, "description": "Not a readable image."},
    422: {"model": Problem, "description": "A number out of range, an unknown name, or no image in the form."},
    500: {"model": Problem, "description": "A mistake of the server."},
    503: {"model": Problem, "description": "Too many are waiting, or there is not enough memory."},
    504: {"model": Problem, "description": "It took too long."},
}
"""What a request may be answered with instead, for OpenAPI."""


def add_problems(app: FastAPI, expected: dict[str, str]) -> None:
    """Let an application answer whatever goes wrong in one form.

    Args:
        expected: by the name of each parameter in the query, what it must be.
    """

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return _answer(422, "; ".join(dict.fromkeys(_lines(error, expected))))

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _by_status)
    app.add_exception_handler(Exception, _mistake)


def add_unknown_addresses(app: FastAPI) -> None:
    """Let an application that has all its routes answer for the rest below `/api` too: 404, or 405 for other methods.

    What is mounted on it later would otherwise answer there, with pages.
    """
    known: dict[str, list[str]] = {}
    for route in app.routes:
        if isinstance(route, Route):
            # Whoever may GET may ask for the headers alone only where the route says so.
            known.setdefault(route.path, []).extend(sorted(route.methods or ()))
    unknown = _Unknown(known)
    # Both, since a mount below /api is not asked for /api itself.
    app.router.routes += [Mount("/api", unknown), Route("/api", unknown)]


class _Unknown:
    """Answers what no route does. A class, for a route hands every method to one, but to a plain function GET alone."""

    def __init__(self, known: Mapping[str, list[str]]) -> None:
        self.known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": _NO_SOCKET})
            return
        path = str(scope["path"])
        if methods := self.known.get(path):
            said = f"{_short(path)} takes {' or '.join(methods)}, not {_short(scope['method'])}"
            answer = _answer(405, said, {"allow": ", ".join(methods)})
        else:
            listed = _listed([f"{methods[0]} {path}" for path, methods in self.known.items()])
            answer = _answer(404, f"{_short(path)}: no such address; there are {listed}.{nearest(path, self.known)}")
        await answer(scope, receive, send)


async def check_names(request: Request, query: Iterable[str]) -> None:
    """Nothing that was sent is passed over: a parameter that nobody reads is a mistake of its sender.

    Raises:
        Refused: a name that is not known, or that stands there twice.
    """
    for kind, sent, known in (
        ("query", request.query_params.multi_items(), list(query)),
        ("form", (await request.form()).multi_items(), [IMAGE]),
    ):
        for name, times in Counter(name for name, _ in sent).items():
            if name not in known:
                raise Refused(
                    422, f"{_short(name)}: no such name; the {kind} takes {_listed(known)}.{nearest(name, known)}"
                )
            if times > 1:
                what = "picture a request" if name == IMAGE else "of them"
                raise Refused(422, f"{name} is there {times} times; send one {what}")


def _lines(error: RequestValidationError, expected: dict[str, str]) -> Iterable[str]:
    for found in error.errors():
        place, *rest = found["loc"]
        if place != "body":
            name = str(rest[0]) if rest else str(place)
            yield f"{name} must be {expected[name]}" if name in expected else f"{name}: {found['msg']}"
            continue
        others = [name for name in getattr(error.body, "keys", list)() if name != IMAGE]
        yield f"{_FORM}, not in {_short(others[0])}" if others else _FORM


def _listed(known: list[str]) -> str:
    return known[0] if len(known) == 1 else f"{', '.join(known[:-1])} and {known[-1]}"


def _short(name: object) -> str:
    """A name from outside as it may stand in a message."""
    return "".join(c for c in str(name) if c.isprintable())[:_SHOWN] or "(empty)"


def _answer(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status_code=status, headers=headers)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return _answer(error.status, str(error), {"retry-after": str(_BUSY_SECONDS)} if error.status == 503 else None)


async def _by_status(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    said = " ".join(str(error.detail).split())
    if error.status_code == _NO_FORM:
        why = "" if said == _UNREAD else f" ({said.rstrip('.')})"
        said = f"the body is no form that can be read{why}; {_FORM}"
    return _answer(error.status_code, said, None if error.headers is None else dict(error.headers))


async def _mistake(request: Request, error: Exception) -> JSONResponse:
    return _answer(500, "a mistake of the server; whoever runs it finds in its terminal what went wrong")
