"""Views over the client's core."""
