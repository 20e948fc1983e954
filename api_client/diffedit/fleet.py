"""The live workers at one moment, and what a request gets from them: a profile and its defaults."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from diffedit.contract.presets import DEFAULT, GUIDE, preset_params
from diffedit.contract.validation import ProfileName
from diffedit.errors import UnknownPreset
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

    def params_of(self, profile: Any, preset: str = DEFAULT) -> dict[str, Any]:
        """Return the parameter defaults of a profile's preset: a live worker's, else the last ones that were announced.

        Of workers of several versions, the defaults are those of an oldest one, so that all of them can serve the job.
        A name of a profile that cannot be valid has none. It is refused when the request is checked.

        Raises:
            UnknownPreset: no live worker of the profile has announced this preset.
        """
        try:
            name = _PROFILE_NAME.validate_python(profile)
        except ValidationError:
            return {}
        serving = sorted((each for each in self.workers if each.profile == name), key=lambda each: each.contract)
        for worker in serving:
            if preset in (GUIDE, DEFAULT, *worker.profile_presets):
                return preset_params(name, preset, worker.profile_params, worker.profile_presets)
        if serving:
            announced = {known for worker in serving for known in worker.profile_presets}
            raise UnknownPreset(name, preset, (GUIDE, DEFAULT, *sorted(announced)))
        params = {} if preset == GUIDE else self._registry.profile_params(name)
        presets = {} if preset in (GUIDE, DEFAULT) else self._registry.profile_presets(name)
        return preset_params(name, preset, params, presets)
