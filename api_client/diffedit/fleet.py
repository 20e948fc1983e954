"""The live workers at one moment, and what a request gets from them: a profile and its defaults."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from diffedit.contract.validation import ProfileName
from diffedit.jobs.workers import WorkerRegistry

FALLBACK_PROFILE = "tiny"
"""The profile of a request if nothing else says which: the bundled one."""

_PROFILE_NAME = TypeAdapter[str](ProfileName)


class Fleet:
    """The live workers, read once.

    Attributes:
        workers: the live workers, by name.
        queues: the queues from which they take jobs. Those of a paused worker are not among them.
        default_profile: the profile of a request that names none: the configured one, else the one that is served.
    """

    def __init__(self, registry: WorkerRegistry, configured_profile: str | None) -> None:
        self._registry = registry
        self.workers = registry.workers()
        self.queues = {queue for worker in self.workers for queue in worker.queues if not worker.paused}
        served = {worker.profile for worker in self.workers}
        self.default_profile = configured_profile or (served.pop() if len(served) == 1 else FALLBACK_PROFILE)

    def params_of(self, profile: Any) -> dict[str, Any]:
        """Return the parameter defaults of a profile: a live worker's, else the last ones that were announced.

        A name that cannot be valid has none. It is refused when the request is checked.
        """
        try:
            name = _PROFILE_NAME.validate_python(profile)
        except ValidationError:
            return {}
        for worker in self.workers:
            if worker.profile == name:
                return worker.profile_params
        return self._registry.profile_params(name)
