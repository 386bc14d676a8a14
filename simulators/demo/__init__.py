"""The demo: simulated platforms and a simulated Marquez around a real collector."""
