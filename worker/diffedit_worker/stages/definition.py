"""How a worker runs a stage: the function, the model component it uses, and how its outputs are stored."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any

from diffedit.contract.stages import Artifact
from diffedit_worker.codecs import Codec
from diffedit_worker.models.hub import Component


def accept(value: Any) -> None:
    """Accept every value that the codec accepts. The default `check`."""


@dataclass(frozen=True)
class Output:
    """How one artifact of a stage is stored.

    Attributes:
        codec: converts the value to bytes and back.
        params: the request fields that this artifact depends on, if not all that `run` takes.
        check: raises ArtifactError or BadPicture if a value that the codec accepts cannot be this artifact of a job,
            because its shape or size is wrong. It takes the value and, as keyword arguments, any of `models`, `size`
            (of the picture) and fields of the request or of its params.
    """

    codec: Codec
    params: tuple[str, ...] | None = None
    check: Callable[..., None] = accept

    @cached_property
    def check_arguments(self) -> Sequence[str]:
        """The names of the keyword arguments that `check` takes."""
        return list(signature(self.check).parameters)[1:]


@dataclass(frozen=True)
class StageDefinition:
    """How a stage runs.

    Attributes:
        run: the function. It takes keyword arguments only: `models`, `on_step`, each artifact that the stage needs, and
            fields of the request or of its params. Its signature lists everything that the result depends on; the cache
            key is built from it.
        component: the component of the profile that the results depend on.
        outputs: how each artifact that `run` returns is stored.
        version: increase it when `run` returns other results for the same arguments. It is part of the cache key.
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
        """Return the fields that this artifact depends on."""
        params = self.outputs[artifact].params
        return self.params if params is None else params

    @property
    def _arguments(self) -> list[str]:
        return [name for name in signature(self.run).parameters if name not in ("models", "on_step")]
