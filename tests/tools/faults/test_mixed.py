"""A folder of all kinds of files: each is read, skipped or not read, and the counts add up."""

import re

from tools.faults import mixed


def test_a_mixed_folder_is_read_and_every_file_is_counted(tmp_path):
    """The short form; `make faults` has 10,000 files."""
    expected = mixed.write(str(tmp_path / "photos"), 300)
    found, line = mixed.fates(str(tmp_path / "photos"), str(tmp_path / "skipped.txt"))
    assert found == expected
    assert set(expected.values()) == {mixed.READ, mixed.SKIPPED, mixed.NOT_READ}
    counts = [int(re.search(rf"(\d+) {w}", line)[1]) for w in ("images", "skipped", "not read")]
    assert sum(counts) == 300
    assert counts[0] == list(expected.values()).count(mixed.READ)
