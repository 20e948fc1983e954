"""What an administrator of a fleet sees and does, for programs with asyncio."""

from diffedit.admin import Admin
from diffedit.async_calls import Asynchronous, forwarded


class AsyncAdmin(Asynchronous[Admin]):
    """What an administrator sees and does. The methods are those of `Admin`, as coroutines."""

    queues = forwarded(Admin.queues)
    """Return all queues, as `Admin.queues`."""
    workers = forwarded(Admin.workers)
    """Return the live workers, as `Admin.workers`."""
    pause = forwarded(Admin.pause)
    """Pause queues, as `Admin.pause`."""
    resume = forwarded(Admin.resume)
    """End the pause of queues, as `Admin.resume`."""
    drain = forwarded(Admin.drain)
    """Let a worker end when its running stages have ended, as `Admin.drain`."""
    jobs = forwarded(Admin.jobs)
    """Return the newest jobs of a query, as `Admin.jobs`."""
    retry = forwarded(Admin.retry)
    """Let jobs start over under their ids, as `Admin.retry`."""
    cancel = forwarded(Admin.cancel)
    """Cancel jobs, as `Admin.cancel`."""
    move = forwarded(Admin.move)
    """Let jobs that wait start over in another profile, as `Admin.move`."""
    why = forwarded(Admin.why)
    """Say in words why a job is where it is, as `Admin.why`."""
    owners = forwarded(Admin.owners)
    """Return the limits of owners, as `Admin.owners`."""
