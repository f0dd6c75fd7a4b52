"""A tracking server's answers, bounded in size and time: whatever comes would be waited for and kept."""

import time
from typing import Any

from requests import ConnectionError, PreparedRequest, Response
from requests.adapters import HTTPAdapter

MOST_BYTES = 2**27
MOST_SECONDS = 60.0
PART = 2**16


class Bounded(HTTPAdapter):
    """Before another way to send requests: raises ConnectionError at an answer that is too long or too slow."""

    def send(self, request: PreparedRequest, stream: bool = False, *rest: Any, **options: Any) -> Response:
        """See HTTPAdapter."""
        response: Response = super().send(request, stream, *rest, **options)
        deadline = time.monotonic() + MOST_SECONDS
        if not stream:  # else whoever asked reads it in parts
            content = bytearray()
            while part := response.raw.read1(PART, decode_content=True):
                content += part
                if len(content) > MOST_BYTES or time.monotonic() > deadline:
                    response.close()
                    raise ConnectionError(f"its answer is longer than {MOST_BYTES} bytes or {MOST_SECONDS:g} s")
            response._content, response._content_consumed = bytes(content), True
            response.encoding = response.encoding or "utf-8"  # to guess one takes minutes
            response.raw.release_conn()
        return response


def bound(sessions: Any) -> None:
    """Has MLflow's sessions, which this module of its makes and keeps to itself, bound the answers they wait for."""
    if not issubclass(sessions.TCPKeepAliveHTTPAdapter, Bounded):
        sessions.TCPKeepAliveHTTPAdapter = type("BoundedAdapter", (Bounded, sessions.TCPKeepAliveHTTPAdapter), {})
