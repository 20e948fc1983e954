"""The object store in memory: a double for unit tests, with the same behaviour as S3."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from diffedit.contract.object_keys import FOLDERS
from diffedit.errors import ArtifactMissing
from diffedit.objects.links import UploadUrl
from diffedit.objects.store import Stored, check_content, check_size


class MemoryObjectStore:
    """An `ObjectStore` in this process."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[float, bytes]] = {}

    def put(self, key: str, data: bytes) -> None:
        self._objects[key] = (time.time(), data)

    def get(self, key: str) -> bytes:
        if key not in self._objects:
            raise ArtifactMissing
        data = self._objects[key][1]
        check_size(key, len(data))
        check_content(key, data)
        return data

    def exists(self, key: str) -> bool:
        return key in self._objects

    def delete(self, key: str) -> None:
        self._objects.pop(key, None)

    def delete_all(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.delete(key)

    def stored_in(self, folder: str) -> dict[str, float]:
        return {key: stored_at for key, (stored_at, _) in list(self._objects.items()) if key.startswith(folder)}

    def older_than(self, age: timedelta, folders: Sequence[str] = FOLDERS) -> list[Stored]:
        before = time.time() - age.total_seconds()
        return [
            Stored(key, len(data))
            for key, (stored_at, data) in self._objects.items()
            if stored_at < before and key.startswith(tuple(folders))
        ]

    def url(self, key: str, expires: int, disposition: str | None = None) -> str:
        return (
            f"memory://{key}?{urlencode({'expires': expires, **({'disposition': disposition} if disposition else {})})}"
        )

    def upload_url(self, key: str, content_type: str, size: int, expires: int) -> UploadUrl:
        return UploadUrl(
            key=key,
            method="PUT",
            url=f"memory://{key}",
            headers={"Content-Type": content_type},
            size=size,
            expires_at=datetime.now(UTC) + timedelta(seconds=expires),
        )

    def now(self) -> float:
        return time.time()

    def ping(self) -> None:
        pass

    def close(self) -> None:
        pass
