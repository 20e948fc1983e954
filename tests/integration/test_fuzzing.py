"""Half a minute of `make fuzz`: nothing that a stranger sends ends a process, costs too much, or raises a raw error."""

from pathlib import Path

import pytest

from benchmarks.fuzz.__main__ import fuzz
from benchmarks.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", [target.name for target in TARGETS])
def test_no_input_of_a_stranger_does_harm(name: str, tmp_path: Path) -> None:
    findings = fuzz([name], 30 / len(TARGETS), 20261128, tmp_path, at_least=100)[name]
    assert findings.failures == []
    assert findings.cases > 20 and findings.accepted > 0
