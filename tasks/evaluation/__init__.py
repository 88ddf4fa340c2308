"""Answers against labels."""
