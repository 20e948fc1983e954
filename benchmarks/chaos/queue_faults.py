"""Faults of messages and jobs: queues are deleted, messages doubled, jobs cancelled."""

from benchmarks.chaos.system import Fault, System
from diffedit import State
from diffedit.contract.stages import queue_names


def delete_queues(system: System, fault: Fault) -> bool:
    return bool(system.redis.delete(*queue_names("tiny")))


def duplicate_messages(system: System, fault: Fault) -> bool:
    queues = {queue: system.redis.lrange(queue, 0, -1) for queue in queue_names("tiny")}
    for queue, messages in queues.items():
        if messages:
            system.redis.lpush(queue, *messages)
    return any(queues.values())


def cancel_job(system: System, fault: Fault) -> bool:
    jobs = system.observer.unfinished_jobs
    if not jobs:
        return False
    job_id = jobs[int(fault.pick * len(jobs))]
    if system.client.job(job_id).cancel():
        # The client promises this outcome to the user, so it counts as seen.
        system.observer.outcomes[job_id].add(State.CANCELLED)
    return True
