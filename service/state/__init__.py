"""Backup and restore of what an installation must not lose: database, ledger, register, jobs, auth string."""
