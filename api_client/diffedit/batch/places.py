"""Where a batch keeps its files: results, state, the manifest of failed rows, the report."""

import os
from dataclasses import dataclass
from pathlib import Path

from diffedit.batch.outputs import FolderOutput, Output, S3Output
from diffedit.errors import InvalidRequest
from diffedit.settings import Settings


@dataclass(frozen=True)
class Places:
    """The files of a batch.

    Attributes:
        folder: where the results are; None if that is a bucket.
        url: the prefix in a bucket, if results go there.
    """

    folder: Path | None
    url: str | None
    state: Path
    failed: Path
    report: Path

    def output(self, settings: Settings) -> Output:
        if self.url:
            return S3Output(settings, self.url)
        assert self.folder is not None
        return FolderOutput(self.folder)

    @property
    def results_from_report(self) -> Path | None:
        """The path from the report to the folder of the results; None if a page cannot link to them."""
        if self.folder is None:
            return None
        return Path(os.path.relpath(self.folder.resolve(), self.report.parent.resolve()))


def places_of(manifest: Path, out: str, state: Path | None) -> Places:
    """Return where the files of a batch are. They are beside the state: in the folder of the results by default.

    Raises:
        InvalidRequest: `out` is neither a folder nor a prefix in a bucket.
    """
    is_bucket = out.startswith("s3://")
    if not is_bucket and "://" in out:
        raise InvalidRequest(f"--out {out}: give a folder or s3://bucket/prefix")
    folder = None if is_bucket else Path(out)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise InvalidRequest(f"--out {out}: this is no folder")
    if state is None and folder is not None:
        return Places(folder, None, folder / "batch.sqlite", folder / "failed.jsonl", folder / "report.html")
    stem = state.with_suffix("") if state is not None else Path(f"{manifest.resolve().stem}.batch")
    beside = [stem.with_name(f"{stem.name}.{ending}") for ending in ("failed.jsonl", "report.html")]
    return Places(folder, out if is_bucket else None, state or stem.with_name(f"{stem.name}.sqlite"), *beside)
