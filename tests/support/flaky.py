"""A network that fails: a proxy before a tracking server on this machine."""

import http.client
import http.server
import itertools
import socket
import threading
import time
from contextlib import suppress

WAYS = ("no answer", "error", "answer lost", "slow")


class Handler(http.server.BaseHTTPRequestHandler):
    server: "Flaky"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        way = self.server.way()
        if way == "slow":
            time.sleep(self.server.seconds)
        with suppress(OSError, http.client.HTTPException):  # of a server that is away, or a client that has given up
            if way == "error":
                self.send_error(503)
            elif way != "no answer":
                status, kind, content = self._ask(body)
                if way != "answer lost":
                    self.send_response(status)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _ask(self, body: bytes) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=60)
        try:
            named = {"Content-Type": self.headers.get("Content-Type", "application/json")}
            connection.request(self.command, self.path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type", ""), answer.read()
        finally:
            connection.close()

    def log_message(self, *_: object) -> None:
        pass


class Flaky(http.server.ThreadingHTTPServer):
    """Passes all calls on to a port; while it is ``bad`` every third fails or is slow, each time in another way."""

    daemon_threads = True

    def __init__(self, target: int, seconds: float = 9.0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.target, self.seconds, self.bad = target, seconds, False
        self.uri, self.calls, self._ways = f"http://127.0.0.1:{self.server_port}", 0, itertools.cycle(WAYS)
        self._lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def way(self) -> str | None:
        """How the call that comes now fails, None where it does not."""
        with self._lock:
            self.calls += 1
            return next(self._ways) if self.bad and self.calls % 3 == 0 else None

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        pass
