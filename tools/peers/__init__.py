"""Peers: PyTorch methods that a user might choose instead, under the study's conditions."""
