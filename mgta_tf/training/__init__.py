"""Training: mutual guidance (§3.4), labels (GLP, §3.2) and training (TMP, §3.3)."""
