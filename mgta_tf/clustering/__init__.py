"""Clustering of features (§3.2), and statistics of the clusters."""
