"""The settings of a client are read from the environment and show no secrets."""

import pytest
from pydantic import ValidationError

from diffedit import InvalidRequest, Settings

ENVIRONMENT = {
    "DIFFEDIT_REDIS_URL": "rediss://user:s3cret@redis.example:6380/2",
    "DIFFEDIT_S3_BUCKET": "pictures",
    "DIFFEDIT_S3_ENDPOINT_URL": "https://s3.example",
    "DIFFEDIT_PROFILE": "sd21",
    "DIFFEDIT_NAMESPACE": "shop.eu-1",
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "t0psecret",
    "AWS_SESSION_TOKEN": "t0ken",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "HOME": "/home/somebody",
}


def test_each_field_is_read_from_its_variable() -> None:
    settings = Settings.from_env(ENVIRONMENT)
    assert settings.redis_url.get_secret_value() == ENVIRONMENT["DIFFEDIT_REDIS_URL"]
    assert (settings.s3_bucket, settings.s3_endpoint_url) == ("pictures", "https://s3.example")
    assert (settings.profile, settings.aws_region) == ("sd21", "eu-central-1")
    assert settings.namespace == "shop.eu-1"


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings.from_env({"DIFFEDIT_PROFILE": "", "DIFFEDIT_S3_BUCKET": ""}) == Settings()


def test_settings_do_not_show_secrets() -> None:
    settings = Settings.from_env(ENVIRONMENT)
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        for secret in ("s3cret", "t0psecret", "t0ken"):
            assert secret not in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DIFFEDIT_PROFILE", "../x"),
        ("DIFFEDIT_S3_BUCKET", "x"),
        ("DIFFEDIT_RETENTION", "soon"),
        ("DIFFEDIT_NAMESPACE", "shop:eu"),
        ("DIFFEDIT_NAMESPACE", "shop\n"),
        ("DIFFEDIT_NAMESPACE", "s" * 65),
    ],
)
def test_an_error_names_the_variable_and_not_its_value(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match="environment is not usable") as caught:
        Settings.from_env({name: value})
    assert value not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DIFFEDIT_REDIS_URL", "redis://:hunter2/x@host:6379/0"),
        ("DIFFEDIT_REDIS_URL", "hunter2:6379"),
        ("DIFFEDIT_REDIS_URL", "http://hunter2"),
        ("DIFFEDIT_REDIS_URL", "redis+sentinel://:hunter2@host"),
        ("DIFFEDIT_REDIS_URL", "redis+sentinel://:hunter2/x@host/main"),
        ("DIFFEDIT_REDIS_URL", "redis+sentinel://:hunter2@host:1,/main"),
        ("DIFFEDIT_REDIS_URL", "redis+sentinel://:hunter2@host:0/main"),
        ("DIFFEDIT_REDIS_URL", "redis+sentinel://:hunter2@host/main/one"),
        ("DIFFEDIT_REDIS_URL", "redis+sentinel://a:hunter2@host,b:hunter2@other/main"),
        ("DIFFEDIT_REDIS_URL", "redis+sentinel:///main?sentinel_password=hunter2"),
        ("DIFFEDIT_REDIS_URL", "http+sentinel://hunter2/main"),
        ("DIFFEDIT_REDIS_URL", "redis+sentinel://host/main?password=hunter2"),
        ("DIFFEDIT_S3_ENDPOINT_URL", "hunter2:9000"),
        ("DIFFEDIT_S3_ENDPOINT_URL", "https://"),
    ],
)
def test_an_error_about_a_malformed_url_does_not_show_it(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{name}: must (be|end with)") as caught:
        Settings.from_env({name: value})
    assert "hunter2" not in str(caught.value)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().s3_bucket = "other"


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="redis_urll"):
        Settings(redis_urll="redis://127.0.0.1:6379/0")


