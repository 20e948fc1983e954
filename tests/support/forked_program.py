"""The process from which `worker_template.py` forks workers. It is run as a script, with a socket as its stdin.

It imports what a worker imports, and does nothing else: it has one thread, opens no connection and touches no device.
Each request makes a child that becomes what a new interpreter would be. The program then runs in that child.
"""

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def serve(requests: socket.socket) -> str:
    """Fork a child for each request until the tests end. Returns only in a child: the code of its program."""
    wakeup, woken = socket.socketpair()
    for end in (wakeup, woken):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken.fileno())
    statuses: dict[int, int] = {}
    while True:
        for ready in select.select([requests, wakeup], [], [])[0]:
            if ready is wakeup:
                wakeup.recv(4096)
                _report_ended(statuses)
                continue
            message, descriptors, *_ = socket.recv_fds(requests, 1 << 20, 4)
            if not message:
                sys.exit()
            *streams, status = descriptors
            template = os.getpid()
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                for each in (wakeup, woken, requests):
                    each.close()
                for each in (status, *statuses.values()):
                    os.close(each)
                return _become(json.loads(message), streams, template)
            statuses[pid] = status
            for each in streams:
                os.close(each)
            requests.sendall(pid.to_bytes(4, "big"))


def _report_ended(statuses: dict[int, int]) -> None:
    """Write the exit status of each child that has ended to the pipe that came with its request."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            status = statuses.pop(ended[0])
            with suppress(BrokenPipeError):
                os.write(status, os.waitstatus_to_exitcode(ended[1]).to_bytes(4, "big", signed=True))
            os.close(status)


def _become(program: dict[str, Any], streams: list[int], template: int) -> str:
    os.setsid()
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != template:
        os._exit(1)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(program["environment"])
    sys.argv = ["-c", *program["arguments"]]
    return str(program["code"])


if __name__ == "__main__":
    import diffedit_worker.local.commands
    import diffedit_worker.pipeline
    import diffedit_worker.runtime.runner
    import diffedit_worker.worker_command  # noqa: F401
    from diffedit.cli import app  # noqa: F401

    _requests = socket.socket(fileno=os.dup(0))
    assert len(os.listdir("/proc/self/task")) == 1, "a child would lack the other threads"
    gc.freeze()
    exec(serve(_requests), {"__name__": "__main__"})  # noqa: S102 # the program of the child
