"""Looks for inputs of strangers that end a process, raise an error that is not ours, or take too much time or memory.

    make fuzz           (or: python -m benchmarks.fuzz --seconds 600 --seed 1)

Valid inputs are changed at random: pictures (upload and mask), artifacts, job records, Celery messages. Each case runs
in a child process that is measured. The same seed gives the same cases. What fails is written to --out, with the
reason; `--again FILE` runs it alone. Rows:

    cases               and how many of them were accepted
    longest, largest    seconds of processor time and MiB of memory of a case
    of the limit        how much of what a case may cost the costliest took; a picture's limit depends on its pixels
    failures            the exit code is 1 unless this is 0
"""

import argparse
import logging
import sys
import warnings
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.fuzz.cases import Findings, data_of, measure, run, save
from benchmarks.fuzz.targets import TARGETS

MOST = 20
"""Failures of a target that are written, at most. Of those with the same reason, only the first one is."""


def fuzz(names: list[str], seconds: float, seed: int, out: Path, at_least: int = 0) -> dict[str, Findings]:
    """Fuzz these targets, each for an equal share of the seconds and `at_least` cases. Write what fails into `out`."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    found = {}
    for target in TARGETS:
        if target.name in names:
            found[target.name] = findings = run(target, seed, seconds=seconds / len(names), at_least=at_least)
            for reason, number in findings.examples[:MOST]:
                save(reason, data_of(target, target.seeds(), seed, number), out, f"{target.name}-{seed}-{number}")
    return found


def report(found: dict[str, Findings]) -> Table:
    """Return a table with a row for each target."""
    table = Table("target", "cases", "accepted", "longest", "largest", "of the limit", "failures")
    for name, each in found.items():
        longest, largest = f"{each.longest[0]:.2f} s", f"{each.largest[0]:.0f} MiB"
        share, failures = f"{each.nearest[0]:.0%}", str(len(each.failures))
        table.add_row(name, str(each.cases), str(each.accepted), longest, largest, share, failures)
    return table


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m benchmarks.fuzz"
    )
    names = [target.name for target in TARGETS]
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--targets", nargs="+", choices=names, default=names)
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="directory of the inputs that failed")
    parser.add_argument("--again", type=Path, help="run one of these inputs, in this process")
    return parser.parse_args()


def main() -> None:
    args, console = parse_arguments(), Console(width=120)
    if args.again:
        (target,) = [each for each in TARGETS if each.name == args.again.name.partition("-")[0]]
        cost, reason, accepted = measure(target, args.again.read_bytes())
        console.print(f"{reason or 'accepted' if reason or accepted else 'refused'}; {cost}")
        sys.exit(bool(reason))
    found = fuzz(args.targets, args.seconds, args.seed, args.out)
    console.print(report(found))
    for name, findings in found.items():
        for reason, number in findings.examples[:MOST]:
            console.print(f"python -m benchmarks.fuzz --again {args.out}/{name}-{args.seed}-{number}: {reason}")
    sys.exit(any(findings.failures for findings in found.values()))


if __name__ == "__main__":
    main()
