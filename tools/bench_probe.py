"""Compares the SVMs of the probe with LinearSVC."""

from entry import run

if __name__ == "__main__":
    run("tools.bench.probe")
