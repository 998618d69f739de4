"""Faster R-CNN with TensorFlow Model Garden, which only this folder imports."""
