"""The table of results, which is written again after each row."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch

HEADER = "| model | measurement | setting | result | ratio |\n|---|---|---|---|---|"

NO_MEMORY = "out of memory"
"""The result of what the device has too little memory for."""


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        measurement: what was measured.
        setting: what distinguishes this row from the others of the same measurement.
        result: the number with its unit, or why there is none.
        ratio: the number against that of another setting, and which.
    """

    model: str
    measurement: str
    setting: str
    result: str
    ratio: str = ""

    def __str__(self) -> str:
        return f"| {self.model} | {self.measurement} | {self.setting} | {self.result} | {self.ratio} |"


Rows = Iterator[Row]


@dataclass
class Table:
    """All rows so far. `out` is the file that holds them; without it they are only printed."""

    device: torch.device
    out: Path | None = None
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        print(row, flush=True)
        if self.out:
            self.out.write_text(self.markdown())

    def markdown(self) -> str:
        """Return the file: the device, the versions, and the table."""
        software = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers"))
        rows = "\n".join(map(str, self.rows))
        return (
            f"# Results on {device_name(self.device)}\n\n"
            "Written by `python -m benchmarks.gpu`: models of Stable Diffusion's shapes with random weights, and the\n"
            f"bundled model. Python {platform.python_version()}, {software}, CUDA {torch.version.cuda or 'none'}.\n\n"
            f"{HEADER}\n{rows}\n"
        )


def device_name(device: torch.device) -> str:
    """Return the device's name for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device} ({platform.machine()})"
