"""What only a worker reads from its environment."""

import pytest

from diffedit import InvalidRequest, Settings, Stage
from diffedit_worker.settings import StageTimeouts, WorkerSettings

ENVIRONMENT = {
    "DIFFEDIT_REDIS_URL": "redis://:s3cret@redis.example:6380/2",
    "DIFFEDIT_PROFILE": "sd21",
    "DIFFEDIT_PROFILES": "/etc/profiles.toml",
    "DIFFEDIT_DEVICE": "cuda:1",
    "DIFFEDIT_DTYPE": "bfloat16",
    "DIFFEDIT_VAE_DTYPE": "float16",
    "DIFFEDIT_PRELOAD": "1",
    "DIFFEDIT_WORKER_TTL": "5",
    "DIFFEDIT_MAX_ATTEMPTS": "2",
    "DIFFEDIT_CACHE_BYTES": "1000",
    "DIFFEDIT_S3_RETRY_TIMEOUT": "7.5",
    "DIFFEDIT_STAGE_TIMEOUT": "100,caption=60,edit=3600",
}


def test_each_field_is_read_from_its_variable() -> None:
    settings = WorkerSettings.from_env(ENVIRONMENT)
    assert (settings.profile, str(settings.profiles_file)) == ("sd21", "/etc/profiles.toml")
    assert (settings.device, settings.preload) == ("cuda:1", True)
    assert (settings.dtype, settings.vae_dtype) == ("bfloat16", "float16")
    assert (settings.worker_ttl, settings.max_attempts) == (5, 2)
    assert (settings.cache_bytes, settings.s3_retry_timeout) == (1000, 7.5)
    assert settings.redis_url == Settings.from_env(ENVIRONMENT).redis_url


def test_a_client_does_not_read_a_workers_variables() -> None:
    Settings.from_env({"DIFFEDIT_STAGE_TIMEOUT": "soon", "DIFFEDIT_WORKER_TTL": "soon"})


@pytest.mark.parametrize(
    ("text", "timeouts"),
    [
        ("100", [100, 100, 100]),
        ("100,caption=60,edit=3600", [60, 100, 3600]),
        ("0.5,mask=2", [0.5, 2, 0.5]),
    ],
)
def test_a_stage_may_have_its_own_timeout(text: str, timeouts: list[float]) -> None:
    of = WorkerSettings.from_env({"DIFFEDIT_STAGE_TIMEOUT": text}).stage_timeouts.of
    assert [of(stage) for stage in (Stage.CAPTION, Stage.MASK, Stage.EDIT)] == timeouts


def test_timeouts_may_be_given_as_a_number_or_an_object() -> None:
    assert WorkerSettings(stage_timeouts=5).stage_timeouts == StageTimeouts(default=5)
    timeouts = StageTimeouts(stages={Stage.MASK: 3})
    assert WorkerSettings(stage_timeouts=timeouts).stage_timeouts == timeouts


def test_the_fleet_has_the_limits_of_the_settings() -> None:
    limits = WorkerSettings.from_env(ENVIRONMENT).limits
    assert (limits.max_attempts, limits.worker_ttl) == (2, 5)


def test_a_stage_whose_steps_are_in_time_keeps_its_lock_for_a_day() -> None:
    assert WorkerSettings.from_env({**ENVIRONMENT, "DIFFEDIT_STAGE_TIMEOUT": "1"}).limits.lock_timeout == 86_400


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DIFFEDIT_STAGE_TIMEOUT", "soon"),
        ("DIFFEDIT_STAGE_TIMEOUT", "-1"),
        ("DIFFEDIT_STAGE_TIMEOUT", "inf"),
        ("DIFFEDIT_STAGE_TIMEOUT", "edit=5"),
        ("DIFFEDIT_STAGE_TIMEOUT", "100,edit"),
        ("DIFFEDIT_STAGE_TIMEOUT", "100,edit="),
        ("DIFFEDIT_STAGE_TIMEOUT", "100,paint=5"),
        ("DIFFEDIT_STAGE_TIMEOUT", "100,edit=-1"),
        ("DIFFEDIT_STAGE_TIMEOUT", "100,edit=1=2"),
        ("DIFFEDIT_WORKER_TTL", "0"),
        ("DIFFEDIT_MAX_ATTEMPTS", "many"),
        ("DIFFEDIT_CACHE_BYTES", "-1"),
        ("DIFFEDIT_DTYPE", "int8"),
        ("DIFFEDIT_VAE_DTYPE", "half"),
        ("DIFFEDIT_PRELOAD", "perhaps"),
    ],
)
def test_an_error_names_the_variable_and_not_its_value(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=f"the environment is not usable: {name}: ") as caught:
        WorkerSettings.from_env({name: value})
    assert value not in str(caught.value)


def test_an_error_about_timeouts_shows_the_form_and_the_stages() -> None:
    with pytest.raises(InvalidRequest, match=r"like 1800 or 1800,caption=60,edit=3600; .* caption, prompts, embed"):
        WorkerSettings.from_env({"DIFFEDIT_STAGE_TIMEOUT": "100;edit=5"})
