"""One Prefect task a file: how a stage is retried, cached and timed. The work is one call below."""
