"""What a batch has done so far, in an SQLite file: it is what a command that was killed goes on from.

A row is known by the hash of what it asks for, and by its number among equal rows. Its job has an idempotency key that
is made from both, so that the job is the same one in every run.
"""

import json
import secrets
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from diffedit.errors import BatchInUse, InvalidRequest

FORMAT = "1"
_SCHEMA = """
create table if not exists meta (name text primary key, value text not null);
create table if not exists rows (
    digest text not null, occurrence integer not null, position integer not null, name text not null collate nocase,
    seen integer not null, state text not null default 'pending', attempt integer not null default 0,
    job text, code text, message text, summary text,
    primary key (digest, occurrence)
) without rowid;
create unique index if not exists names on rows (name);
create index if not exists positions on rows (seen, position);
create table if not exists pictures (
    digest text not null, occurrence integer not null, before blob, mask blob, after blob,
    primary key (digest, occurrence)
);
create temp table if not exists read (
    digest text not null, occurrence integer not null, primary key (digest, occurrence)
);
"""
PENDING, DONE, FAILED = "pending", "done", "failed"


class Entry(NamedTuple):
    """What is known of a row.

    Attributes:
        digest, occurrence: the hash of what it asks for, and its number among equal rows, from 1.
        position: its number in the manifest, from 1.
        name: the name of its result.
        state: "pending", "done" or "failed".
        attempt: how often it was asked to be tried again.
        job: the id of its job, once it has ended.
        code, message: why it failed.
        summary: what the report shows of it: texts, scores, seconds.
    """

    digest: str
    occurrence: int
    position: int
    name: str
    state: str
    attempt: int
    job: str | None
    code: str | None
    message: str | None
    summary: dict[str, Any]


@dataclass(frozen=True)
class Pictures:
    """The small pictures of a row, WebP files: before, mask, after. Empty if there is none."""

    before: bytes = b""
    mask: bytes = b""
    after: bytes = b""


@dataclass
class Counts:
    """How many rows of the manifest are in which state.

    Attributes:
        codes: the failed ones by error code.
    """

    total: int = 0
    pending: int = 0
    done: int = 0
    failed: int = 0
    codes: dict[str, int] = field(default_factory=dict)


