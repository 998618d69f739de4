"""Checks documents, and generates their tables and pictures."""
