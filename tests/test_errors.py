"""Text of messages."""

from mgta_tf.errors import one_line, quantity


def test_a_message_is_one_line_that_a_terminal_can_show():
    assert one_line("a\n b\t c \x1b[31m \udcff λ") == "a b c \\x1b[31m \\udcff λ"
    assert len(one_line("x" * 10**6)) < 2100


def test_quantities_have_singular_plural_and_thousands():
    assert [quantity(n, "turn") for n in (0, 1, 2000)] == ["0 turns", "1 turn", "2,000 turns"]
    assert [quantity(n, "box", "boxes") for n in (1, 2)] == ["1 box", "2 boxes"]
