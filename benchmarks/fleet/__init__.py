"""A fleet of workers on one machine: how many pages an hour one Prefect server bears, and what it costs it."""
