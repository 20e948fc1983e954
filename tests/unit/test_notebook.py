"""What notebooks show of jobs and results."""

import re

from PIL import Image

from diffedit import Artifact, testing
from tests.support.fake_service import TEXTS, png

NASTY = "<b>pears</b> & \x1b[31m"


def test_a_job_shows_its_state_and_its_error() -> None:
    client = testing.memory_client()
    job = client.edit(png(), **TEXTS)
    assert "<progress" in job.status()._repr_html_() and "queued" in job.status()._repr_html_()
    testing.fail(job, "empty_mask", NASTY)
    shown = job.status()._repr_html_()
    assert "empty_mask: &lt;b&gt;pears&lt;/b&gt; &amp; \ufffd[31m" in shown and "<progress" not in shown


def test_a_result_shows_three_pictures_and_what_was_asked_for() -> None:
    client = testing.memory_client()
    job = client.edit(png(), source_prompt="a bowl", target_prompt="<b>pears</b> & more")
    testing.succeed(job, Image.new("RGB", (32, 24), "blue"))
    shown = job.result()._repr_html_()
    assert re.findall(r'alt="(\w+)"', shown) == ["original", "mask", "result"]
    assert shown.count("data:image/webp;base64,") == 3 and "<b>" not in shown
    preview = client.preview_mask(png(), **TEXTS)
    testing.succeed(preview)
    assert re.findall(r'alt="(\w+)"', preview.result()._repr_html_()) == ["original", "mask"]


def test_a_result_that_is_gone_shows_why() -> None:
    client = testing.memory_client()
    job = client.edit(png(), **TEXTS)
    testing.succeed(job)
    client._object_store.delete(job.status().artifact_keys[Artifact.RESULT])
    assert "artifact_missing" in job.result()._repr_html_()
