"""Draw the pictures of docs/explanation/how-diffedit-works.md with the bundled model.

    python docs/make_pictures.py      # ten seconds on a CPU; overwrites docs/images/diffedit-*.png

The edit is the one of `diffedit demo`. Hooks on the UNet record what passes through it, so that the stages run as they
do in a worker.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from diffedit import EditParams, Prompts
from diffedit.contract.stages import Artifact
from diffedit.pictures import Picture, read_picture
from diffedit_worker.diffusion import diffedit
from diffedit_worker.local.commands import PICTURE, SOURCE, TARGETS
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import SAMPLES, load_profiles
from diffedit_worker.stages.edit import edit
from diffedit_worker.stages.embed import embed
from diffedit_worker.stages.invert import invert
from diffedit_worker.stages.mask import mask

IMAGES = Path(__file__).parent / "images"
PROFILE = load_profiles(None)["tiny"]
# The guide's steps, and the mask of the bundled model: all of its predictions are full passes of the UNet.
MASK_PARAMS = {name: PROFILE.params[name] for name in ("mask_thresholding_ratio", "mask_cleanup")}
PARAMS = EditParams.resolve("tiny", MASK_PARAMS, {"seed": 0})
WALK: dict[str, Any] = {
    "scheduler": PARAMS.scheduler,
    "num_inference_steps": PARAMS.num_inference_steps,
    "strength": PARAMS.strength,
}
"""The parameters that inversion and edit share."""
PANEL = 192
"""Pixels a side of a picture in a row."""
GAP, TEXT_HEIGHT = 12, 30


def main() -> None:
    torch.set_num_threads(1)
    models = Models(PROFILE, device="cpu")
    picture = read_picture((SAMPLES / PICTURE).read_bytes())
    prompts = Prompts(source=(SOURCE,), target=(TARGETS[0],))
    common: dict[str, Any] = {"models": models, "on_step": diffedit.ignore_steps}
    texts = embed(**common, prompts=prompts, caption=SOURCE, negative_prompt=None)
    common["image"] = picture

    found = draw_mask(common, texts[Artifact.EMBEDDINGS])
    trajectory = draw_inversion(common, texts[Artifact.CAPTION_EMBEDDING])
    result = draw_edit(common, texts[Artifact.EMBEDDINGS], found, trajectory)
    draw_row("diffedit-result", [("picture", picture.image), ("mask", found), ("result", result.image)])


def draw_mask(common: dict[str, Any], embeddings: dict[str, torch.Tensor]) -> Image.Image:
    """Draw how the mask is found, and return it."""
    models, picture = common["models"], common["image"]
    with Recorder(models.unet) as seen:
        found: Image.Image = mask(
            **common,
            embeddings=embeddings,
            seed=PARAMS.seed,
            scheduler=PARAMS.scheduler,
            num_inference_steps=PARAMS.num_inference_steps,
            num_maps_per_mask=PARAMS.num_maps_per_mask,
            mask_encode_strength=PARAMS.mask_encode_strength,
            mask_thresholding_ratio=PARAMS.mask_thresholding_ratio,
            mask_cleanup=PARAMS.mask_cleanup,
        )[Artifact.MASK]
    maps = [difference(output) for output in seen.outputs]
    draw_row(
        "diffedit-1-mask",
        [
            ("picture", picture.image),
            ("noised halfway", decoded(models, seen.inputs[0][:1])),
            ("difference, one noise", heat(maps[0][0])),
            ("average of ten", heat(torch.cat(maps).mean(dim=0))),
            ("mask", found),
        ],
    )
    return found


def draw_inversion(common: dict[str, Any], caption_embedding: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Draw how the picture becomes noise, and return the trajectory."""
    trajectory: dict[str, torch.Tensor] = invert(
        **common,
        caption_embedding=caption_embedding,
        inversion_guidance_scale=PARAMS.inversion_guidance_scale,
        inversion_feature_reuse=PARAMS.inversion_feature_reuse,
        **WALK,
    )[Artifact.TRAJECTORY]
    levels = trajectory["latents"][0]
    last = len(levels) - 1
    panels = [
        (f"step {step} of {last}", decoded(common["models"], levels[last - step][None])) for step in drawn_steps(last)
    ]
    draw_row("diffedit-2-invert", panels)
    return trajectory


