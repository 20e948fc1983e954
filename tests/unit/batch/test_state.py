"""The state of a batch: what it remembers, and that one process at a time works with it."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from diffedit import InvalidRequest
from diffedit.batch.state import DONE, FAILED, PENDING, BatchState, Entry, Pictures
from diffedit.errors import BatchInUse


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder/batch.sqlite"


def entry(state: BatchState, position: int) -> Entry:
    """Return the row at this position of the manifest."""
    (found,) = [each for each in state.entries() if each.position == position]
    return found


def register(state: BatchState, *digests: str) -> None:
    state.register((digest, position, f"{position}-{digest}.png") for position, digest in enumerate(digests, start=1))


def test_rows_are_remembered_and_equal_ones_are_told_apart(path: Path) -> None:
    with BatchState(path) as state:
        register(state, "a", "b", "a")
        keys = {state.idempotency_key(entry(state, position)) for position in (1, 2, 3)}
        state.done(entry(state, 3), "job", {"seconds": 1}, Pictures(b"1", b"2", b"3"))
        state.failed(entry(state, 2), None, "bad_picture", "no", {})
    with BatchState(path) as state:
        register(state, "a", "b", "a", "c")
        assert [entry(state, position).state for position in (1, 2, 3, 4)] == [PENDING, FAILED, DONE, PENDING]
        assert {state.idempotency_key(entry(state, position)) for position in (1, 2, 3)} == keys and len(keys) == 3
        assert state.pictures_of(entry(state, 3)) == Pictures(b"1", b"2", b"3")
        counts = state.counts()
        assert (counts.total, counts.pending, counts.done, counts.failed) == (4, 2, 1, 1)
        assert counts.codes == {"bad_picture": 1}


def test_rows_that_left_the_manifest_are_left_out(path: Path) -> None:
    with BatchState(path) as state:
        register(state, "a", "b")
        state.failed(entry(state, 2), None, "x", "y", {})
        register(state, "a")
        assert state.counts().total == 1 and state.retry_failed() == 0
        register(state, "a", "b")
        assert state.counts().failed == 1


def test_a_failed_row_is_tried_again_with_another_key(path: Path) -> None:
    with BatchState(path) as state:
        register(state, "a", "b")
        key = state.idempotency_key(entry(state, 1))
        state.failed(entry(state, 1), "job", "empty_mask", "no", {})
        assert state.retry_failed() == 1
        assert entry(state, 1).state == PENDING and state.idempotency_key(entry(state, 1)) != key


def test_two_results_of_one_name_are_refused_and_nothing_is_noted(path: Path) -> None:
    with BatchState(path) as state:
        register(state, "a")
        with pytest.raises(InvalidRequest, match="row 2 and row 1 have the same name"):
            state.register([("b", 1, "x.png"), ("c", 2, "X.png")])
        state.done(entry(state, 1), "job", {}, None)
        with pytest.raises(InvalidRequest, match="a row that is done, with other options"):
            state.register([("b", 1, "1-a.png")])
        assert [each.digest for each in state.entries()] == ["a"]


def test_a_row_without_a_result_that_left_the_manifest_needs_no_name(path: Path) -> None:
    with BatchState(path) as state:
        state.register([("a", 1, "x.png")])
        state.register([("b", 1, "x.png")])
        assert [each.digest for each in state.entries()] == ["b"]


def test_a_scratch_copy_changes_nothing(path: Path) -> None:
    with BatchState(path) as state:
        register(state, "a")
        with pytest.raises(BatchInUse):
            BatchState(path, scratch=True)
    with BatchState(path, scratch=True) as copy:
        register(copy, "a", "b")
        assert copy.counts().total == 2
    with BatchState(path) as state:
        assert [each.digest for each in state.entries()] == ["a"]
    with BatchState(path.with_name("none.sqlite"), scratch=True) as copy:
        register(copy, "a")
    assert not path.with_name("none.sqlite").exists()


def test_a_second_process_is_refused_until_the_first_one_is_killed(path: Path) -> None:
    code = "import sys, time; from diffedit.batch.state import BatchState; from pathlib import Path\n"
    code += "state = BatchState(Path(sys.argv[1])); state.register([('a', 1, 'a.png')]); print('open', flush=True)\n"
    code += "time.sleep(60)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(BatchInUse, match="another process"):
            BatchState(path)
        other.send_signal(signal.SIGKILL)
        other.wait()
    with BatchState(path) as state:
        register(state, "a")
        assert state.counts().total == 1


def test_what_is_no_state_is_refused(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.write_text("no database, and long enough to be seen as such" * 20)
    with pytest.raises(InvalidRequest, match="no state of a batch"):
        BatchState(path)
    with pytest.raises(InvalidRequest, match="batch"):
        BatchState(tmp_path / "folder/batch.sqlite/inside")


def test_a_state_of_a_newer_version_is_refused(path: Path) -> None:
    BatchState(path).close()
    with sqlite3.connect(path) as db:
        db.execute("update meta set value = '99' where name = 'format'")
    db.close()
    with pytest.raises(InvalidRequest, match="newer version"):
        BatchState(path)
