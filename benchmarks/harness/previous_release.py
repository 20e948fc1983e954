"""The last release beside the present code: its wheel, unpacked, for processes that run it."""

import zipfile
from pathlib import Path

from diffedit_worker.models.profiles import BUILT_IN

WHEELS = Path(__file__).parents[2] / "tests" / "releases"
"""The wheel of the last release is kept here, without the weights of the bundled model."""
MODEL = BUILT_IN.with_name("tiny")


def unpack_release(directory: Path) -> dict[str, str]:
    """Unpack the wheel into `directory`; return the variables with which a process imports it.

    The bundled model is linked from the present code, which has the same: another one would have other cache keys.
    """
    (wheel,) = WHEELS.glob("diffedit_service-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
    model = directory / "diffedit_worker" / "models" / MODEL.name
    for file in MODEL.rglob("*"):
        copy = model / file.relative_to(MODEL)
        if file.is_file() and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(file)
    return {"PYTHONPATH": str(directory)}
