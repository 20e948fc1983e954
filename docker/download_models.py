"""Put the models of a profile into the cache of the Hub (HF_HOME), for an image:    download_models.py sd21

It downloads the files that a worker would download, and loads none of them.
"""

import logging
import sys

from diffedit_worker.models.hub import FILES, component_of, load_from_files
from diffedit_worker.models.profiles import load_profiles, profile_named
from diffedit_worker.settings import WorkerSettings

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    profile = profile_named(load_profiles(WorkerSettings.from_env().profiles_file), sys.argv[1])
    for part in FILES:
        load_from_files(getattr(profile, component_of(part)), part, lambda directory: directory)
