"""ddfa-batch."""
