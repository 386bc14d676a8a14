"""Metrics for Prometheus: what is counted as it happens, and what a scrape reads from the ledger."""
