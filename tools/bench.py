"""Measures the speed of this package and of its peers; see --help."""

from entry import run

if __name__ == "__main__":
    run("tools.bench.run")
