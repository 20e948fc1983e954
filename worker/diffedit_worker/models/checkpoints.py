"""A model's files read by the classes of diffusers and transformers, whose silent failures become errors."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffedit.errors import ModelUnavailable
from diffedit_worker.models.hub import Part, first_line, unavailable
from diffedit_worker.models.profiles import ModelSource

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A part of a model in a directory.

    Attributes:
        source: where the profile says that it is.
        part: which part.
        directory: where it is; for a Hub id, a snapshot in the cache.
    """

    source: ModelSource
    part: Part
    directory: Path

    def weights(self, kind: Any, **options: Any) -> Any:
        """Return the model of this class. Raises ModelUnavailable."""
        model, info = self.pretrained(kind, output_loading_info=True, **options)
        # If weights are missing, both libraries only warn and use random numbers.
        if info["missing_keys"]:
            raise self._unavailable(f"{len(info['missing_keys'])} weights of {kind.__name__} are not in it")
        return model

    def tokenizer(self, kind: Any, model: Any, **options: Any) -> Any:
        """Return the tokenizer of a model. Raises ModelUnavailable."""
        tokenizer = self.pretrained(kind, **options)
        # A tokenizer without its vocabulary file loads without an error and knows only a few special tokens.
        rows = model.get_input_embeddings().num_embeddings
        if not rows // 2 < len(tokenizer) <= rows:
            raise self._unavailable(f"its tokenizer has {len(tokenizer)} tokens and its model {rows}")
        return tokenizer

    def pretrained(self, kind: Any, **options: Any) -> Any:
        """Return what `kind.from_pretrained` makes of the directory. Raises ModelUnavailable."""
        try:
            return kind.from_pretrained(str(self.directory), local_files_only=True, **options)
        # With a foreign or damaged checkpoint these loaders may raise anything, AttributeError included.
        except Exception as error:
            log.debug("loading %s from %s", kind.__name__, self.source, exc_info=True)
            raise self._unavailable(f"{kind.__name__}: {first_line(error)}") from error

    def _unavailable(self, reason: str) -> ModelUnavailable:
        return unavailable(self.source, self.part, reason)
