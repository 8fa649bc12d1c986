"""Warm workers: flow runs in processes that stay, with the flow and its networks loaded.

They stand on private modules of Prefect: `contract` says whether these are as they were when this was written.
"""
