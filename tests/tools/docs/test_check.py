"""Commands and names in the documents exist, and the check finds those that do not."""

import pytest

from mgta_tf.errors import UserError
from tools.docs import check as docs_check


def test_every_command_and_name_in_the_documents_exists(capsys):
    docs_check.main(docs_check.DocsConfig())
    assert "docs/tutorial.md: 9 blocks" in capsys.readouterr().out


@pytest.fixture
def document(tmp_path, monkeypatch):
    """Writes a document, with a Makefile, a flagfile and a command beside it."""

    def write(text):
        (tmp_path / "doc.md").write_text(text)
        return docs_check.DocsConfig(only="doc.md")

    (tmp_path / "Makefile").write_text("test: lint\n")
    (tmp_path / "flags").mkdir()
    (tmp_path / "flags" / "a.flagfile").write_text("")
    (tmp_path / "mgta_tf").mkdir()
    command = "def main():\n    pass\ncli.run(main, TrainConfig)\n"
    (tmp_path / "mgta_tf" / "train.py").write_text(command)
    monkeypatch.setattr(docs_check, "ROOT", str(tmp_path))
    return write


GOOD = """
```bash
make test  # comment
python -m mgta_tf.train --flagfile=flags/a.flagfile \\
    --noflip --margin=1
```
See `mgta_tf/train.py: main`.
"""


def test_a_correct_document_passes(document):
    docs_check.main(document(GOOD))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("make test", "make tset", "doc.md:3: no target tset"),
        ("mgta_tf.train", "mgta_tf.trian", "no mgta_tf/trian.py"),
        ("--margin", "--marign", "mgta_tf/train.py has no --marign"),
        ("flags/a", "flags/b", "no flags/b.flagfile"),
        ("train.py: main", "train.py: mian", "mgta_tf/train.py has no mian"),
        ("```bash", "<!-- from: mgta_tf/train.py -->\n```bash", "differs from mgta_tf/train.py"),
    ],
)
def test_missing_commands_flags_and_names_are_reported(document, before, after, message):
    assert before in GOOD
    with pytest.raises(UserError, match=message):
        docs_check.main(document(GOOD.replace(before, after)))


def test_marked_blocks_are_run_with_their_flags(document, tmp_path, monkeypatch):
    monkeypatch.setattr(docs_check, "prepare", lambda folder: None)
    text = f"""
<!-- run with: --rounds=1 -->
```bash
python() {{ echo "$@" > {tmp_path}/seen; }}
python -m mgta_tf.train --margin=1 \\
    --alpha=2
```
```bash
echo not run > {tmp_path}/seen
```
<!-- run -->
```python
raise SystemExit(3)
```
"""
    document(text)
    with pytest.raises(UserError, match=r"doc.md:1\d: fails as it stands"):
        docs_check.run_document("doc.md")
    assert (tmp_path / "seen").read_text() == "-m mgta_tf.train --margin=1 --alpha=2 --rounds=1\n"


def test_blocks_for_a_program_run_only_if_it_is_installed(document, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(docs_check, "prepare", lambda folder: None)
    document(
        f"""
<!-- run if: no-such-program -->
```bash
exit 1
```
<!-- run if: bash -->
```bash
echo run > {tmp_path}/seen
```
"""
    )
    docs_check.run_document("doc.md")
    assert (tmp_path / "seen").read_text() == "run\n"
    assert "not run, no-such-program is not installed" in capsys.readouterr().out
