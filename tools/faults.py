"""Runs the fault-injection tests."""

from entry import run

if __name__ == "__main__":
    run("tools.faults.run")
