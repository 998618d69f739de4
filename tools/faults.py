"""Breaks runs on purpose, and counts what survives."""

from entry import run

if __name__ == "__main__":
    run("tools.faults.run")
