"""Networks: Table 1 of the paper, as Keras functional models."""
