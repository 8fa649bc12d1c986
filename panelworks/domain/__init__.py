"""Records that the other packages exchange: requests, plans, results, reports. They hold no pixels and do no I/O."""
