"""For all tests: one torch thread a process, here and in the workers that tests start. On a small, shared machine the
threads of several processes would wait for each other for most of their time."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
