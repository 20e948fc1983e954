"""The salt of an owner in the file of a picture: other bytes, the same picture."""

import io
from itertools import combinations

import pytest
from PIL import Image, ImageCms

from diffedit import MAX_PICTURE_BYTES, BadPicture
from diffedit.contract.object_keys import input_key
from diffedit.pictures import read_picture
from diffedit.salts import salt_of, salted_file
from diffedit.uploads import Upload, image_upload, salted
from tests.support.fake_service import TEXTS, FakeService, png

SALT = salt_of("u17", "secret")
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(mode: str = "RGB") -> Image.Image:
    image = Image.new("RGB", (64, 48), "green")
    image.paste("red", (10, 10, 40, 30))
    image = image.convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def saved(form: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture(mode).save(buffer, form, **options)
    return buffer.getvalue()


def exif() -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = 6
    return found


def without_application_segment(jpeg: bytes) -> bytes:
    return jpeg[:2] + jpeg[4 + int.from_bytes(jpeg[4:6], "big") :]


FILES = {
    "png": saved("PNG"),
    "png, alpha": saved("PNG", "RGBA", icc_profile=PROFILE, exif=exif()),
    "png, palette": saved("PNG", "P"),
    "jpeg": saved("JPEG"),
    "jpeg, exif": saved("JPEG", exif=exif(), icc_profile=PROFILE),
    "jpeg, progressive": saved("JPEG", progressive=True),
    "jpeg, no application segment": without_application_segment(saved("JPEG")),
    "jpeg, padded": saved("JPEG")[:2] + b"\xff\xff" + saved("JPEG")[2:],
    "jpeg, more after its end": saved("JPEG") + saved("JPEG"),
    "webp": saved("WEBP"),
    "webp, lossless": saved("WEBP", lossless=True),
    "webp, alpha": saved("WEBP", "RGBA"),
    "webp, extended": saved("WEBP", exif=exif().tobytes(), icc_profile=PROFILE),
    "webp, odd": saved("WEBP", quality=31),
    "webp, more after its end": saved("WEBP") + b"trailing",
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_the_picture_stays_as_it_is(data: bytes) -> None:
    other = salted_file(data, SALT)
    assert other != data and SALT.encode() in other
    before, after = read_picture(data), read_picture(other)
    assert (after.extension, after.icc_profile) == (before.extension, before.icc_profile)
    assert (after.image.size, after.image.tobytes()) == (before.image.size, before.image.tobytes())
    assert (after.layer and after.layer.tobytes()) == (before.layer and before.layer.tobytes())
    with Image.open(io.BytesIO(data)) as plain, Image.open(io.BytesIO(other)) as decoded:  # as other programs read it
        assert decoded.convert("RGBA").tobytes() == plain.convert("RGBA").tobytes()
        assert dict(decoded.getexif()) == dict(plain.getexif())


def test_each_owner_has_another_salt_that_only_the_secret_tells() -> None:
    salts = {salt_of(owner, secret) for owner in ("u1", "u2", "Zoë\U0001f350") for secret in ("a", "b")}
    assert len(salts) == 6 and all(len(salt) == 32 for salt in salts)
    assert salt_of("u1", "a") == salt_of("u1", "a")


def test_what_gets_too_large_is_refused() -> None:
    with pytest.raises(BadPicture, match="MiB"):
        salted(Upload(input_key(b"", "png"), png() + bytes(MAX_PICTURE_BYTES - len(png())), (32, 24)), SALT)


@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
def test_each_owner_stores_a_picture_and_a_mask_of_its_own() -> None:
    service = FakeService()
    mask = png(colour="white")
    jobs = [
        client.edit(png(), mask=mask, **TEXTS)
        for client in (
            service.client,
            service.client.for_owner("u1"),
            service.client.for_owner("u2"),
            service.client.for_owner("u1"),
        )
    ]
    requests = [job.status().request for job in jobs]
    assert requests[1].image == requests[3].image and requests[1].mask == requests[3].mask
    for name in ("image", "mask"):
        keys = [getattr(request, name) for request in requests[:3]]
        assert all(one != other for one, other in combinations(keys, 2))
        for key in keys:
            data = service.object_store.get(key)
            assert input_key(data, "png") == key
            assert read_picture(data).image.size == (32, 24)
    assert requests[0].image == image_upload(png()).key
