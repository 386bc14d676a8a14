"""Metrics for Prometheus: counters in memory (`families`) and what a scrape reads from the ledger (`snapshot`)."""
