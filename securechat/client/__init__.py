"""The client: one core that prints nothing, and thin views over it."""
