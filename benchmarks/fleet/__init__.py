"""A fleet of workers on one machine: the load that one Prefect server supports, and its resources."""
