"""Prints the paper's Table 2 beside ours."""

from entry import run

if __name__ == "__main__":
    run("tools.study.table2")
