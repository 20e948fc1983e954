"""The page of faults has a row for each fault that the command knows."""

from benchmarks.fault_matrix.__main__ import COLUMNS, PAGE
from benchmarks.fault_matrix.faults import FAULTS


def test_the_page_has_a_row_for_each_fault() -> None:
    table = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert table[0] == f"| {' | '.join(COLUMNS)} |"
    assert [line.split(" | ")[:3] for line in table[1:]] == [
        [f"| {fault.server}", fault.name, fault.cause] for fault in FAULTS
    ]
