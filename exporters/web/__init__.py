"""The pages and the HTTP server under them."""
