"""boto3's errors, sorted by what helps: another attempt later (`StoreUnavailable`), or nobody but an operator.

`StoreRefused` says what to correct: the keys, a permission, the bucket, its region, the endpoint, the clock.
"""

import time
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
)
from urllib3.exceptions import HTTPError

from diffedit.errors import ArtifactMissing, DiffEditError, StoreRefused, StoreUnavailable

ERRORS = (BotoCoreError, ClientError, HTTPError)  # urllib3's own, when a refusal breaks off in the middle
MAX_SKEW = 300.0
"""Seconds. S3 refuses requests whose time is off by 15 minutes."""

_FINAL_STATUSES = frozenset({301, 307, 308, 400, 401, 403, 404, 405, 409, 411, 412, 413, 414, 501, 505})
_PASSING_CODES = frozenset({"RequestTimeout", "OperationAborted", "SlowDown"})
"""Codes of such a status after which another attempt helps. S3 answers 400 to a request that arrives too slowly."""
_KEYS = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidToken",
        "ExpiredToken",
        "InvalidSecurity",
        "TokenRefreshRequired",
    }
)
_REGION = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301", "307"}
)
_PERMISSIONS = {
    "PutObject": "s3:PutObject",
    "GetObject": "s3:GetObject and s3:ListBucket (without the latter, S3 answers so for a missing object as well)",
    "HeadObject": "s3:GetObject and s3:ListBucket (without the latter, S3 answers so for a missing object as well)",
    "DeleteObject": "s3:DeleteObject",
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
}


def translated(error: Exception) -> DiffEditError:
    """Return our error for one of `ERRORS`. boto3 has retried before."""
    if isinstance(error, ClientError):
        return _answer(error)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return StoreRefused(
            "no AWS keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role that boto3 finds"
        )
    if isinstance(error, SSLError):
        return _without_tls(error)
    if isinstance(error, ConnectionError | HTTPClientError | HTTPError | IncompleteReadError):
        return StoreUnavailable(f"S3 does not answer: {error}; check DIFFEDIT_S3_ENDPOINT_URL")
    return StoreRefused(f"boto3 cannot be used as it is configured: {error}; check AWS_PROFILE and its other settings")


def _without_tls(error: SSLError) -> DiffEditError:
    """Return our error for a TLS connection that was not made. boto3 has the reason only in its text."""
    reason = str(error)
    # The second text is urllib3's, which checks the name of the host itself in some versions.
    if "CERTIFICATE_VERIFY_FAILED" in reason or "doesn't match" in reason:
        return StoreRefused(
            f"the certificate of the S3 server cannot be verified: {reason}; for one of your own, set AWS_CA_BUNDLE"
        )
    if "WRONG_VERSION_NUMBER" in reason:
        return StoreRefused(
            f"the S3 server does not speak TLS: {reason}; check DIFFEDIT_S3_ENDPOINT_URL, http or https"
        )
    if "[Errno" in reason or "[X509" in reason:
        return StoreRefused(f"the file of AWS_CA_BUNDLE cannot be read as certificates: {reason}; correct it")
    return StoreUnavailable(f"TLS with the S3 server fails: {reason}; check DIFFEDIT_S3_ENDPOINT_URL")


def _answer(error: ClientError) -> DiffEditError:
    """Return our error for an answer of the server."""
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    metadata: dict[str, Any] = error.response.get("ResponseMetadata", {})
    status, headers = metadata.get("HTTPStatusCode"), metadata.get("HTTPHeaders", {})
    if code in ("NoSuchKey", "404", "NotFound"):
        return ArtifactMissing()
    if status not in _FINAL_STATUSES or code in _PASSING_CODES:
        return StoreUnavailable(f"S3 cannot answer now ({code})")
    return StoreRefused(f"S3 refused the request ({code}); {_advice(error.operation_name, code, status, headers)}")


def _advice(operation: str, code: str, status: int | None, headers: dict[str, str]) -> str:
    skew = _skew(headers.get("date"))
    if code == "RequestTimeTooSkewed" or (status in (400, 403) and abs(skew) > MAX_SKEW):
        direction = "ahead of" if skew > 0 else "behind"
        return f"the clock of this machine is {abs(skew):.0f} s {direction} that of S3; synchronise it (NTP)"
    if code in _KEYS:
        return "check the AWS keys"
    if code in _REGION or status in (301, 307, 308):
        region = headers.get("x-amz-bucket-region")
        return f"the bucket is in another region{f', {region}' if region else ''}; set AWS_REGION"
    if status == 403:
        needed = _PERMISSIONS.get(operation, f"s3:{operation}")
        return f"check the AWS keys and DIFFEDIT_S3_BUCKET, and that the keys may {needed}"
    if code == "NoSuchBucket":
        return "create the bucket, or check DIFFEDIT_S3_BUCKET"
    if status == 413:
        return "it takes no object of this size; raise the limit of the server or of the proxy before it"
    if status in (400, 401, 404):
        return "check the AWS keys and DIFFEDIT_S3_BUCKET"
    return f"it does not carry out {operation}; check that DIFFEDIT_S3_ENDPOINT_URL is the address of an S3 server"


def _skew(date: str | None) -> float:
    """Return by how many seconds this machine's clock is ahead of the time of the answer; 0 if it has none."""
    try:
        return time.time() - parsedate_to_datetime(date).timestamp() if date else 0.0
    except (TypeError, ValueError):
        return 0.0
