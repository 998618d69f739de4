"""Clustering (§3.2): features become clusters, and clusters are described."""
