"""Time and memory of the stages in one process, and where the time of an edit goes."""
