"""What edits cost on a GPU: a table in Markdown, within ten minutes, without network.

    python -m benchmarks.gpu --out gpu.md       (on a machine with a CUDA device)
    python -m benchmarks.gpu --tiny             (the same code at a tiny size, for a CPU)

Models have the shapes of Stable Diffusion 1.5, 2.1 and XL and random weights. The most valuable measurements come
first, and those for which no time is left are left out. Each row is printed and written as soon as it is there.
"""

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path

import torch
from diffusers.utils import logging as diffusers_logging

from benchmarks.gpu.edits import SETTINGS, edit_rows, graphed_edit_rows
from benchmarks.gpu.passes import attention_rows, compile_rows, graph_rows, pass_rows, shallow_rows
from benchmarks.gpu.precision import bundled_rows, shaped_rows
from benchmarks.gpu.shapes import SHAPES, ShapedModel
from benchmarks.gpu.table import Row, Rows, Table
from benchmarks.gpu.timing import Deadline
from benchmarks.gpu.vae import vae_rows
from benchmarks.harness.pass_times import PassTimes
from diffedit_worker.models.devices import resolve_device, resolve_dtype
from diffedit_worker.models.progress_bars import disable_progress_bars

log = logging.getLogger(__name__)

PARTS = ("passes", "edits", "precision", "vae", "graphs", "attention", "compile")


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        samples: the samples of a pass.
        few_samples: those of comparisons that take longer.
        jobs: the numbers of jobs that share passes.
        steps: the steps of an edit; None for those of its settings.
        seeds: the edits whose drift is measured.
    """

    samples: Sequence[int] = (1, 2, 4, 8, 16, 32)
    few_samples: Sequence[int] = (2, 16)
    jobs: Sequence[int] = (1, 8, 4, 16, 2)
    steps: int | None = None
    seeds: int = 8


TINY = Scale(samples=(1, 2), few_samples=(2,), jobs=(1, 2), steps=4, seeds=1)

Task = tuple[str, Callable[[Deadline], Rows]]
"""A part, and what measures one piece of it."""


def tasks(device: torch.device, scale: Scale, models: Callable[[str], ShapedModel]) -> Iterator[Task]:
    """Return the measurements, the most valuable first. `models` returns the model of a shape, by name."""
    names = list(SHAPES)
    settings = [replace(each, num_inference_steps=scale.steps or each.num_inference_steps) for each in SETTINGS]

    steps = {"num_inference_steps": scale.steps} if scale.steps else {}
    times: dict[str, PassTimes] = {}

    def passes(name: str) -> Iterator[Task]:
        yield "passes", lambda deadline: pass_rows(models(name), scale.samples, deadline, times)
        yield "passes", lambda _: shallow_rows(models(name), scale.few_samples)

    def edits(name: str) -> Iterator[Task]:
        # diffusers has the pipeline for models with one text encoder only.
        upstream = name != "SDXL"
        yield (
            "edits",
            lambda deadline: edit_rows(
                models(name), settings, scale.jobs, deadline, upstream=upstream, times=times.get(name)
            ),
        )

    def graphs(name: str) -> Iterator[Task]:
        yield "graphs", lambda deadline: graph_rows(models(name), scale.samples, deadline)
        if device.type == "cuda":
            rest = settings[0], scale.jobs, scale.samples
            yield "graphs", lambda deadline: graphed_edit_rows(models(name), *rest, deadline)

    def vae(name: str) -> Iterator[Task]:
        yield "vae", lambda _: vae_rows(models(name))

    def attention(name: str) -> Iterator[Task]:
        yield "attention", lambda deadline: attention_rows(models(name), scale.few_samples, deadline)

    def compiled(name: str) -> Iterator[Task]:
        yield "compile", lambda deadline: compile_rows(models(name), scale.few_samples, deadline)

    def precision() -> Iterator[Task]:
        yield "precision", lambda _: bundled_rows(device, "guide", scale.seeds, **steps)
        yield "precision", lambda _: bundled_rows(device, "default", scale.seeds, **steps)
        yield "precision", lambda _: shaped_rows(models(names[0]), settings[0])

    return chain(
        *map(passes, names),
        *map(edits, names[:2]),
        precision(),
        *map(vae, names),
        graphs(names[0]),
        *map(edits, names[2:]),
        *map(attention, names),
        *map(graphs, names[1:]),
        *map(compiled, names),
    )


def run(table: Table, scale: Scale, deadline: Deadline, *, tiny: bool = False, only: str | None = None) -> None:
    """Measure into the table until the deadline. `only` names one part."""
    device = table.device
    dtype = resolve_dtype(device)

    @cache
    def model(name: str) -> ShapedModel:
        return ShapedModel(SHAPES[name].tiny() if tiny else SHAPES[name], device, dtype)

    for part, measure in tasks(device, scale, model):
        if only in (None, part):
            if deadline.left <= 0:
                print(f"the time limit of {deadline.seconds:.0f} s leaves no time for more")
                return
            try:
                for row in measure(deadline):
                    table.add(row)
            except Exception as error:
                # The run is unattended, and on a machine that is lent for minutes the other parts must not be lost.
                log.exception("the part %s failed", part)
                table.add(Row("", part, "", f"failed: {type(error).__name__}"))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m benchmarks.gpu"
    )
    parser.add_argument("--device", help='"cuda", "cuda:1", "mps" or "cpu"; by default the best one of the machine')
    parser.add_argument("--tiny", action="store_true", help="a tenth of the widths and a few steps: seconds on a CPU")
    parser.add_argument("--only", choices=PARTS, help="one part of the measurements; all by default")
    parser.add_argument("--time-limit", type=float, default=540, metavar="SECONDS", help="540 by default")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the table; it is printed in any case")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    disable_progress_bars()
    # diffusers warns of each conversion to another number type, and that its pipeline is deprecated.
    diffusers_logging.set_verbosity_error()
    table = Table(resolve_device(args.device), args.out)
    run(table, TINY if args.tiny else Scale(), Deadline(args.time_limit), tiny=args.tiny, only=args.only)
    print(table.markdown())


if __name__ == "__main__":
    main()
