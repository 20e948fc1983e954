"""The text chunks of a PNG file, where results carry their manifest."""

from diffedit.pictures import read_result


def read_text(data: bytes) -> dict[str, str]:
    """Return the text chunks of a PNG file; none of a JPEG or WebP file. Raises BadPicture as `read_picture`."""
    return dict(read_result(data).text)
