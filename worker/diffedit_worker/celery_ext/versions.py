"""The versions of Celery and kombu with which this package was tested.

The modules beside this one, and `diffedit/jobs/independent_celery.py`, use parts of both that are not documented.
`tests/unit/test_celery_internals.py` fails when another version is installed, and when one of these parts has moved.
"""

TESTED_VERSIONS = {"celery": ("5.7.0",), "kombu": ("5.7.0",)}
