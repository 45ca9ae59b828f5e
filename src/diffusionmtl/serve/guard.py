"""What stands before every page and answer: who may ask, how much may be sent, and that nothing is loaded elsewhere."""

import json
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# A sender who is told to stop while sending often never reads why: that much is thrown away as it comes, then no more.
_DRAINED = 20
_SAFE = ("GET", "HEAD", "OPTIONS")
# The page of Gradio needs its own inline scripts, and makes workers and functions from text.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class Guard:
    """An ASGI application around another one.

    Args:
        size: bytes that may be sent, as whoever started the server said it (`--max-mb`); more is answered with 413.
        names: what the server may be called by; others are answered with 403, since a page of a stranger can reach a
            server on this machine by a name of its own. None: any.
        spare: bytes that a body may have beside the file.
    """

    def __init__(self, app: ASGIApp, size: int, names: frozenset[str] | None = None, spare: int = 0) -> None:
        self.app, self.size, self.names, self.spare = app, size, names, spare

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._stranger(scope["method"], headers)
        declared = headers.get(b"content-length", "")
        if refusal:
            await _refuse(send, 403, refusal)
        elif declared.isdigit() and int(declared) > self.size + self.spare:
            await self._drain(receive)
            await _refuse(send, 413, self._too_large())
        else:
            await self.app(scope, self._counted(receive), _with_headers(send))

    def _stranger(self, method: str, headers: dict[bytes, str]) -> str:
        """Why a request is not for us; empty if it is."""
        host = headers.get(b"host", "")
        if self.names is not None and _host_name(f"//{host}") not in self.names:
            known = ", ".join(sorted(self.names))
            return f"'{host[:60]}' is not a name of this server ({known}); start it with --names to add one"
        origin = headers.get(b"origin")
        if method not in _SAFE and origin is not None and urlsplit(origin).netloc != host:
            return "a page of another site may not ask this server"
        return ""

    def _too_large(self) -> str:
        return f"more than {self.size / 1e6:g} MB, the limit of this server (--max-mb); send a smaller file"

    async def _drain(self, receive: Receive) -> None:
        left = _DRAINED * self.size
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body", False):
                return

    def _counted(self, receive: Receive) -> Receive:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.size + self.spare:
                raise HTTPException(413, self._too_large())
            return message

        return counted


def _host_name(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").lower()
    except ValueError:
        return ""


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_HEADERS]
        await send(message)

    return sent


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps({"detail": message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *_HEADERS,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
