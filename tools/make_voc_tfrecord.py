"""Same as python -m mgta_tf.make_voc_tfrecord."""

from entry import run

if __name__ == "__main__":
    run("mgta_tf.make_voc_tfrecord")
