"""Restoration without networks: what compression, print and scanners did is taken back by plain arithmetic."""
