"""Keep the wheel of a release in this folder, without the weights of the bundled model: keep.py dist/NAME.whl"""

import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
MODEL = "diffedit_worker/models/tiny/"
"""12 MB that do not change from one release to the next. The tests link the model of the present code."""


def keep(wheel: Path) -> Path:
    """Copy a wheel without the model into this folder, where it replaces the one of the release before."""
    for before in HERE.glob("*.whl"):
        before.unlink()
    kept = HERE / wheel.name
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as copy:
        for entry in whole.infolist():
            if not entry.filename.startswith(MODEL):
                copy.writestr(entry, whole.read(entry))
    return kept


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} WHEEL")
    print(keep(Path(sys.argv[1])))
