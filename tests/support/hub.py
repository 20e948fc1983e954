"""The Hugging Face Hub as far as a download needs it, and its cache, both over files of this machine."""

import hashlib
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fill_cache(home: Path, repo: str, directory: Path) -> Path:
    """Put a copy of `directory` into the cache under `home` (HF_HOME), as the commit `COMMIT` and as `main`."""
    cached = home / "hub" / f"models--{repo.replace('/', '--')}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text(COMMIT)
    return Path(shutil.copytree(directory, cached / "snapshots" / COMMIT))


class FakeHub:
    """A Hub that serves directories as repositories at one commit, or answers everything with an error.

    Attributes:
        endpoint: its URL, for HF_ENDPOINT.
        requests: the path of each request, in order.
    """

    def __init__(self, repositories: dict[str, Path], status: int | None = None) -> None:
        self.requests: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                path = urlsplit(self.path).path
                hub.requests.append(path)
                content = None if status else hub.content_of(path)
                self.send_response(status or (200 if content is not None else 404))
                if content is not None:
                    self.send_header("X-Repo-Commit", COMMIT)
                    self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                    self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                if body:
                    self.wfile.write(content or b"")

            def log_message(self, *_: Any) -> None:
                pass

        self._repositories = repositories
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def content_of(self, path: str) -> bytes | None:
        """Return the answer to a request; None if there is no such thing."""
        for repo, directory in self._repositories.items():
            files = [file for file in directory.rglob("*") if file.is_file()]
            if path.startswith(f"/api/models/{repo}/tree/"):
                entries = [self._entry(file, directory) for file in files]
                return json.dumps(entries).encode()
            if path.startswith(f"/api/models/{repo}"):
                return json.dumps({"id": repo, "sha": COMMIT, "siblings": []}).encode()
            prefix = f"/{repo}/resolve/{COMMIT}/"
            if path.startswith(prefix) and (directory / path.removeprefix(prefix)).is_file():
                return (directory / path.removeprefix(prefix)).read_bytes()
        return None

    @property
    def downloaded(self) -> set[str]:
        """The files that were asked for, without the repository."""
        return {path.split(f"/resolve/{COMMIT}/")[1] for path in self.requests if "/resolve/" in path}

    @staticmethod
    def _entry(file: Path, directory: Path) -> dict[str, Any]:
        oid = hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
        path = file.relative_to(directory).as_posix()
        return {"type": "file", "path": path, "size": file.stat().st_size, "oid": oid}

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
