"""The Marquez sink."""
