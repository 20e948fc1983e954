"""What an administrator of a fleet sees and does (`Client.admin`)."""

from diffedit.admin.admin import Admin
from diffedit.admin.models import Changed, Explanation, QueueState
from diffedit.admin.selection import JobQuery

__all__ = ["Admin", "Changed", "Explanation", "JobQuery", "QueueState"]
