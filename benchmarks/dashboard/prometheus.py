"""Debian's Prometheus, which scrapes the workers and the exporter of one stack."""

import json
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import yaml

from benchmarks.harness.waiting import wait_until
from diffedit_worker.local.stack import LocalServices

RULES = Path(__file__).parents[2] / "deploy/prometheus/rules.yaml"
SCRAPE_INTERVAL = 2
"""Seconds. Workers of a chaos run live for seconds, not for days."""
METRICS = {"DIFFEDIT_METRICS_PORT": "0", "DIFFEDIT_METRICS_HOST": "127.0.0.1"}
"""Variables of the workers: each takes a free port and logs it. 0.2.0 does not know them."""
_SERVING = re.compile(r"serving .*/metrics.* on port (\d+)")


class Prometheus:
    """A Prometheus server with our rules. It finds its targets in the logs of a stack.

    Attributes:
        url: where it answers.
    """

    def __init__(self, directory: Path) -> None:
        """Raises FileNotFoundError if Prometheus is not installed: apt-get install prometheus."""
        program = shutil.which("prometheus")
        if program is None:
            raise FileNotFoundError("prometheus is missing; apt-get install --no-install-recommends prometheus")
        self._directory = directory
        self._done = threading.Event()
        self._threads: list[threading.Thread] = []
        directory.mkdir(parents=True)
        shutil.copy(RULES, directory / "rules.yaml")
        self._targets({})
        (directory / "prometheus.yaml").write_text(yaml.safe_dump(_configuration()))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{address}"
        options = ["--config.file=prometheus.yaml", "--storage.tsdb.path=data", f"--web.listen-address={address}"]
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen([program, *options], cwd=directory, stdout=log, stderr=log)

    def __enter__(self) -> Self:
        if not wait_until(self._is_ready, 30):
            self.__exit__(None, None, None)
            raise TimeoutError(f"Prometheus does not start; see {self._directory / 'log'}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
        self._process.terminate()
        self._process.wait()

    def watch(self, stack: LocalServices) -> None:
        """Start an exporter beside a stack, and scrape it and all workers that are started from now on."""
        stack.environment |= METRICS
        stack.start_program("exporter", "exporter", "--host", "127.0.0.1", "--port", "0")
        thread = threading.Thread(target=self._follow, args=(stack.directory / "logs",), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _follow(self, logs: Path) -> None:
        known: dict[str, set[str]] = {}
        while not self._done.wait(1):
            found = {log.stem: set(_SERVING.findall(log.read_text(errors="replace"))) for log in logs.glob("*.log")}
            if found != known:
                known = found
                self._targets(found)

    def _targets(self, ports: dict[str, set[str]]) -> None:
        """Write the targets. Ports of earlier processes stay in the list; nobody answers there."""
        groups = [
            {"targets": [f"127.0.0.1:{port}" for port in sorted(each)], "labels": {"pod": name}}
            for name, each in sorted(ports.items())
            if each
        ]
        new = self._directory / "new-targets.json"
        new.write_text(json.dumps(groups))
        new.replace(self._directory / "targets.json")

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=5).is_success
        except httpx.HTTPError:
            return False


def _configuration() -> dict[str, object]:
    return {
        "global": {"scrape_interval": f"{SCRAPE_INTERVAL}s", "evaluation_interval": f"{SCRAPE_INTERVAL}s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {"job_name": "diffedit", "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "2s"}]}
        ],
    }
