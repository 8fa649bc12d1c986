"""Parsers of documents that run in a child process (see panelworks/archives/sandbox.py). They import little, and no settings."""
