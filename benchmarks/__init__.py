"""Measurements. They print figures; they never pass or fail."""
