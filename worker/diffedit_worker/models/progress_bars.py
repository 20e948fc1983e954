"""The progress bars of the libraries that download and load models."""

import sys

from diffusers.utils import logging as diffusers_logging
from huggingface_hub.utils.tqdm import disable_progress_bars as disable_hub_progress_bars
from transformers.utils import logging as transformers_logging


def disable_progress_bars() -> None:
    """Turn off the progress bars of downloads and loads, unless a person reads them in a terminal."""
    if not sys.stderr.isatty():
        disable_hub_progress_bars()
        transformers_logging.disable_progress_bar()
        diffusers_logging.disable_progress_bar()