class BatchState:
    """The state of a batch. One process at a time has it open. For the thread that opened it."""

    def __init__(self, path: Path, *, scratch: bool = False) -> None:
        """Open the file, or make it. With `scratch`, nothing is written: changes are made to a copy in memory.

        Raises:
            BatchInUse: another process has it open.
            InvalidRequest: it is no such file, or cannot be written.
        """
        self.path = path
        try:
            if not scratch:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _copy_of(path) if scratch else sqlite3.connect(path, timeout=0, isolation_level=None)
            # The lock is held until the connection is closed, or the process is killed.
            self._db.execute("pragma locking_mode = exclusive")
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")
            self._db.execute("begin immediate")
            self._db.execute("commit")
            self._db.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise BatchInUse(str(path)) from None
            raise InvalidRequest(f"{path}: the state of the batch cannot be written: {error}") from error
        except (sqlite3.DatabaseError, OSError) as error:
            raise InvalidRequest(f"{path}: this is no state of a batch: {error}; give another --state") from error
        self._seen = int(self._meta("seen", "0"))
        if self._meta("format", FORMAT) != FORMAT:
            raise InvalidRequest(
                f"{path}: a newer version has written it; upgrade this program, or give another --state"
            )
        self.id = self._meta("id", secrets.token_hex(8))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def register(self, rows: Iterable[tuple[str, int, str]]) -> None:
        """Note all rows of the manifest: digest, position and name of the result of each.

        Rows that are known keep their state. Rows that are not in the manifest any more are left out of everything.

        Raises:
            InvalidRequest: two rows have the same name.
        """
        seen = self._seen + 1
        self._db.execute("begin")
        try:
            self._db.execute("delete from read")
            for digest, position, name in rows:
                self._register(digest, position, name, seen)
            self._db.execute("update meta set value = ? where name = 'seen'", [seen])
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")
        self._seen = seen

    def _register(self, digest: str, position: int, name: str, seen: int) -> None:
        (before,) = self._db.execute("select max(occurrence) from read where digest = ?", [digest]).fetchone()
        occurrence = (before or 0) + 1
        self._db.execute("insert into read values (?, ?)", [digest, occurrence])
        # Rows of earlier runs that have no result, and are not in the manifest any more, need no name.
        self._db.execute(
            "delete from rows where name = ? and seen < ? and state != 'done' and not (digest = ? and occurrence = ?)",
            [name, seen, digest, occurrence],
        )
        try:
            self._db.execute(
                "insert into rows (digest, occurrence, position, name, seen) values (?, ?, ?, ?, ?)"
                " on conflict (digest, occurrence) do update set position = excluded.position, seen = excluded.seen,"
                " name = case state when 'pending' then excluded.name else name end",
                [digest, occurrence, position, name, seen],
            )
        except sqlite3.IntegrityError:
            query = "select position, seen from rows where name = ?"
            other, seen_then = self._db.execute(query, [name]).fetchone()
            whose = f"row {other}" if seen_then == seen else "a row that is done, with other options,"
            raise InvalidRequest(
                f"row {position} and {whose} have the same name for their result, {name}; "
                "give a --name with {index} or {digest}, or another --out"
            ) from None

    def retry_failed(self) -> int:
        """Let the failed rows be tried again, with new jobs. Return how many there are."""
        return self._db.execute(
            "update rows set state = 'pending', attempt = attempt + 1, code = null, message = null"
            " where seen = ? and state = 'failed'",
            [self._seen],
        ).rowcount

    def counts(self) -> Counts:
        counts, query = Counts(), "select state, code, count(*) from rows where seen = ? group by state, code"
        for state, code, number in self._db.execute(query, [self._seen]):
            counts.total += number
            setattr(counts, state, getattr(counts, state) + number)
            if state == FAILED:
                counts.codes[code] = number
        return counts

    def find(self, digest: str, occurrence: int) -> Entry | None:
        """Return what is known of a row of the manifest; None if it was not there when the rows were noted."""
        return next(self._entries("and digest = ? and occurrence = ?", digest, occurrence), None)

    def repeated(self) -> set[str]:
        """Return the hashes that several rows have."""
        query = "select distinct digest from rows where seen = ? and occurrence > 1"
        return {digest for (digest,) in self._db.execute(query, [self._seen])}

    def entries(
        self, states: Iterable[str] = (PENDING, DONE, FAILED), first: int = 1, last: int | None = None
    ) -> Iterator[Entry]:
        """Yield what is known of the rows in these states, in the order of the manifest, from position to position."""
        names = list(states)
        condition = f"and state in ({', '.join('?' * len(names))}) and position between ? and ? order by position"
        yield from self._entries(condition, *names, first, sys.maxsize if last is None else last)

    def failed_per(self, rows: int) -> dict[int, int]:
        """Return how many rows failed in each part of so many rows of the manifest, by the part's number, from 0."""
        query = "select (position - 1) / ?, count(*) from rows where seen = ? and state = ? group by 1"
        return dict(self._db.execute(query, [rows, self._seen, FAILED]).fetchall())

    def idempotency_key(self, entry: Entry) -> str:
        """Return the key of the row's job."""
        return f"batch-{self.id}-{entry.digest}-{entry.occurrence}-{entry.attempt}"

    def done(self, entry: Entry, job: str, summary: dict[str, Any], pictures: Pictures | None) -> None:
        """Note that the result of a row is written."""
        if pictures:
            self._db.execute(
                "insert or replace into pictures values (?, ?, ?, ?, ?)",
                [entry.digest, entry.occurrence, pictures.before, pictures.mask, pictures.after],
            )
        self._set(entry, DONE, job, None, None, summary)

    def failed(self, entry: Entry, job: str | None, code: str, message: str, summary: dict[str, Any]) -> None:
        """Note that a row was refused, or that its job did not succeed."""
        self._set(entry, FAILED, job, code, message, summary)

    def pictures_of(self, entry: Entry) -> Pictures:
        query = "select before, mask, after from pictures where digest = ? and occurrence = ?"
        found = self._db.execute(query, [entry.digest, entry.occurrence]).fetchone()
        return Pictures(*found) if found else Pictures()

    def has_pictures(self, entry: Entry) -> bool:
        query = "select 1 from pictures where digest = ? and occurrence = ?"
        return self._db.execute(query, [entry.digest, entry.occurrence]).fetchone() is not None

    def _entries(self, condition: str, *values: Any) -> Iterator[Entry]:
        columns = "digest, occurrence, position, name, state, attempt, job, code, message, summary"
        query = f"select {columns} from rows where seen = ? {condition}"  # noqa: S608 (the conditions are ours)
        # All at once: rows may be changed while they are used.
        for row in self._db.execute(query, [self._seen, *values]).fetchall():
            yield Entry._make([*row[:-1], json.loads(row[-1] or "{}")])

    def _set(
        self, entry: Entry, state: str, job: str | None, code: str | None, message: str | None, summary: Any
    ) -> None:
        self._db.execute(
            "update rows set state = ?, job = ?, code = ?, message = ?, summary = ?"
            " where digest = ? and occurrence = ?",
            [state, job, code, message, json.dumps(summary), entry.digest, entry.occurrence],
        )

    def _meta(self, name: str, default: str) -> str:
        self._db.execute("insert or ignore into meta values (?, ?)", [name, default])
        return str(self._db.execute("select value from meta where name = ?", [name]).fetchone()[0])


def _copy_of(path: Path) -> sqlite3.Connection:
    """Return a copy in memory of the rows in a state file, without their pictures."""
    copy = sqlite3.connect("file::memory:", timeout=0, isolation_level=None, uri=True)
    copy.executescript(_SCHEMA)
    if path.exists():
        copy.execute("attach database ? as file", [f"file:{quote(str(path))}?mode=ro"])
        for table in ("meta", "rows"):
            copy.execute(f"insert into {table} select * from file.{table}")  # noqa: S608 (the names are ours)
        copy.execute("detach database file")
    return copy
