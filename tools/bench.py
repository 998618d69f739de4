"""Times this package beside its peers; --help says what there is."""

from entry import run

if __name__ == "__main__":
    run("tools.bench.run")
