"""Previews of latents: their colours, their shape, and what they do with pictures that say little."""

import io

import torch
from PIL import Image

from diffedit_worker.diffusion.letterbox import Letterbox
from diffedit_worker.models.previews import Previews
from tests.support.images import farthest, gradient, plain

CODE = torch.tensor([[0.5, -0.3, 0.2, 0.1], [0.1, 0.6, -0.2, 0.3], [-0.2, 0.1, 0.7, -0.4]])
"""A VAE of one linear map: colours (3) to latents (4)."""


def latents_of(picture: Image.Image, letterbox: Letterbox) -> torch.Tensor:
    width, height = (side // 8 for side in letterbox.padded)
    small = letterbox.apply(picture).resize((width, height), Image.Resampling.BOX)
    colours = torch.tensor(list(small.tobytes()), dtype=torch.float32).reshape(height, width, 3) / 255
    return torch.einsum("hwc,cl->lhw", colours, CODE)[None]


def decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "WEBP"
    return image.convert("RGB")


def test_the_latents_of_another_picture_have_its_colours() -> None:
    original, other = gradient((256, 128)), gradient((256, 128)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    letterbox = Letterbox.fit(original.size, 256, 8)
    previews = Previews(original, latents_of(original, letterbox), letterbox)
    previews.keep(latents_of(other, letterbox))
    preview = decoded(previews.encode())
    assert preview.size == (32, 16)
    assert farthest(preview, other.resize((32, 16), Image.Resampling.BOX)) < 40
    assert len(previews.encode()) < 2000


def test_padding_is_left_out() -> None:
    original = gradient((250, 100))
    letterbox = Letterbox.fit(original.size, 256, 32)
    assert letterbox.padded != letterbox.scaled
    previews = Previews(original, latents_of(original, letterbox), letterbox)
    width, height = decoded(previews.encode()).size
    assert abs(width / height - 2.5) < 0.2


def test_a_picture_of_one_colour_leaves_no_coefficient_open() -> None:
    original = plain(64, 64, "green")
    letterbox = Letterbox.fit(original.size, 64, 8)
    z0 = latents_of(original, letterbox)
    previews = Previews(original, z0, letterbox)
    assert farthest(decoded(previews.encode()), plain(8, 8, "green")) < 16
    previews.keep(torch.randn(z0.shape, generator=torch.Generator().manual_seed(0)))
    assert decoded(previews.encode()).size == (8, 8)
