"""moto's S3 server as a process: with users and their permissions, as on AWS, and over TLS.

It keeps nothing over a restart, answers 404 to a GET of a missing object even if the user may not list the bucket, and
takes expired and wrongly signed links.
"""

import json
import os
import re
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import boto3
import trustme

from diffedit import Settings
from tests.support.processes import unused_port
from tests.support.waiting import until

SECURITY = Path(__file__).parents[2] / "SECURITY.md"
BUCKET = "diffedit"
REGION = "us-east-1"
ROOT = {"aws_access_key_id": "root", "aws_secret_access_key": "root"}
"""Any keys do while permissions are not enforced."""

Permissions = Mapping[str, list[str]]
"""The resources of each action, as ends of their names: "" is the bucket, "/inputs/*" its pictures."""


def permissions_of_security() -> dict[str, Permissions]:
    """Return the permissions of each user in the table of SECURITY.md."""
    header, _, *rows = re.findall(
        r"^\|(.*)\|$", SECURITY.read_text().partition("## S3: least privilege")[2], re.MULTILINE
    )
    actions = [cell.strip(" `") for cell in header.split("|")[1:]]
    users = {}
    for row in rows:
        user, *cells = (cell.strip() for cell in row.split("|"))
        found = {action: _resources(cell) for action, cell in zip(actions, cells, strict=True)}
        users[user.strip("`")] = {action: resources for action, resources in found.items() if resources}
    return users


def _resources(cell: str) -> list[str]:
    return [""] if cell == "the bucket" else [f"/{pattern}" for pattern in re.findall("`(.*?)`", cell)]


class MotoServer:
    """An S3 server on a port of its own, with an empty bucket. Enter it to start it.

    Attributes:
        url: the endpoint.
        keys: the access key and the secret key of each user.
    """

    def __init__(self, authority: trustme.CA | None = None, host: str = "127.0.0.1") -> None:
        """With an `authority`, the server speaks TLS, with a certificate for `host`."""
        self.port = unused_port()
        self.url = f"{'https' if authority else 'http'}://127.0.0.1:{self.port}"
        self.keys: dict[str, dict[str, str]] = {}
        self._authority, self._host = authority, host
        self._context = ssl.create_default_context()
        self._context.check_hostname = False  # `host` may be another one than this
        if authority:
            authority.configure_trust(self._context)

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        if self._authority is None:
            self._start(command)
            return self
        with self._authority.issue_cert(self._host).private_key_and_cert_chain_pem.tempfile() as certificate:
            self._start([*command, "-c", certificate, "-k", certificate])
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def _start(self, command: list[str]) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers, "an answer of moto's server")

    def _answers(self) -> bool:
        with suppress(OSError):
            self._moto_api("")
            return True
        return False

    def _moto_api(self, path: str, data: bytes | None = None) -> None:
        request = urllib.request.Request(f"{self.url}/moto-api/{path}", data, {"Content-Type": "text/plain"})
        urllib.request.urlopen(request, context=self._context).close()

    def create_bucket(self, verify: bool | str = True) -> None:
        self._client("s3", verify).create_bucket(Bucket=BUCKET)

    def add_user(self, name: str, permissions: Permissions, verify: bool | str = True) -> None:
        """Add a user who may do what `permissions` say, in our bucket or in the one that a resource names."""
        iam = self._client("iam", verify)
        iam.create_user(UserName=name)
        statements = [_statement(action, resources) for action, resources in permissions.items()]
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam.put_user_policy(UserName=name, PolicyName="diffedit", PolicyDocument=policy)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        self.keys[name] = {
            "aws_access_key_id": made["AccessKeyId"],
            "aws_secret_access_key": made["SecretAccessKey"],
        }

    def enforce_permissions(self) -> None:
        """From now on each request needs the keys of a user who may do it."""
        self._moto_api("reset-auth", b"0")

    def settings(self, user: str | None = None, **fields: Any) -> Settings:
        """Return the settings of a client or a worker with the keys of this user."""
        keys = self.keys[user] if user else ROOT
        given = {"s3_endpoint_url": self.url, "s3_bucket": BUCKET, "aws_region": REGION, **keys}
        return Settings(**{**given, **fields})

    def environment(self, user: str) -> dict[str, str]:
        """Return the variables of a client or a worker with the keys of this user."""
        keys = {name.upper(): value for name, value in self.keys[user].items()}
        return {"DIFFEDIT_S3_ENDPOINT_URL": self.url, "DIFFEDIT_S3_BUCKET": BUCKET, **keys}

    def _client(self, service: str, verify: bool | str) -> Any:
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, verify=verify, **ROOT)


def _statement(action: str, resources: list[str]) -> dict[str, Any]:
    # AWS asks for s3:ListBucket when a bucket is asked for its HEAD. moto has a name of its own for that.
    actions = [action, "s3:HeadBucket"] if action == "s3:ListBucket" else [action]
    names = [resource if resource.startswith("*") else f"{BUCKET}{resource}" for resource in resources]
    return {"Effect": "Allow", "Action": actions, "Resource": [f"arn:aws:s3:::{name}" for name in names]}
