"""What listens and what the commands of a checkout run: gateway, supervisor, stack."""
