#!lua flags=allow-oom
-- Release locks. Arguments: job_id, worker, artifacts (keys). Returns the jobs that wait for one of the artifacts.
-- include prelude
-- include release
return waiters
