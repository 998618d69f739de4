"""Same as python -m mgta_tf.choose_k."""

from entry import run

if __name__ == "__main__":
    run("mgta_tf.choose_k")
