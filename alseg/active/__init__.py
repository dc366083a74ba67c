"""The loop: pool, ledger, queries and answers, oracles, budgets, driver."""
