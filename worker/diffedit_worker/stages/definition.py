"""What the worker knows of a stage besides its name: the function, its model, and how its outputs are stored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any

from diffedit.contract.stages import Artifact
from diffedit_worker.codecs import Codec
from diffedit_worker.models.loading import Component


@dataclass(frozen=True)
class Output:
    """How one artifact of a stage is stored.

    Attributes:
        codec: converts the value to bytes and back.
        params: the request fields that this artifact depends on, if not all that `run` takes.
        user_visible: the user may download it. Such an artifact is read when it is found in the cache, because no later
            stage would notice that it is damaged.
    """

    codec: Codec
    params: tuple[str, ...] | None = None
    user_visible: bool = False


@dataclass(frozen=True)
class StageDefinition:
    """How a stage runs.

    `run` takes keyword arguments only: `models`, `on_step`, each artifact that the stage needs, and fields of the
    request or of its params. The signature is therefore the list of everything that the result depends on, and the
    cache key is built from it. Increase `version` when `run` returns other results for the same arguments.
    """

    run: Callable[..., dict[Artifact, Any]]
    component: Component
    outputs: Mapping[Artifact, Output]
    version: int = 1

    @cached_property
    def params(self) -> tuple[str, ...]:
        """The fields of the request, or of its params, that `run` takes."""
        return tuple(name for name in self._arguments if name not in tuple(Artifact))

    @cached_property
    def needs(self) -> frozenset[Artifact]:
        """The artifacts that `run` takes."""
        return frozenset(Artifact(name) for name in self._arguments if name in tuple(Artifact))

    def params_of(self, artifact: Artifact) -> tuple[str, ...]:
        """The fields that this output depends on."""
        params = self.outputs[artifact].params
        return self.params if params is None else params

    @property
    def _arguments(self) -> list[str]:
        return [name for name in signature(self.run).parameters if name not in ("models", "on_step")]
