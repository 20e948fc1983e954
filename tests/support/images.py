"""Pictures to test with, and how far two of them are apart."""

from PIL import Image, ImageChops


def gradient(size: tuple[int, int]) -> Image.Image:
    ramp = Image.radial_gradient("L").resize(size)
    return Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.ROTATE_180), ImageChops.invert(ramp)))


def speckled(size: tuple[int, int]) -> Image.Image:
    return Image.effect_noise(size, 80).convert("RGB")


def same(one: Image.Image, other: Image.Image) -> bool:
    return (one.mode, one.size, one.tobytes()) == (other.mode, other.size, other.tobytes())


def farthest(one: Image.Image, other: Image.Image) -> int:
    return max(high for _, high in ImageChops.difference(one, other).getextrema())


def half(mode: str, off, on) -> Image.Image:
    image = Image.new(mode, (32, 16), off)
    image.paste(on, (16, 0, 32, 16))
    return image
