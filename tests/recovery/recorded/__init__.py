"""The recorded state of an earlier release."""
