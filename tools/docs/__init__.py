"""Checks the documents, and writes their tables and pictures."""
