"""A receiver of webhooks on this machine."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Receiver(http.server.ThreadingHTTPServer):
    """A receiver on this machine.

    Attributes:
        answers: the next answers: a status, or what it does with the connection.
        usual: the answer when there are no `answers` any more.
        requests: path, headers (in lower case) and body of all requests, whatever was answered.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hooks?a=1"
        self.answers: list[Answer] = []
        self.usual: Answer = 204
        self.requests: list[tuple[str, dict[str, str], bytes]] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver
    body: bytes
    """What was sent, once it is there."""

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): text for name, text in self.headers.items()}
        self.server.requests.append((self.path, headers, self.body))
        answer = self.server.answers.pop(0) if self.server.answers else self.server.usual
        if callable(answer):
            with suppress(OSError):
                answer(self)
            return
        self.send_response(answer)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


Answer = int | Callable[[Handler], None]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver."""
    with Receiver() as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()
