"""Wait for a job and save its result, as `diffedit edit` and `diffedit result` do."""

from pathlib import Path

from diffedit.cli.main import print_json
from diffedit.errors import ArtifactError, InvalidRequest
from diffedit.handle import JobHandle


def save_result(job: JobHandle, folder: Path, timeout: float, as_json: bool) -> None:
    """Wait up to `timeout` seconds for the job, save its files into `folder`, and print their paths.

    Raises:
        InvalidRequest: the folder cannot be written to.
        ArtifactError: the job succeeded, but its result was deleted or is damaged.
        JobError: the job did not succeed, or not in time.
    """
    status = job.wait(timeout, progress=not as_json)
    try:
        paths = job.result(timeout).save(folder)
    except OSError as error:
        advice = f"job {job.id} succeeded; save it with `diffedit result {job.id} --out FOLDER`"
        raise InvalidRequest(f"cannot write to {folder}: {error.strerror}; {advice}") from error
    except ArtifactError as error:
        text = f"job {job.id} succeeded, but its result is no longer stored ({error}); run `diffedit retry {job.id}`"
        raise ArtifactError(text) from error
    if as_json:
        print_json({**status.model_dump(mode="json"), "files": {name: str(path) for name, path in paths.items()}})
    else:
        for path in paths.values():
            print(path)
