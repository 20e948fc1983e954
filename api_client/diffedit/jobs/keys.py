"""The names of all keys in Redis.

| key | type | content |
|---|---|---|
| `diffedit:job:<id>` | hash | the record of a job; `records.py` lists its fields |
| `diffedit:jobs` | sorted set | all job ids, by the time of submission |
| `diffedit:ended` | sorted set | jobs that have ended, by the time of their end |
| `diffedit:indexed` | string | until when all submitted jobs have ended and are in the indexes of ended jobs |
| `diffedit:ended-by:outcome:<outcome>` | sorted set | jobs that ended in this way, by the time of submission |
| `diffedit:ended-by:profile:<profile>` | sorted set | jobs of this profile that have ended, by the time of submission |
| `diffedit:ended-by:code:<code>` | sorted set | jobs that failed with this error code, by the time of submission |
| `diffedit:ended-by:stage:<stage>` | sorted set | jobs that failed in this stage, by the time of submission |
| `diffedit:owner:<owner>` | sorted set with TTL | the jobs of an owner, by the time of submission |
| `diffedit:open:<owner>` | sorted set | the jobs of an owner that have not ended, by the time of submission |
| `diffedit:started:<owner>` | set | those of them of which a stage was started |
| `diffedit:parked:<queue>` | sorted set | jobs that wait until others of their owner have ended |
| `diffedit:parked-of:<owner>` | sorted set | the same jobs by owner |
| `diffedit:backlog:<queue>` | sorted set | waiting jobs whose message is held back, by when their turn is |
| `diffedit:turns:<queue>` | sorted set | owners of such jobs, by when the next turn of each begins; "" is nobody |
| `diffedit:holding:<queue>` | string with TTL | whether messages may be held back; not while 0.2.0 reads the queue |
| `diffedit:draining` | set | ids of workers that were asked to drain; some may be gone |
| `diffedit:paused` | hash | paused queue -> since when and why, as JSON |
| `diffedit:batch-turns` | hash | interactive queue -> stages started while a batch job waited for too long |
| `diffedit:limits` | hash | owner -> its `OwnerLimits` as JSON; an empty name stands for all others |
| `diffedit:uses:<picture key>` | sorted set with TTL | the jobs that use a picture, by the time of submission |
| `diffedit:kept` | sorted set | keys of objects -> until when they are kept; then garbage collection deletes them |
| `diffedit:usage:<YYYYMMDD>` | hash with TTL | `[owner, profile, measure]` as JSON -> how much of it on that day |
| `diffedit:durations:<profile>` | hash | stage -> seconds that it takes, as an exponential average |
| `diffedit:secret` | string | random digits that make the keys of owners' pictures unpredictable |
| `diffedit:running` | hash | job id -> id of the worker that runs a stage of it |
| `diffedit:running:<queue>` | hash | the same for each queue, so that HLEN counts them |
| `diffedit:waiting:<queue>` | sorted set | jobs that wait in this queue, by the time since which they wait |
| `diffedit:waiting:queues` | set | the queues that such a set was ever made for |
| `diffedit:expiring` | sorted set | jobs with a time limit, by the time at which they expire |
| `diffedit:idempotency:<key>` | string | id of the job that was submitted with this key, as `scoped_key` returns it |
| `diffedit:workers` | set | ids of workers; some may be gone |
| `diffedit:worker:<id>` | string with TTL | the heartbeat of a worker: its `WorkerInfo` as JSON |
| `diffedit:beating` | string with TTL | empty; there unless no worker sent a heartbeat for half its TTL |
| `diffedit:outage` | string with TTL | when heartbeats came again; as long as it is there, no worker counts as dead |
| `diffedit:refused` | sorted set | jobs of which a worker refused a stage, by the time of the first refusal |
| `diffedit:stages:<minute>` | hash with TTL | how many stages were done and refused in this minute |
| `diffedit:troubles` | set | names of workers that reported a trouble; some troubles may be over |
| `diffedit:trouble:<name>` | string with TTL | the `Trouble` of a worker as JSON |
| `diffedit:profiles` | hash | profile -> its parameter defaults as JSON, from the last worker that served it |
| `diffedit:presets` | hash | profile -> its presets as JSON, from the last worker that served it |
| `diffedit:api-keys` | hash | id of an API key -> its `ApiKey` as JSON, with the hash of the key |
| `diffedit:rate:<id>` | string with TTL | when the requests with this API key would have come one by one |
| `diffedit:webhooks` | sorted set | ids of events that have to be sent, by the time at which they are due |
| `diffedit:webhook:<job>.<event>[.<n>]` | hash with TTL | such an event: `outbox.COPIED`, `first`, `attempts` |
| `diffedit:webhook-sender` | string with TTL | when a sender last looked for events; written once in twenty seconds |
| `diffedit:leader` | string with TTL | id of the worker that rescues orphaned jobs |
| `diffedit:damaged` | sorted set with TTL | keys that held what cannot be read, by the time when that was last seen |
| `diffedit:watched:<id>` | string with TTL | empty; there while somebody asks for previews of the job |
| `diffedit:preview:<id>` | string with TTL | the last preview of the job, a WebP file in Base64 |
| `diffedit:epoch` | string | since when the server has data: JSON with `id` and `since`; after a loss another one |
| `diffedit:settled` | sorted set | jobs whose copy in the bucket is not needed any more, by the time since then |
| `diffedit:ping` | string with TTL | empty; written to see whether the server takes writes |
| `diffedit:lock:<artifact key>` | string with TTL | `<worker> <job>`; then `released`, for an hour |
| `diffedit:content:<artifact key>` | string with TTL | what was last stored at this key: SHA-256 and length |
| `diffedit:waiters:<artifact key>` | set with TTL | jobs that wait until another job has made the artifact |

Celery has keys of its own beside these: a list for each queue, `_kombu.*` and `unacked*`.

A Lua script finds some of these keys on its way (the queue of a job, the heartbeat of the worker that runs it), so
they cannot be declared in advance. Therefore the server must be a single one, not a cluster.
"""

