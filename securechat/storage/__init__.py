"""What is remembered, and how it survives."""
