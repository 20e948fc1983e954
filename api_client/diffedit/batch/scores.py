"""What a report shows of an edit: its texts and parameters, scores, times, and small pictures."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from PIL import Image, ImageChops, ImageStat

from diffedit.batch.state import Pictures
from diffedit.contract.job import JobStatus
from diffedit.contract.request import EditRequest
from diffedit.result import EditResult

SIDE, MASK_SIDE = 320, 160
"""Pixels of the longer side of the pictures and of the mask in a report, at most."""
QUALITY = 72
TEXTS = ("source_prompt", "target_prompt", "source_concept", "target_concept", "caption", "negative_prompt")
PARAMS = (
    "num_inference_steps",
    "strength",
    "guidance_scale",
    "mask_thresholding_ratio",
    "scheduler",
    "seed",
    "profile",
)


def request_summary(request: EditRequest) -> dict[str, Any]:
    """Return the texts and the main parameters of a request."""
    texts = {name: text for name in TEXTS if (text := getattr(request, name))}
    return {"texts": texts, "params": {name: getattr(request.params, name) for name in PARAMS}}


SHORT_NAMES = {"mask_thresholding_ratio": "ratio", "guidance_scale": "guidance", "num_inference_steps": "steps"}
"""How parameters are named where there is little room."""


def asked_summary(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the texts and the main parameters of a row that was refused, as far as it has them."""
    texts = {name: str(options[name]) for name in TEXTS if options.get(name)}
    return {"texts": texts, "params": {name: options[name] for name in PARAMS if name in options}}


def status_summary(status: JobStatus) -> dict[str, Any]:
    """Return what is known without any picture: texts, parameters, seconds of work, stages that were found done."""
    return {
        **request_summary(status.request),
        "seconds": round(sum(status.timings.values()), 3),
        "stages": len(status.stages),
        "found": [stage.value for stage in status.cache_hits],
        "tags": dict(status.tags),
    }


def result_scores(result: EditResult) -> dict[str, float]:
    """Return the share of the picture that the mask selects, and how much it changed there: shares from 0 to 1."""
    mask = result.mask.convert("L")
    before, after = (picture.convert("RGB") for picture in (result.original, result.image))
    difference = ImageChops.difference(before, after).convert("L")
    inside = mask.point(lambda value: 255 if value > 127 else 0)
    change = ImageStat.Stat(difference, inside).mean[0] / 255 if inside.getbbox() else 0.0
    return {"mask": round(ImageStat.Stat(mask).mean[0] / 255, 4), "change": round(change, 4)}


def small_pictures(result: EditResult) -> Pictures:
    """Return small copies of the original, the mask and the edited picture."""
    return Pictures(_small(result.original, SIDE), _small(result.mask, MASK_SIDE), _small(result.image, SIDE))


def _small(image: Image.Image, side: int) -> bytes:
    image = image.copy()
    image.thumbnail((side, side))
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()
