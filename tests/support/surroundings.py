"""The surroundings of a program that has Celery or Django of its own, in which ours must work as anywhere else."""

from pathlib import Path

NOWHERE = "redis://127.0.0.1:2/0"

OF_CELERY = {
    "CELERY_BROKER_URL": NOWHERE,
    "CELERY_BROKER_READ_URL": NOWHERE,
    "CELERY_BROKER_WRITE_URL": NOWHERE,
    "CELERY_RESULT_BACKEND": "no-such-backend://",
    "CELERY_CONFIG_MODULE": "their_celeryconfig",
    "CELERY_LOADER": "their_loader:Loader",
    "DJANGO_SETTINGS_MODULE": "their_settings",
    "FORKED_BY_MULTIPROCESSING": "1",
}
"""Variables that Celery reads for each application. `their_modules` writes the modules that they name."""

OF_CELERYS_COMMAND = {
    "BROKER_URL": NOWHERE,
    "RESULT_BACKEND": "no-such-backend://",
    "LOADER": "their_loader:Loader",
    "CONFIG_MODULE": "their_celeryconfig",
    "CELERY_WORKER_QUEUES": "theirs",
    "CELERY_WORKER_EXCLUDE_QUEUES": "diffedit.tiny.language",
    "CELERY_WORKER_POOL": "solo",
    "CELERY_WORKER_CONCURRENCY": "7",
}
"""Variables that the `celery` command reads besides, or copies to those above."""

_MODULES = {
    "their_celeryconfig": f"broker_url = {NOWHERE!r}\ntask_serializer = 'pickle'\ntask_always_eager = True\n",
    "their_loader": "from celery.loaders.app import AppLoader as Loader\nfrom their_celeryconfig import unknown\n",
    "their_settings": "",
    # As much of Django as Celery's fixup needs to make an application the default one.
    "django/__init__": "VERSION = (5, 2)\n",
    "django/conf": "import types\nsettings = types.SimpleNamespace()\n",
}


def their_modules(folder: Path) -> Path:
    """Write the modules that the variables above name into a folder, which must be on the import path."""
    for name, text in _MODULES.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder
