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
    pretrain = "def pretrain(data, **flags):\n    return data, flags\n"
    (tmp_path / "mgta_tf" / "__init__.py").write_text(pretrain)
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
<!-- run with: --rounds=1 --net=iae -->
```bash
python() {{ echo "$@" >> {tmp_path}/seen; }}
python -m mgta_tf.train --margin=1 \\
    --alpha=2  # a comment
python -m mgta_tf.export
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
    (tmp_path / "mgta_tf" / "export.py").write_text("cli.run(main, ExportConfig)\n")
    with pytest.raises(UserError, match=r"doc.md:1\d: fails as it stands"):
        docs_check.run_document("doc.md")
    assert (tmp_path / "seen").read_text().splitlines() == [
        "-m mgta_tf.train --margin=1 --alpha=2 --rounds=1",
        "-m mgta_tf.export --net=iae",
    ]


def test_a_python_block_gets_its_flags_as_keywords(document, tmp_path, monkeypatch):
    monkeypatch.setattr(docs_check, "prepare", lambda folder: None)
    document(
        f"""
<!-- run with: --final_epochs=1 --minutes=2 -->
```python
import mgta_tf

with open("{tmp_path}/seen", "w") as file:
    file.write(str(mgta_tf.pretrain("PHOTOS", minutes=30)))
```
"""
    )
    docs_check.run_document("doc.md")
    assert (tmp_path / "seen").read_text() == "('PHOTOS', {'final_epochs': '1', 'minutes': 30})"


def test_a_flag_that_no_command_of_the_block_has_is_an_error(document, monkeypatch):
    monkeypatch.setattr(docs_check, "prepare", lambda folder: None)
    document("<!-- run with: --rouns=1 -->\n```bash\npython -m mgta_tf.train\n```\n")
    with pytest.raises(UserError, match=r"doc\.md:3: no command has --rouns=1"):
        docs_check.run_document("doc.md")


def test_blocks_that_are_not_run_are_counted_and_named(document, capsys):
    marked = "<!-- run -->\n```bash\ntrue\n```\n"
    plain = "```bash\ntrue\n```\n"
    quoted = "<!-- from: Makefile -->\n```make\ntest: lint\n```\n"
    docs_check.main(document(marked + plain + quoted + "```json\n{}\n```\n" + plain))
    assert "--run runs 1 of 3 blocks of code; 2 not run: doc.md:6, doc.md:16" in (
        capsys.readouterr().out
    )


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
