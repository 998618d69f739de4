"""Prints the paper's Table 3 beside ours."""

from entry import run

if __name__ == "__main__":
    run("tools.study.table3")
