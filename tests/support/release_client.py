"""A client that obeys lines of JSON. Each release runs it with its own code (`releases.py`), so it must suit them all.

A line: {"call": method, "job": id or null, "given": arguments}. The answer: {"value": ...} or {"error": ...}.
"""

import json
import sys
from importlib.util import find_spec

import diffedit
from diffedit import Client


def plain(value):
    """Return what a method of `Client` or `JobHandle` has returned as a value of JSON."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, diffedit.JobHandle):
        return value.id
    if isinstance(value, diffedit.EditResult):
        return {"size": value.image.size, "request": value.manifest["request"]}
    if isinstance(value, diffedit.Health):
        return value.model_dump(mode="json") | {"ok": value.ok}
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def answer(client, call, job, given):
    try:
        return {"value": plain(getattr(client.job(job) if job else client, call)(**given))}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    has_contract = find_spec("diffedit.contract.versions") is not None
    print(json.dumps({"file": diffedit.__file__, "has_contract": has_contract}), flush=True)
    with Client.from_env() as client:
        for line in sys.stdin:
            print(json.dumps(answer(client, **json.loads(line))), flush=True)
