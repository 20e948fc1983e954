"""Manifests for the benchmark: every row has a picture of its own and little to compute."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from diffedit_worker.models.profiles import SAMPLES

ROW: dict[str, Any] = {
    "source_prompt": "a photograph of a pear on a green table",
    "target_prompt": "a photograph of some cherries on a green table",
    "num_inference_steps": 2,
    "num_maps_per_mask": 1,
    "mask_thresholding_ratio": 1.0,
    "seed": 1,
}


def write_manifest(folder: Path, name: str, first: int, number: int) -> Path:
    """Write pictures number `first` and following, and a manifest of them. Return its path."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    with Image.open(SAMPLES / "06.png") as sample, (folder / name).open("w") as manifest:
        for index in range(first, first + number):
            picture = sample.convert("RGB")
            # A corner that no other picture has, so that no artifact of another row is found.
            picture.putpixel((0, 0), (index % 256, index // 256 % 256, index // 65536))
            path = pictures / f"{index:06}.png"
            picture.save(path)
            manifest.write(json.dumps({"picture": f"pictures/{path.name}", **ROW}) + "\n")
    return folder / name


def rows_of(manifest: Path) -> Iterator[dict[str, Any]]:
    """Yield the keyword arguments of each row."""
    for line in manifest.open():
        row = json.loads(line)
        yield {**row, "picture": manifest.parent / row["picture"], "lane": "batch"}
