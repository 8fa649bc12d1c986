"""What was processed and what it cost: ledger, cost, budget, finished jobs."""
