"""`diffedit webhooks`, and what the other commands show of webhooks."""

from pathlib import Path

import pytest

from diffedit import Settings
from diffedit.webhooks import command
from diffedit.webhooks.signing import secrets_of
from tests.support.cli import Cli, png

URL = "https://example.com/hooks"


def test_a_new_secret_signs_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Cli()("webhooks", "--new-secret").stdout.strip()
    cli = Cli(webhook_secrets=secret)
    monkeypatch.setattr("diffedit.cli.main.make_client", lambda: cli.client)
    assert cli("webhooks", "--secrets").stdout.split() == [secret]
    assert cli("webhooks", "--secrets-of", "u1").stdout.split() == secrets_of(secret, "u1")


def test_the_sender_needs_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.Settings, "from_env", lambda: Settings())
    assert "--new-secret" in Cli()("webhooks", code=2).stderr


def test_the_status_shows_what_became_of_the_events(cli: Cli) -> None:
    job = cli.submit(webhook=URL)
    assert cli.error("resend-webhook", job.id, code=2)["error"] == "invalid_request"
    job.cancel()
    outbox = cli.client._backend.outbox
    outbox.settle(outbox.claim(60), "the answer was 500", 60)
    shown = cli("status", job.id).stdout
    assert "edit.cancelled" in shown and "pending, 1 attempts, the answer was 500" in shown
    assert outbox.claim(60) is None
    assert cli.json("resend-webhook", job.id) == {"id": job.id, "resent": True}
    assert outbox.claim(60).job_id == job.id


def test_a_webhook_is_an_option_of_an_edit(cli: Cli, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(png())
    words = ("edit", picture, "--source", "a", "--target", "b", "--no-wait", "--webhook")
    job_id = cli(*words, URL).stdout.strip()
    assert cli.client.job(job_id).status().options.webhook == URL
    assert "webhook" in cli(*words, "example.com", code=2).stderr
