"""Evaluators of a frozen encoder: features, linear SVMs, average precision, nearest neighbors."""
