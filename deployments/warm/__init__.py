"""Warm workers: flow runs in processes that keep the flow and its networks loaded. See README.md."""
