"""The server of the pages, on this machine's loopback interface.

A request needs three things. Its Host header is this server's own, so that a web page cannot reach it under another
name (DNS rebinding). Its path begins with the token, which only the user has. Its method is GET or HEAD. There is no
cookie: those of 127.0.0.1 would be sent to every other server on this machine, too.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote

from processing.cli.ui.page import POLICY
from processing.cli.ui.pages import PageNotFoundError, Pages
from processing.exceptions import ProcessingError
from processing.local.protocols.message import Response
from processing.local.transports.connection import printable
from processing.local.transports.server import HttpServer

if TYPE_CHECKING:
    from processing.local.protocols.http1 import RequestHead
    from processing.local.protocols.message import Request
    from processing.local.session import LocalSession
    from processing.local.transports.connection import RequestBody

logger = logging.getLogger(__name__)

_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ASK: Final = "Open the address that processing local ui has printed: it has a token."
_MOST_QUERY: Final = 10  # fields


class UiServer(HttpServer):
    """The server of the pages of an engine.

    Args:
        session: the session of the engine.
        port: the port on 127.0.0.1, or 0 for a free one.

    Raises:
        OSError: the port is in use.

    Attributes:
        url: the address of the first page, with the token.
    """

    def __init__(self, session: LocalSession, *, port: int = 0) -> None:
        super().__init__(port=port)
        self._token = secrets.token_urlsafe(24)
        self._hosts = {self.endpoint.removeprefix("http://"), self.endpoint.replace("http://127.0.0.1", "localhost")}
        self._pages = Pages(session, str(session.home), f"/{self._token}/")
        self.url = f"{self.endpoint}/{self._token}/"

    def respond(self, request: Request, head: RequestHead, body: RequestBody, request_id: str) -> Response:  # noqa: ARG002 - a body is never read
        """Return a page, or the reason why there is none."""
        if request.host.lower() not in self._hosts:
            return _text(403, "This server has another name.")
        token, *path = unquote(request.path.removeprefix("/"), errors="replace").split("/")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return _text(403, _ASK)
        if request.method not in {"GET", "HEAD"}:
            return _text(405, "These pages only read.", Allow="GET, HEAD")
        try:
            return _page(200, self._pages.at(path, _fields(request.query)), request)
        except PageNotFoundError as error:
            return _page(404, self._pages.not_found(str(error)), request)
        except Exception as error:  # noqa: BLE001 - the page has the reason, and the server goes on
            return self._failure(request, error)

    def _failure(self, request: Request, error: Exception) -> Response:
        from botocore.exceptions import ClientError

        if isinstance(error, ClientError):  # such as a token of another engine
            return _page(400, self._pages.not_found(str(error)), request)
        if not isinstance(error, ProcessingError):
            logger.error("%s %s failed", request.method, printable(request.path), exc_info=error)
            return _text(500, "The page failed; the terminal of processing local ui has the reason.")
        return _page(503, self._pages.not_found(str(error)), request)


def _fields(query: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(query, max_num_fields=_MOST_QUERY, errors="replace"))
    except ValueError:
        raise PageNotFoundError("The address has too many fields.") from None


def _page(status: int, text: str, request: Request) -> Response:
    """Return a page; or nothing but its version if the browser has it already."""
    body = text.encode()
    version = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": version}
    if status == 200 and request.headers.get("if-none-match") == version:
        return Response(304, headers, b"")
    headers |= {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body))}
    return Response(status, headers, body)


def _text(status: int, text: str, **headers: str) -> Response:
    body = f"{text}\n".encode()
    about = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
    return Response(status, {**_HEADERS, **about, **headers}, body)
