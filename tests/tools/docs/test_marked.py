"""The marked part of a page."""

import pytest

from mgta_tf.errors import UserError
from tools.docs import marked

PAGE = "above\n<!-- t.py writes what follows -->\nold\n<!-- end -->\nbelow <!-- end -->\n"


def test_only_text_between_the_marks_is_replaced(tmp_path):
    page = tmp_path / "p.md"
    page.write_text(PAGE)
    for _ in range(2):
        marked.replace(str(page), "t.py", "new")
    assert page.read_text() == PAGE.replace("old", "\nnew")


@pytest.mark.parametrize("text", ["", "<!-- end --> <!-- t.py writes what follows -->"])
def test_a_page_without_marks_is_left_alone(tmp_path, text):
    page = tmp_path / "p.md"
    page.write_text(text)
    with pytest.raises(UserError, match=r"p\.md: has no <!-- t\.py"):
        marked.replace(str(page), "t.py", "new")
    assert page.read_text() == text
    with pytest.raises(UserError, match=r"missing\.md: cannot be read"):
        marked.replace(str(tmp_path / "missing.md"), "t.py", "new")
