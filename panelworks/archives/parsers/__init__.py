"""Parsers of documents that run in a child process (see panelworks/archives/sandbox_child.py). They import little, and no settings."""
