"""Trains and evaluates peer methods in PyTorch, and writes docs/results/peers.md."""

from entry import run

if __name__ == "__main__":
    run("tools.peers.run")
