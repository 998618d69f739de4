"""Times the probe's SVMs beside LinearSVC."""

from entry import run

if __name__ == "__main__":
    run("tools.bench.probe")
