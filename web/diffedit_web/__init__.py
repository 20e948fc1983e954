"""The HTTP API: mount it in an application of your own, or run it with `diffedit serve`.

Public is what this module exports in `__all__`, and the HTTP API itself (`docs/reference/http.md`).
"""

from diffedit_web.app import create_app
from diffedit_web.router import diffedit_router, openai_router

__all__ = ["create_app", "diffedit_router", "openai_router"]
