"""Delivery to one sink: claim, send, settle, retry, park, recheck, under the lease of the sink."""
