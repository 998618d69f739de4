"""Text of messages."""

import pytest
import tensorflow as tf

from mgta_tf.errors import cause_of, one_line, quantity


def test_a_message_is_one_line_that_a_terminal_can_show():
    assert one_line("a\n b\t c \x1b[31m \udcff λ") == "a b c \\x1b[31m \\udcff λ"
    assert len(one_line("x" * 10**6)) < 2100


def test_quantities_have_singular_plural_and_thousands():
    assert [quantity(n, "turn") for n in (0, 1, 2000)] == ["0 turns", "1 turn", "2,000 turns"]
    assert [quantity(n, "box", "boxes") for n in (1, 2)] == ["1 box", "2 boxes"]


@pytest.mark.parametrize("in_graph", [True, False])
def test_the_cause_of_an_error_of_tensorflow_is_what_the_system_says(in_graph):
    def write(path, text):
        tf.io.write_file(path, text)

    write = tf.function(write) if in_graph else write
    with pytest.raises(tf.errors.OpError) as caught:
        write(tf.constant("/dev/full"), "x")
    assert "/dev/full; No space left on device" in cause_of(caught.value)


def test_the_cause_of_other_errors_is_their_first_line():
    assert cause_of(ValueError("what\nmore")) == "what"
    assert cause_of(KeyError()) == "KeyError"
    assert cause_of(ValueError("Graph execution error:")) == "Graph execution error:"
