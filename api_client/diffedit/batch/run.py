"""A batch: the rows of a manifest become jobs, results become files, and the state says what is left to do.

At any moment the process may be killed. A row is done when its file is written and then noted, in this order; its job
is the same one in every run, because its idempotency key is. So nothing is submitted twice, and nothing is lost.
"""

import base64
import json
import os
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from diffedit.batch.manifest import Manifest, ManifestRow
from diffedit.batch.naming import Template
from diffedit.batch.outputs import Output, replaced_when_written
from diffedit.batch.report import ROWS_PER_PAGE, write_pages
from diffedit.batch.scores import asked_summary, result_scores, small_pictures, status_summary
from diffedit.batch.state import DONE, FAILED, PENDING, BatchState, Counts, Entry, Pictures
from diffedit.client import Client
from diffedit.errors import DiffEditError, JobError, JobFailed, JobTimeout, ServiceError
from diffedit.result import EditResult

LOOK = 60.0
"""Seconds in which the results for a page of a report must have been found."""


class Row(dict[str, Any]):
    """The keyword arguments of the edit of a row, with what is known of the row."""

    def __init__(self, row: ManifestRow, entry: Entry, key: str) -> None:
        super().__init__({**row.options, "idempotency_key": key})
        self.entry = entry


class Finished(NamedTuple):
    """What is kept of a result that is written."""

    job: str
    summary: dict[str, Any]
    pictures: Pictures | None


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        counts: the rows of the manifest by state, kept up to date.
        ended: rows that ended in this run.
        found: stages of them that had been computed before.
        stages: all their stages.
        last: the error of the last row that failed, or that is left for the next run.
    """

    counts: Counts
    ended: int = 0
    found: int = 0
    stages: int = 0
    last: str = ""
    left: dict[str, int] = field(default_factory=dict)
    """Rows that have not ended and are left for the next run, by error code."""


class Batch:
    """A manifest, its state and its results."""

    def __init__(
        self,
        client: Client,
        manifest: Manifest,
        template: Template,
        state: BatchState,
        output: Output,
        failed_file: Path,
    ) -> None:
        """`failed_file` is a manifest of the rows that failed, written at the end of a run."""
        self._client = client
        self._manifest = manifest
        self._template = template
        self._state = state
        self._output = output
        self._failed_file = failed_file
        self._keeps_pictures = False

    def register(self, *, retry_failed: bool = False) -> Counts:
        """Read the manifest and note its rows. Return how many are in which state.

        Raises:
            InvalidRequest: the manifest cannot be read, or two results have the same name.
        """
        rows = ((row.digest, row.position, self._template.name_of(row)) for row in self._manifest)
        self._state.register(rows)
        if retry_failed:
            self._state.retry_failed()
        return self._state.counts()

    def run(
        self, *, in_flight: int, timeout: float, limit: int | None = None, pictures: bool = False
    ) -> Generator[Progress, None, None]:
        """Edit the rows that are left, at most `limit` of them. Yield the progress after each row.

        Args:
            in_flight: jobs in work at once.
            timeout: seconds that a row may take. What has not ended is left for the next run.
            pictures: keep small pictures for a report.

        Raises:
            ServiceError: no row can succeed: S3 refuses the keys, or results cannot be written.
        """
        progress = Progress(self._state.counts())
        self._keeps_pictures = pictures
        rows = self._rows(limit)
        try:
            with closing(self._client._map(rows, in_flight, timeout, {}, self._finish)) as outcomes:
                for row, outcome in outcomes:
                    self._note(row, outcome, progress)
                    yield progress
        finally:
            self.write_failed()

    def pending(self, limit: int | None = None) -> Iterator[tuple[ManifestRow, Entry]]:
        """Yield the rows that are left to do, at most `limit` of them."""
        left = -1 if limit is None else limit
        for row, entry in self._known_rows():
            if entry.state != PENDING:
                continue
            if left == 0:
                return
            left -= 1
            yield row, entry

    def write_report(self, path: Path, results: Path | None) -> None:
        """Write the report, in pages. `results` is the folder of the results, from the report."""
        counts = self._state.counts()
        for first in range(1, counts.total + 1, ROWS_PER_PAGE):
            if not self._fetch_missing_pictures(first, first + ROWS_PER_PAGE - 1):
                break
        about = f"{counts.total:,} rows: {counts.done:,} done, {counts.failed:,} failed, {counts.pending:,} not done"
        write_pages(path, self._manifest.path.name, about, self._state, results)

    def _fetch_missing_pictures(self, first: int, last: int) -> bool:
        """Get the small pictures of rows that an earlier run did without a report, as far as their jobs exist.

        Return whether the services answered.
        """
        entries = {entry.job: entry for entry in self._state.entries([DONE], first, last) if entry.job}
        bare = {job: entry for job, entry in entries.items() if not self._state.has_pictures(entry)}
        with closing(self._client.results(map(self._client.job, bare), timeout=LOOK)) as outcomes:
            for handle, outcome in outcomes:
                if isinstance(outcome, ServiceError | JobTimeout):
                    return False
                if isinstance(outcome, EditResult):
                    with suppress(DiffEditError):
                        finished = _shown(outcome)
                        self._state.done(bare[handle.id], handle.id, finished.summary, finished.pictures)
        return True

    def write_failed(self) -> None:
        """Write the rows that failed as a manifest, with the columns _code and _error. No file if there is none."""
        if not self._state.counts().failed:
            self._failed_file.unlink(missing_ok=True)
            return
        with replaced_when_written(self._failed_file) as file:
            for row, entry in self._known_rows():
                if entry.state == FAILED:
                    file.write(json.dumps(self._failed_row(row, entry), ensure_ascii=False) + "\n")

    def _known_rows(self) -> Iterator[tuple[ManifestRow, Entry]]:
        """Yield the rows that were noted. What has come into the manifest or the folder since is for the next run."""
        repeated = dict.fromkeys(self._state.repeated(), 0)
        for row in self._manifest:
            if row.digest in repeated:
                repeated[row.digest] += 1
            if entry := self._state.find(row.digest, repeated.get(row.digest, 1)):
                yield row, entry

    def _failed_row(self, row: ManifestRow, entry: Entry) -> dict[str, Any]:
        own = {name: value for name, value in row.values.items() if name.startswith("_")}
        options = {name: _portable(name, value) for name, value in row.options.items()}
        return {**options, **own, "_code": entry.code, "_error": entry.message, "_row": entry.position}

    def _rows(self, limit: int | None) -> Iterator[Row]:
        for row, entry in self.pending(limit):
            yield Row(row, entry, self._state.idempotency_key(entry))

    def _finish(self, row: Row, result: EditResult) -> Finished:
        """Write the result of a row, in a thread."""
        self._output.write(row.entry.name, result.file("result").data)
        if self._keeps_pictures:
            return _shown(result)
        return Finished(result.status.id, status_summary(result.status), None)

    def _note(self, row: Row, outcome: Finished | DiffEditError, progress: Progress) -> None:
        counts, entry = progress.counts, row.entry
        if isinstance(outcome, Finished):
            self._state.done(entry, outcome.job, outcome.summary, outcome.pictures)
            progress.found += len(outcome.summary["found"])
            progress.stages += outcome.summary["stages"]
            counts.done += 1
        elif outcome.retryable:
            # Its time was over, or a service was away for too long. The next run goes on with the same job.
            progress.left[outcome.code] = progress.left.get(outcome.code, 0) + 1
            progress.last = str(outcome)
            return
        else:
            code = outcome.error_code if isinstance(outcome, JobFailed) else outcome.code
            job = outcome.job_id if isinstance(outcome, JobError) else None
            self._state.failed(entry, job, code, str(outcome), asked_summary(row))
            counts.failed += 1
            counts.codes[code] = counts.codes.get(code, 0) + 1
            progress.last = f"row {entry.position}: {outcome}"
        counts.pending -= 1
        progress.ended += 1


def _shown(result: EditResult) -> Finished:
    """Return what a report shows of a result."""
    summary = {**status_summary(result.status), "scores": result_scores(result), "caption": result.caption}
    return Finished(result.status.id, summary, small_pictures(result))


def _portable(name: str, value: Any) -> Any:
    """Return an option of a row as JSON that means the same in any working directory."""
    if isinstance(value, bytes):
        return f"data:application/octet-stream;base64,{base64.b64encode(value).decode()}"
    is_path = name in ("image", "picture", "mask") and isinstance(value, str) and "://" not in value
    return os.path.abspath(value) if is_path and not value.startswith("data:") else value
