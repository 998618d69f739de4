"""The peers: what a user would pick instead, in PyTorch, on the study's terms."""
