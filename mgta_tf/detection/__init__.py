"""Faster R-CNN on VOC in TensorFlow Model Garden: the only place that imports its detector."""
