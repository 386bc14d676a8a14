"""The composition root: the only place that knows everybody. Command line, service, demo."""
