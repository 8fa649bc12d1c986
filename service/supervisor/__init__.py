"""The supervisor: a process that acts for the whole installation. Of several supervisors, one acts at a time."""
