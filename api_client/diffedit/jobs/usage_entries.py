"""What the hash of a day says about usage: `[owner, profile, measure]` as JSON -> how much."""

import json
import math
from collections.abc import Mapping
from datetime import date

from diffedit.contract.usage import MEASURES, Usage


def usage_in(day: date, fields: Mapping[str, str]) -> list[Usage]:
    """Return the usage of a day, by owner and profile. What cannot be read, or is of a newer version, is left out."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for field, text in fields.items():
        try:
            owner, profile, measure = json.loads(field)
            amount = float(text)
        except (ValueError, TypeError, RecursionError):
            continue
        if measure in MEASURES and isinstance(owner, str) and isinstance(profile, str) and 0 <= amount < math.inf:
            found.setdefault((owner, profile), {})[measure] = amount if measure == "gpu_seconds" else int(amount)
    return [
        Usage.model_validate({"owner": owner, "profile": profile, "day": day, **measures})
        for (owner, profile), measures in found.items()
    ]
