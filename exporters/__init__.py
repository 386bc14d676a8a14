"""Outgoing data: delivery to each sink, metrics and pages."""
