"""Children of a process whose client was used before: each gets the result of its own job."""

from collections.abc import Callable
from functools import partial

from PIL import Image

from diffedit import Client
from tests.support.factories import QUICK
from tests.support.fake_service import png
from tests.support.forking import in_children

COLOURS = [(30 + 30 * number, 20, 255 - 30 * number) for number in range(6)]
OUTSIDE = (60, 60)
"""A pixel outside of the mask, which is the original's own in each result."""


def test_children_that_are_forked_from_a_used_client_get_the_results_of_their_own_jobs(client: Client) -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 16, 16))
    jobs = [
        client.edit(png((64, 64), colour), source_prompt="a dog", target_prompt="a cat", mask=mask, **QUICK)
        for colour in COLOURS
    ]
    for job in jobs:
        job.wait(timeout=60)

    def pixel_of(job_id: str) -> tuple[int, int, int]:
        pixel: tuple[int, int, int] = client.job(job_id).result(30).image.getpixel(OUTSIDE)
        return pixel

    calls: list[Callable[[], object]] = [partial(pixel_of, job.id) for job in jobs]
    for _ in range(8):
        assert pixel_of(jobs[0].id) == COLOURS[0]  # the parent leaves open connections
        assert in_children(calls) == COLOURS


def test_children_submit_and_watch_jobs_of_their_own(client: Client) -> None:
    def edit(seed: int) -> tuple[str, int]:
        job = client.edit(png((64, 64)), source_prompt="a dog", target_prompt="a cat", **{**QUICK, "seed": seed})
        *_, status = job.watch(timeout=60)
        return status.state.value, status.request.params.seed

    client.edit(png((64, 64)), source_prompt="a dog", target_prompt="a cat", **QUICK).wait(timeout=60)
    assert in_children([partial(edit, seed) for seed in range(6)]) == [("succeeded", seed) for seed in range(6)]
