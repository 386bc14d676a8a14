"""The values from which panels are no longer green: the thresholds at which the chart's alerts fire by default (a test compares them)."""

BEHIND_SECONDS = 120
LEDGER_FULL = 0.8
THROTTLED = 0.2
SKEW_SECONDS = 60
POLLS_MISSED = 5
WAITING_SECONDS = 2 * 86400
