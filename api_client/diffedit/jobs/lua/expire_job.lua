#!lua flags=allow-oom
-- End the job if its time is over. Arguments: job_id.
-- include prelude
-- include only_open
return ''
