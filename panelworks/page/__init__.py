"""One page: the order of its stages, planning, fallbacks, admission and delivery."""
