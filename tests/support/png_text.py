"""The text chunks of a PNG file, where results carry their manifest."""

from io import BytesIO

from PIL.PngImagePlugin import PngImageFile

from diffedit.pictures import MAX_RESULT_BYTES, read_picture


def read_text(data: bytes) -> dict[str, str]:
    """Return the text chunks of a PNG file; none of a JPEG or WebP file. Raises BadPicture as `read_picture`."""
    if read_picture(data, max_bytes=MAX_RESULT_BYTES).extension != "png":
        return {}
    source = PngImageFile(BytesIO(data))
    source.load()
    return {key: str(value) for key, value in source.text.items()}
