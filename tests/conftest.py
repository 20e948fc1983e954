"""For all tests, and for the processes that they start."""

import os
import signal

# One torch thread a process: on a small machine the threads of several would mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where a test asks for two, the one that is ready sleeps. By default it would keep a core busy that the other needs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# One job a worker, so that a test knows which worker is busy. Tests of several jobs a worker say so.
os.environ.setdefault("DIFFEDIT_BATCH_JOBS", "1")

# A shell that runs the tests in the background has them ignore Ctrl-C, and so would every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
