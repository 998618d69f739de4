"""Trains and evaluates the peers in PyTorch, and writes docs/results/peers.md."""

from entry import run

if __name__ == "__main__":
    run("tools.peers.run")