PREFIX = "diffedit:"

INDEX = f"{PREFIX}jobs"
ENDED = f"{PREFIX}ended"
INDEXED = f"{PREFIX}indexed"
RUNNING = f"{PREFIX}running"
EXPIRING = f"{PREFIX}expiring"
REFUSED = f"{PREFIX}refused"
TROUBLES = f"{PREFIX}troubles"
WORKERS = f"{PREFIX}workers"
DRAINING = f"{PREFIX}draining"
PROFILES = f"{PREFIX}profiles"
PRESETS = f"{PREFIX}presets"
API_KEYS = f"{PREFIX}api-keys"
WEBHOOKS = f"{PREFIX}webhooks"
WEBHOOK_SENDER = f"{PREFIX}webhook-sender"
LEADER = f"{PREFIX}leader"
BEATING = f"{PREFIX}beating"
OUTAGE = f"{PREFIX}outage"
DAMAGED = f"{PREFIX}damaged"
LIMITS = f"{PREFIX}limits"
PAUSED = f"{PREFIX}paused"
BATCH_TURNS = f"{PREFIX}batch-turns"
KEPT = f"{PREFIX}kept"
SECRET = f"{PREFIX}secret"
EPOCH = f"{PREFIX}epoch"
SETTLED = f"{PREFIX}settled"
PING = f"{PREFIX}ping"

JOB = f"{PREFIX}job:"
ENDED_BY = f"{PREFIX}ended-by:"
WAITING = f"{PREFIX}waiting:"
WAITING_QUEUES = f"{WAITING}queues"
IDEMPOTENCY = f"{PREFIX}idempotency:"
HEARTBEAT = f"{PREFIX}worker:"
STAGES = f"{PREFIX}stages:"
TROUBLE = f"{PREFIX}trouble:"
WEBHOOK = f"{PREFIX}webhook:"
RATE = f"{PREFIX}rate:"
CONTENT = f"{PREFIX}content:"
LOCK = f"{PREFIX}lock:"
WAITERS = f"{PREFIX}waiters:"
OWNER = f"{PREFIX}owner:"
OPEN = f"{PREFIX}open:"
STARTED = f"{PREFIX}started:"
PARKED = f"{PREFIX}parked:"
PARKED_OF = f"{PREFIX}parked-of:"
BACKLOG = f"{PREFIX}backlog:"
TURNS = f"{PREFIX}turns:"
HOLDING = f"{PREFIX}holding:"
RUNNING_IN = f"{RUNNING}:"
USAGE = f"{PREFIX}usage:"
USES = f"{PREFIX}uses:"
DURATIONS = f"{PREFIX}durations:"
WATCHED = f"{PREFIX}watched:"
PREVIEW = f"{PREFIX}preview:"
QUEUE = "diffedit."
"""How the names of Celery's queues begin."""


def job_key(job_id: str) -> str:
    """Return the key of a job's record."""
    return JOB + job_id


def in_lua(name: str) -> str:
    """Return one of the names above as a Lua string, so that scripts (`keys.job`) and Python share one list."""
    return f"'{globals()[name.upper()]}'"
