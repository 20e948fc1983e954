"""The salt of an owner in the file of a picture.

A picture is stored under the hash of its bytes, and whatever is made from it under a hash of that. So two owners that
upload the same file would share both, and one could see by the time that an edit takes what the other has uploaded.
Therefore the file that is stored for an owner has the owner's salt in a place that no decoder looks at. The pixels stay
as they are, and every version finds that the file is the one that its key names.
"""

import hashlib
import hmac
import struct
import zlib

_NAME = b"diffedit-owner"


def salt_of(owner: str, secret: str) -> str:
    """Return the salt of an owner, 32 hex digits. Without the secret nobody can tell to whom a salt belongs."""
    return hmac.new(secret.encode(), owner.encode(), hashlib.sha256).hexdigest()[:32]


def salted_file(data: bytes, salt: str) -> bytes:
    """Return the file of a picture (PNG, JPEG or WebP, checked by `pictures.read_picture`) with a salt in it."""
    if data.startswith(b"\x89PNG"):
        return _salted_png(data, salt.encode())
    if data.startswith(b"\xff\xd8"):
        return _salted_jpeg(data, salt.encode())
    return _salted_webp(data, salt.encode())


def _salted_png(data: bytes, salt: bytes) -> bytes:
    """As a text, after the header."""
    (length,) = struct.unpack_from(">I", data, 8)
    body = b"tEXt" + _NAME + b"\0" + salt
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    place = 20 + length
    return data[:place] + chunk + data[place:]


def _salted_jpeg(data: bytes, salt: bytes) -> bytes:
    """As a comment, after the first segment if that is the one of JFIF or EXIF, which some readers look for there."""
    comment = _NAME + b" " + salt
    segment = b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment
    is_application = data[2] == 0xFF and 0xE0 <= data[3] <= 0xEF
    place = 4 + int.from_bytes(data[4:6], "big") if is_application else 2
    return data[:place] + segment + data[place:]


def _salted_webp(data: bytes, salt: bytes) -> bytes:
    """As a chunk of an unknown kind at the end, which readers pass over. What follows the end stays there."""
    (size,) = struct.unpack_from("<I", data, 4)
    body = _NAME + salt
    chunk = b"dIfE" + struct.pack("<I", len(body)) + body
    end = min(8 + size + size % 2, len(data))
    size = end + len(chunk) - 8
    return data[:4] + struct.pack("<I", size) + data[8:end] + chunk + data[end:]
