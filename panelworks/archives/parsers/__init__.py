"""Parsers of documents that run in a child process (see panelworks/archives/sandbox_child.py). They have few imports, and never import the settings."""
