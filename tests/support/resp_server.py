"""A server that speaks Redis's protocol and answers what a test tells it to."""

import socketserver
import threading
from collections.abc import Callable
from typing import Self


class RespServer(socketserver.ThreadingTCPServer):
    """Attributes:
    answer: makes the answer to a command, in Redis's protocol, from the command's words.
    commands: the names of all commands so far.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Callable[[list[bytes]], bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.answer = answer
        self.commands: list[bytes] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Conversation(socketserver.StreamRequestHandler):
    server: RespServer

    def handle(self) -> None:
        while head := self.rfile.readline():
            words = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]
            self.server.commands.append(words[0])
            self.wfile.write(self.server.answer(words))
