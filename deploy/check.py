"""Whether the files for deployments have the form that the programs which read them expect:    make check-deploy

- each overlay is built by kustomize; its resources are checked by Kubernetes' own schemas, strictly, those of KEDA and
  of the Prometheus operator by the schemas of their definitions;
- the Dockerfiles are checked by hadolint;
- the files that are made from others are up to date.

No cluster, no container engine and no Grafana takes part: this says nothing about whether they run.
"""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.generated import generated
from deploy.manifests import OVERLAYS, problems, program, resources

ROOT = Path(__file__).parents[1]
DOCKERFILES = sorted((ROOT / "docker").glob("*Dockerfile"))


def all_problems() -> Iterator[str]:
    """Yield each problem as a line."""
    with ThreadPoolExecutor() as threads:
        built = list(threads.map(resources, OVERLAYS))
    for overlay, found in zip(OVERLAYS, built, strict=True):
        for resource in found:
            yield from (f"{overlay.name}: {problem}" for problem in problems(resource))
    lint = subprocess.run([program("hadolint"), *DOCKERFILES], capture_output=True, text=True, timeout=60)
    yield from (lint.stdout + lint.stderr).splitlines()
    for path, text in generated().items():
        if not path.exists() or path.read_text() != text:
            yield f"{path.relative_to(ROOT)} is not up to date; run `python -m deploy`"


if __name__ == "__main__":
    found = list(all_problems())
    print(*found or [f"{len(OVERLAYS)} overlays and {len(DOCKERFILES)} Dockerfiles have the right form"], sep="\n")
    sys.exit(bool(found))
