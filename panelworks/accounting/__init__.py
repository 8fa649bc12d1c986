"""Accounting: the ledger, cost, budgets and finished jobs."""
