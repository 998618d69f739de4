"""Compares k-means and the choice of K with scikit-learn and faiss."""

from entry import run

if __name__ == "__main__":
    run("tools.bench.clustering")
