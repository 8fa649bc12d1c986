"""A module for a child process in which PyAV is not installed."""

raise ModuleNotFoundError("No module named 'av'", name="av")
