"""A proxy on the way to a server that fails, is slow and cuts off, as a seed says."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

__all__ = ["run_proxy"]


@contextmanager
def run_proxy(
    server: str,
    seed: int,
    *,
    failing: float = 0.1,
    cutting: float = 0.1,
    slow: float = 0.002,
    about: str = "",
) -> Iterator[str]:
    """Run a proxy in a thread, and give its endpoint.

    Of all requests the share ``failing`` is answered by 503, half of these before the server has
    seen them and half after; of the answers with a body the share ``cutting`` ends in its middle,
    of requests ``about`` some path.
    """
    chance = random.Random(seed)
    behind = urlsplit(server).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def forward(self) -> None:
            fate, moment = chance.random(), chance.random()
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            time.sleep(slow)
            if fate < failing / 2:
                self.fail()
                return
            connection = http.client.HTTPConnection(behind)
            headers = {name: value for name, value in self.headers.items() if name != "Connection"}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            if fate < failing:
                self.fail()
                return
            self.send_response(answer.status)
            size = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", size or "0")
            self.end_headers()
            cuts = moment < cutting and about in self.path
            if data and self.command == "GET" and cuts:
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
            elif self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward  # noqa: N815 - as the library calls them

        def fail(self) -> None:
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads = True
    thread = threading.Thread(target=proxy.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_address[1]}"
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
