"""The questions that validation asks of an enhancement. Each compares with the source; none trusts the network."""
