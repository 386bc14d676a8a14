"""The composition root: the only package that imports all others. Command line and service."""