def test_of_several_variables_for_one_setting_the_first_counts() -> None:
    regions = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"}
    endpoints = {
        "AWS_ENDPOINT_URL": "http://third:1",
        "AWS_ENDPOINT_URL_S3": "http://second:1",
        "DIFFEDIT_S3_ENDPOINT_URL": "http://first:1",
    }
    settings = Settings.from_env(regions | endpoints)
    assert (settings.aws_region, settings.s3_endpoint_url) == ("eu-west-1", "http://first:1")
    del endpoints["DIFFEDIT_S3_ENDPOINT_URL"]
    assert Settings.from_env(endpoints).s3_endpoint_url == "http://second:1"


@pytest.mark.parametrize(
    "url",
    [
        "https://account.r2.example/bucket",
        "http://s3:9000/bucket/",
        "https://s3.example?region=eu",
        "http://s3:9000/a/b",
    ],
)
def test_an_endpoint_with_the_bucket_in_it_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="the name of the bucket goes into DIFFEDIT_S3_BUCKET"):
        Settings.from_env({"DIFFEDIT_S3_ENDPOINT_URL": url})


def test_the_addressing_style_is_path_for_servers_of_ones_own() -> None:
    endpoint = {"DIFFEDIT_S3_ENDPOINT_URL": "http://s3:9000/"}
    assert Settings.from_env(endpoint).addressing_style == "path"
    assert Settings.from_env({}).addressing_style == "auto"
    assert Settings.from_env({**endpoint, "DIFFEDIT_S3_ADDRESSING_STYLE": "virtual"}).addressing_style == "virtual"
    with pytest.raises(InvalidRequest, match="DIFFEDIT_S3_ADDRESSING_STYLE"):
        Settings.from_env({"DIFFEDIT_S3_ADDRESSING_STYLE": "host"})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host:6379/0", "redis://:p%40%2F%3A%25%20%C3%A9@host:6379/0"),
        (
            "rediss://user@host/2?ssl_ca_certs=/ca.pem",
            "rediss://user:p%40%2F%3A%25%20%C3%A9@host/2?ssl_ca_certs=/ca.pem",
        ),
        ("redis://:own@host:6379/0", "redis://:own@host:6379/0"),
        ("redis+sentinel://a:1,[::1]:2/main/0", "redis+sentinel://:p%40%2F%3A%25%20%C3%A9@a:1,[::1]:2/main/0"),
        (None, "redis://:p%40%2F%3A%25%20%C3%A9@127.0.0.1:6379/0"),
    ],
)
def test_a_password_of_any_characters_becomes_part_of_a_url_without_one(url: str | None, expected: str) -> None:
    environment = {"DIFFEDIT_REDIS_PASSWORD": "p@/:% é"} | ({"DIFFEDIT_REDIS_URL": url} if url else {})
    settings = Settings.from_env(environment)
    assert settings.redis_url.get_secret_value() == expected
    assert "p@/" not in repr(settings) + settings.model_dump_json()


def test_a_sentinel_url_is_split_into_the_sentinels_and_the_server() -> None:
    url = "redis+sentinel://us%40r:p%2Fw%3A@one:1,[::1],three:3/Main.eu-1/3?sentinel_password=s%20%26"
    redis = Settings.from_env({"DIFFEDIT_REDIS_URL": url}).redis
    assert redis.server == "redis://us%40r:p%2Fw%3A@Main.eu-1/3"
    assert redis.sentinels is not None and redis.sentinels.primary == "Main.eu-1" and not redis.tls
    addresses = ["one:1", "[::1]:26379", "three:3"]
    assert redis.sentinels.urls == tuple(f"redis://:s%20%26@{address}/" for address in addresses)
    assert "p%2Fw" not in repr(redis) and "s%20" not in repr(redis)


def test_the_tls_options_of_a_sentinel_url_are_those_of_sentinels_and_server() -> None:
    url = "rediss+sentinel://one/main?ssl_ca_certs=/own ca.pem&sentinel_username=u&sentinel_password=p"
    redis = Settings.from_env({"DIFFEDIT_REDIS_URL": url}).redis
    assert redis.tls and redis.server == "rediss://main/0?ssl_ca_certs=%2Fown+ca.pem"
    assert redis.sentinels is not None
    assert redis.sentinels.urls == ("rediss://u:p@one:26379/?ssl_ca_certs=%2Fown+ca.pem",)
