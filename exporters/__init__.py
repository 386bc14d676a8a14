"""What leaves: delivery to each sink, metrics and pages."""