def draw_edit(
    common: dict[str, Any],
    embeddings: dict[str, torch.Tensor],
    found: Image.Image,
    trajectory: dict[str, torch.Tensor],
) -> Picture:
    """Draw how the noise becomes the result, and return the result."""
    models = common["models"]
    with Recorder(models.unet) as seen:
        result: Picture = edit(
            **common,
            mask=found,
            trajectory=trajectory,
            embeddings=embeddings,
            guidance_scale=PARAMS.guidance_scale,
            guidance_interval=PARAMS.guidance_interval,
            feature_reuse=PARAMS.feature_reuse,
            **WALK,
        )[Artifact.RESULT]
    # The UNet sees the latents twice a step, for guidance; the state before step i is its i-th input.
    walked = [each[:1] for each in seen.inputs]
    last = len(trajectory["latents"][0]) - 1
    panels = [(f"step {step} of {last}", decoded(models, walked[step])) for step in drawn_steps(last) if step < last]
    draw_row("diffedit-3-edit", [*panels, ("result", result.image)])
    return result


def drawn_steps(last: int) -> range:
    """Return the first step, the last one and three between them."""
    return range(0, last + 1, last // 4)


class Recorder:
    """Keeps the latents that enter a UNet and the predictions that leave it."""

    def __init__(self, unet: torch.nn.Module) -> None:
        self._unet = unet
        self.inputs: list[torch.Tensor] = []
        self.outputs: list[torch.Tensor] = []

    def __enter__(self) -> "Recorder":
        self._hook = self._unet.register_forward_hook(self._record)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _record(
        self, unet: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: tuple[torch.Tensor, ...]
    ) -> None:
        self.inputs.append(inputs[0].clone())
        self.outputs.append(output[0].clone())


def difference(prediction: torch.Tensor) -> torch.Tensor:
    """Return the maps (n, h, w) of a pass of 2 n samples: n under the source, then n under the target."""
    source, target = prediction.chunk(2)
    return (target - source).abs().mean(dim=1)


def decoded(models: Models, latents: torch.Tensor) -> Image.Image:
    pixels = diffedit.decode(models.vae, latents)[0].clamp(-1, 1)
    return Image.fromarray(((pixels + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy())


def heat(level: torch.Tensor) -> Image.Image:
    """Return a map (h, w) in colours, dark for 0 and bright for the largest value."""
    x = (level / level.max()).numpy()[..., None]
    dark, middle, bright = np.array([24, 15, 62]), np.array([203, 66, 87]), np.array([252, 233, 138])
    colours = np.where(x < 0.5, dark + 2 * x * (middle - dark), middle + (2 * x - 1) * (bright - middle))
    return Image.fromarray(colours.astype(np.uint8))


def draw_row(name: str, panels: Sequence[tuple[str, Image.Image]]) -> None:
    """Save pictures side by side, each over its name. The grey of the text can be read on light and on dark pages."""
    font = ImageFont.load_default(15)
    width = len(panels) * (PANEL + GAP) - GAP
    row = Image.new("RGBA", (width, PANEL + TEXT_HEIGHT), (0, 0, 0, 0))
    draw = ImageDraw.Draw(row)
    for number, (text, image) in enumerate(panels):
        left = number * (PANEL + GAP)
        row.paste(image.convert("RGB").resize((PANEL, PANEL), Image.Resampling.NEAREST), (left, 0))
        draw.text((left + PANEL / 2, PANEL + 8), text, font=font, fill=(128, 134, 142), anchor="ma")
    IMAGES.mkdir(exist_ok=True)
    path = IMAGES / f"{name}.png"
    row.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
