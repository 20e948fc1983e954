"""The S3 users of SECURITY.md on a server that enforces permissions, and S3 over TLS with an authority of one's own."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from diffedit import Client, StoreRefused, StoreUnavailable
from diffedit.contract.object_keys import artifact_key, input_key, upload_key
from diffedit.errors import ArtifactMissing
from diffedit.objects.s3 import S3ObjectStore
from tests.support.moto_server import MotoServer, permissions_of_security
from tests.support.object_store_behaviour import ObjectStoreBehaviour

USERS = permissions_of_security()
PICTURE, MASK = b"a picture", b"a mask"
INPUT, ARTIFACT = input_key(PICTURE, "png"), artifact_key("mask", "ab" * 32, "png")
UPLOAD, ELSEWHERE = upload_key("u17", "png"), "another/object.png"
PLACES = {"inputs/*": INPUT, "artifacts/*": ARTIFACT, "uploads/*": UPLOAD, "another/*": ELSEWHERE}
LATER = timedelta(seconds=-5)
"""An age that every object has."""

ACTIONS: dict[str, Callable[[S3ObjectStore], object]] = {
    "s3:GetObject inputs/*": lambda store: store.get(INPUT),
    "s3:GetObject artifacts/*": lambda store: store.get(ARTIFACT),
    "s3:GetObject uploads/*": lambda store: store.get(UPLOAD),
    "s3:GetObject another/*": lambda store: store.get(ELSEWHERE),
    "s3:PutObject inputs/*": lambda store: store.put(INPUT, PICTURE),
    "s3:PutObject artifacts/*": lambda store: store.put(ARTIFACT, MASK),
    "s3:PutObject uploads/*": lambda store: store.put(UPLOAD, PICTURE),
    "s3:PutObject another/*": lambda store: store.put(ELSEWHERE, MASK),
    "s3:DeleteObject inputs/*": lambda store: store.delete(INPUT),
    "s3:DeleteObject artifacts/*": lambda store: store.delete(ARTIFACT),
    "s3:DeleteObject uploads/*": lambda store: store.delete(UPLOAD),
    "s3:DeleteObject another/*": lambda store: store.delete(ELSEWHERE),
    "s3:ListBucket the bucket": lambda store: (store.older_than(LATER), store.ping(), store.now()),
}
EVERYTHING = {
    "s3:GetObject": ["/*"],
    "s3:PutObject": ["/*"],
    "s3:DeleteObject": ["/*"],
    "s3:ListBucket": [""],
}


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    with MotoServer() as server:
        server.create_bucket()
        for name, permissions in USERS.items():
            server.add_user(name, permissions)
        server.add_user("everything", EVERYTHING)
        server.add_user("all buckets", {"s3:*": ["*"]})
        server.add_user("no listing", {**USERS["client"], "s3:ListBucket": ["/none"]})
        server.enforce_permissions()
        yield server


@pytest.fixture
def everything(server: MotoServer) -> S3ObjectStore:
    """A store that may do everything, with the objects that the actions need."""
    store = S3ObjectStore(server.settings("everything"))
    for key in PLACES.values():
        store.put(key, PICTURE if key == INPUT else MASK)
    return store


class TestWithPermissions(ObjectStoreBehaviour):
    @pytest.fixture
    def object_store(self, server: MotoServer) -> S3ObjectStore:
        return S3ObjectStore(server.settings("everything"))


def is_allowed(user: str, action: str) -> bool:
    name, _, place = action.partition(" ")
    return any(place == (resource.strip("/") or "the bucket") for resource in USERS[user].get(name, []))


def test_the_table_names_all_users_and_actions() -> None:
    assert set(USERS) == {"client", "worker", "diffedit gc"}
    named = {action for permissions in USERS.values() for action in permissions}
    assert named == {action.partition(" ")[0] for action in ACTIONS}
    assert all(is_allowed(user, "s3:ListBucket the bucket") for user in USERS)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("user", USERS)
def test_each_user_can_do_what_the_table_says_and_nothing_else(
    server: MotoServer, everything: S3ObjectStore, user: str, action: str
) -> None:
    store = S3ObjectStore(server.settings(user))
    if is_allowed(user, action):
        ACTIONS[action](store)
        return
    with pytest.raises(StoreRefused, match=rf"AccessDenied.*that the keys may {action.partition(' ')[0]}"):
        ACTIONS[action](store)
    if action.startswith("s3:DeleteObject"):
        assert everything.exists(PLACES[action.partition(" ")[2]])


@pytest.mark.parametrize("user", ["client", "worker"])
def test_a_missing_object_is_told_from_a_refusal(server: MotoServer, user: str) -> None:
    store, missing = S3ObjectStore(server.settings(user)), artifact_key("mask", "cd" * 32, "png")
    assert not store.exists(missing)
    with pytest.raises(ArtifactMissing):
        store.get(missing)


def test_a_user_who_may_not_list_is_told_so(server: MotoServer) -> None:
    settings = server.settings("no listing")
    store = S3ObjectStore(settings)
    for ask in (store.ping, store.now, lambda: store.older_than(LATER)):
        with pytest.raises(StoreRefused, match=r"AccessDenied.*that the keys may s3:ListBucket$"):
            ask()
    assert "s3:ListBucket" in Client(settings).health().object_store


WRONG_KEYS = {
    "InvalidAccessKeyId": {"aws_access_key_id": "AKIAWRONG"},
    "SignatureDoesNotMatch": {"aws_secret_access_key": "wrong"},
    "InvalidToken": {"aws_session_token": "expired"},
}


@pytest.mark.parametrize("code", WRONG_KEYS)
def test_wrong_keys_are_told_from_missing_permissions(server: MotoServer, everything: S3ObjectStore, code: str) -> None:
    store = S3ObjectStore(server.settings("everything", **WRONG_KEYS[code]))
    for ask in (store.ping, store.now, *(lambda action=action: action(store) for action in ACTIONS.values())):
        with pytest.raises(StoreRefused, match=rf"\({code}\); check the AWS keys$"):
            ask()
    # The answer to a HEAD says nothing but its status.
    with pytest.raises(StoreRefused, match="check the AWS keys"):
        store.exists(ARTIFACT)


def test_a_missing_bucket_is_told_from_one_of_others(server: MotoServer) -> None:
    missing = S3ObjectStore(server.settings("all buckets", s3_bucket="elsewhere"))
    with pytest.raises(StoreRefused, match="no bucket 'elsewhere'; create it, or check DIFFEDIT_S3_BUCKET"):
        missing.ping()
    for ask in (lambda: missing.put(INPUT, PICTURE), lambda: missing.get(INPUT), lambda: missing.older_than(LATER)):
        with pytest.raises(StoreRefused, match="create the bucket, or check DIFFEDIT_S3_BUCKET"):
            ask()
    others = S3ObjectStore(server.settings("client", s3_bucket="elsewhere"))
    with pytest.raises(StoreRefused, match="check the AWS keys and DIFFEDIT_S3_BUCKET, and that the keys may"):
        others.ping()


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path, Path]:
    """Return an authority, its certificate, and that of another authority."""
    directory = tmp_path_factory.mktemp("authorities")
    ours, theirs = trustme.CA(), trustme.CA()
    paths = directory / "ours.pem", directory / "theirs.pem"
    for authority, path in zip((ours, theirs), paths, strict=True):
        authority.cert_pem.write_to_path(path)
    return ours, *paths


@pytest.fixture(scope="module")
def tls_server(authorities: tuple[trustme.CA, Path, Path]) -> Iterator[MotoServer]:
    authority, certificate, _ = authorities
    with MotoServer(authority) as server:
        server.create_bucket(verify=str(certificate))
        yield server


class TestOverTls(ObjectStoreBehaviour):
    @pytest.fixture
    def object_store(self, tls_server: MotoServer, authorities, monkeypatch: pytest.MonkeyPatch) -> S3ObjectStore:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authorities[1]))
        return S3ObjectStore(tls_server.settings())


@pytest.mark.parametrize("bundle", [None, "theirs.pem"])
def test_a_server_of_an_unknown_authority_is_refused_with_the_variable_to_set(
    tls_server: MotoServer, authorities, monkeypatch: pytest.MonkeyPatch, bundle: str | None
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    if bundle:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authorities[1].with_name(bundle)))
    settings = tls_server.settings()
    store = S3ObjectStore(settings)
    for ask in (store.ping, lambda: store.put(INPUT, PICTURE), lambda: store.get(INPUT), lambda: store.exists(INPUT)):
        with pytest.raises(StoreRefused, match=r"certificate of the S3 server cannot be verified.*AWS_CA_BUNDLE"):
            ask()
    assert "AWS_CA_BUNDLE" in Client(settings).health().object_store


def test_a_server_with_the_certificate_of_another_host_is_refused(authorities, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authorities[1]))
    with MotoServer(authorities[0], host="s3.example") as server, pytest.raises(StoreRefused, match="certificate"):
        S3ObjectStore(server.settings()).ping()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_bundle_that_cannot_be_read_is_named(
    tls_server: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content:
        bundle.write_text(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with pytest.raises(StoreRefused, match="the file of AWS_CA_BUNDLE cannot be read as certificates"):
        S3ObjectStore(tls_server.settings()).ping()


def test_an_endpoint_of_the_wrong_scheme_is_named(server: MotoServer, tls_server: MotoServer) -> None:
    for each, scheme in ((server, "https"), (tls_server, "http")):
        url = f"{scheme}://127.0.0.1:{each.port}"
        with pytest.raises(StoreUnavailable, match="check DIFFEDIT_S3_ENDPOINT_URL"):
            S3ObjectStore(each.settings(s3_endpoint_url=url)).ping()
