"""What `evaluate` is made of: protocols, answers, pictures and the report."""
