"""Edit every picture of a folder in the background, and save what succeeds.

python examples/edit_folder.py pictures/ "a bowl of pears" --out edited/
"""

import argparse
import hashlib
from pathlib import Path

from diffedit import Client, InvalidRequest, JobError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", help="what each picture should show")
    parser.add_argument("--out", type=Path, default=Path("edited"))
    asked = parser.parse_args()

    client = Client.from_env()
    jobs = {}
    for path in sorted(path for path in asked.folder.iterdir() if path.is_file()):
        try:
            # A hash of the picture and the target: running this again queues nothing twice.
            key = hashlib.sha256(path.read_bytes() + asked.target.encode()).hexdigest()
            jobs[path.name] = client.edit(path, target_prompt=asked.target, idempotency_key=key)
        except InvalidRequest as error:
            print(f"{path.name}: skipped, {error}")
    for name, job in jobs.items():
        try:
            paths = job.result(timeout=3600).save(asked.out / Path(name).stem)
            print(f"{name}: {paths['result']}")
        except JobError as error:
            print(f"{name}: {error}")


if __name__ == "__main__":
    main()
