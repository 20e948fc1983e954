"""Pictures that a browser sends straight to the bucket, and that are edited afterwards.

A link for an upload names a random key and is valid for minutes. `Client.edit(uploaded=key)` reads what lies there,
checks it as it checks a picture from a program, and stores it under the hash of its content like every other picture.
The upload itself stays until garbage collection, so that the same call can be repeated.
"""

from diffedit.contract.object_keys import is_upload_key, upload_key
from diffedit.errors import ArtifactError, ArtifactMissing, BadPicture, InvalidRequest, UploadNotFound
from diffedit.objects.links import UploadUrl, check_expires
from diffedit.objects.store import ObjectStore
from diffedit.pictures import MAX_PICTURE_BYTES, check_bytes
from diffedit.uploads import PictureLike

EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
"""The content types of pictures, with the extensions of their files."""


def new_upload(
    object_store: ObjectStore, content_type: str, size: int, expires: int, owner: str | None = None
) -> UploadUrl:
    """Return a request with which a browser can send a picture to the bucket. Arguments and errors as `upload_url`.

    `owner` is whose upload it will be.
    """
    if not isinstance(content_type, str) or content_type not in EXTENSIONS:
        raise InvalidRequest(f"content_type: give one of {', '.join(EXTENSIONS)}")
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise InvalidRequest("size: give the bytes of the file, as a whole number")
    check_bytes(size, "picture")
    check_expires(expires)
    return object_store.upload_url(upload_key(owner, EXTENSIONS[content_type]), content_type, size, expires)


def given_picture(
    image: PictureLike | None, uploaded: str | None, object_store: ObjectStore, owner: str | None = None
) -> PictureLike:
    """Return the picture that a caller gives: `image`, or what lies at the key `uploaded` of this owner's uploads.

    Raises:
        InvalidRequest: both are given.
        BadPicture: neither is given; or the upload takes too many bytes, which are not read.
        UploadNotFound: no upload of this owner has this key.
        StoreUnavailable: S3 does not answer.
    """
    if uploaded is None and image is not None:
        return image
    if uploaded is None:
        raise BadPicture("a NoneType is no picture; give a picture, or the key of an upload as uploaded=")
    if image is not None:
        raise InvalidRequest("uploaded: there is a picture already; give one of both")
    # Any other key would let one read what belongs to others. All refusals sound alike, so that none tells what exists.
    if not is_upload_key(owner, uploaded):
        raise UploadNotFound
    try:
        return object_store.get(uploaded)
    except ArtifactMissing:
        raise UploadNotFound from None
    except ArtifactError:
        raise BadPicture(f"the picture takes more than {MAX_PICTURE_BYTES // 2**20} MiB, the limit") from None
