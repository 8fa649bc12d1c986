"""The documentation: its pages, and the module that generates the reference."""
