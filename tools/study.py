"""Runs the study and writes docs/results.md."""

from entry import run

if __name__ == "__main__":
    run("tools.study.run")
