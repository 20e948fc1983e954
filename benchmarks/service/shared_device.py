"""Jobs that share the passes of a simulated GPU, against what its pass times allow.

python -m benchmarks.service.shared_device      (all devices and numbers of jobs, as a table; three minutes)
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from benchmarks.harness.concurrency import seconds_of_calls
from benchmarks.harness.pass_times import GUIDE, PassTimes, allowed_rate, max_samples
from benchmarks.harness.results import ResultRow, measurement
from benchmarks.harness.simulated_device import (
    DEVICES,
    DIFFUSION_STAGES,
    SimulatedDenoiser,
    run_passes,
    use_one_thread,
)
from diffedit_worker.diffusion.batching import SharedDenoiser


def shared_device(jobs: int = 8) -> Iterator[ResultRow]:
    """Measure the throughput of jobs in this process that share the passes of each simulated device."""
    # Warm up: the first use of torch's operations takes a second.
    run_jobs(PassTimes(0, 0), 1)
    for name, times in DEVICES.items():
        alone, allowed = (allowed_rate(times, GUIDE, each, max_samples(each)) for each in (1, jobs))
        yield ResultRow(
            f"throughput of {jobs} jobs that share passes, in process ({name}, simulated)",
            measurement(run_jobs(times, jobs).edits_per_second / allowed),
            f"1.00 = what its pass times allow, {allowed / alone:.2f} of one job",
            target="0.90 or more",
        )


class Run(NamedTuple):
    """What jobs that shared passes have done."""

    edits_per_second: float
    samples_per_pass: float


def run_jobs(times: PassTimes, jobs: int) -> Run:
    """Let `jobs` threads do the work of one edit each, with the guide's settings.

    They begin at different stages, as the jobs of a worker do, and each does all three. All have equally many passes,
    so they share to the end.
    """
    use_one_thread()
    device = SimulatedDenoiser(times)
    shared = SharedDenoiser(device, max_samples(jobs))
    seconds = seconds_of_calls(partial(_run_stages, shared), jobs, at_once=jobs)
    return Run(jobs / seconds, sum(device.samples) / len(device.samples))


def _run_stages(denoiser: SharedDenoiser, number: int) -> None:
    first = number % len(DIFFUSION_STAGES)
    for stage in (*DIFFUSION_STAGES[first:], *DIFFUSION_STAGES[:first]):
        run_passes(stage, denoiser)


def main() -> None:
    print("| device (simulated) | jobs | edits per hour | of what pass times allow | of one job | samples a pass |")
    print("|---|---|---|---|---|---|")
    run_jobs(PassTimes(0, 0), 1)
    for name, times in DEVICES.items():
        alone = 0.0
        for jobs in (1, 2, 4, 8, 16):
            rate, samples = run_jobs(times, jobs)
            alone = alone or rate
            share = rate / allowed_rate(times, GUIDE, jobs, max_samples(jobs))
            print(
                f"| {name} | {jobs} | {3600 * rate:.0f} | {share:.2f} | {rate / alone:.2f} | {samples:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
