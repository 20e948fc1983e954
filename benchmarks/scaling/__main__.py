"""Simulate a day of traffic under several scalers, over a real Valkey and the real job store.

    python -m benchmarks.scaling                    (all scenarios; some minutes each)
    python -m benchmarks.scaling redis prometheus   (some of them)

What is real: Valkey, the job store with all its scripts, the queues, the messages, the numbers that a scaler reads.
What is simulated: time, the stages (they only wait), nodes and pods, and KEDA and the HPA, by the rules that they
publish (`autoscaler.py`). Nothing here ran on Kubernetes. The same seed gives the same numbers.
"""

import argparse
import json
from pathlib import Path

from benchmarks.scaling.report import Outcome, chart, markdown, outcome_of
from benchmarks.scaling.scenarios import SCENARIOS
from benchmarks.scaling.simulation import simulate
from benchmarks.scaling.traffic import a_day

PICTURE = Path("docs/images/scaling.png")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m benchmarks.scaling"
    )
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(names)}; all without a name")
    parser.add_argument("--seed", type=int, default=0, help="of the traffic. Default: 0")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="how many of the jobs of a day there are. Default: 1.0"
    )
    parser.add_argument("--load", type=Path, help="show the numbers of an earlier --json, and simulate nothing")
    parser.add_argument("--json", type=Path, help="a file for the numbers, with their course over the day")
    parser.add_argument("--chart", type=Path, help=f"a file for the chart, such as {PICTURE}")
    args = parser.parse_args()
    if unknown := set(args.names) - set(names):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(names)}")
    return args


def simulated(args: argparse.Namespace) -> list[Outcome]:
    """Simulate the scenarios one after the other. What is done is in the file of --json."""
    outcomes: list[Outcome] = []
    for scenario in SCENARIOS:
        if not args.names or scenario.name in args.names:
            outcome = outcome_of(simulate(scenario, a_day(args.seed, args.scale)))
            cost = f"{outcome.wall_seconds:.0f} s, of which Python computed {outcome.cpu_share:.0%}"
            print(f"{scenario.name}: {cost}", flush=True)
            outcomes.append(outcome)
            if args.json:
                args.json.write_text(json.dumps([each.as_json() for each in outcomes]))
    return outcomes


def main() -> None:
    args = parse_arguments()
    if args.load:
        outcomes = [Outcome(**fields) for fields in json.loads(args.load.read_text())]
        outcomes = [each for each in outcomes if not args.names or each.name in args.names]
    else:
        outcomes = simulated(args)
    print(markdown(outcomes))
    if args.chart:
        chart(outcomes).savefig(args.chart, dpi=120)


if __name__ == "__main__":
    main()
