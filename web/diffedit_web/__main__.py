"""Print the description of the API of `diffedit serve`: `python -m diffedit_web > docs/openapi.json`."""

import json

from diffedit import testing
from diffedit_web.app import create_app


def description() -> str:
    """Return the description of the API, as it stands in `docs/openapi.json`."""
    return json.dumps(create_app(testing.async_memory_client()).openapi(), indent=1, ensure_ascii=False)


if __name__ == "__main__":
    print(description())
