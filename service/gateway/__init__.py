"""The HTTP gateway: it accepts pages and events, reports the progress of jobs, and serves results."""
