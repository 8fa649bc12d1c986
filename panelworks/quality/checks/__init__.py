"""The checks of validation. Each compares an enhancement with its source."""
