#!lua flags=allow-oom
-- Delete a job that never reached its queue. Arguments: job_id.
-- include prelude
-- include ending
-- include removal
forget_record()
settle()
return ''
