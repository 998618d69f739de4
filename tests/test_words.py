"""The project's words: private terms of earlier versions do not return to code, help or docs."""

import json
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# (pattern, what to write instead)
WORDS = [
    (r"\bgo(es)? on (where|from)\b|same command( on all hosts)? goes on", "resumes: rerun the …"),
    (r"give the same command", "rerun the same command"),
    (r"\b(is|are|was|were|be) left out\b", "skipped, omitted or ignored"),
    (r"\bjudge[sd]?\b|\bjudging\b", "evaluate, evaluator, evaluation"),
    (r"IAE of equal cost", "compute-matched IAE"),
    (r"at (an )?equal (cost|budget)", "for the same compute; compute-matched"),
    (r"` less `|less the mean", "a − b"),
    (r"\bundecided\b", "not significant (the 95 % interval includes 0)"),
    (r"\bat rest\b", "stuck at the margin (collapsed embedding)"),
    (r"labels that are told", "oracle labels"),
    (r"to the letter", "the paper's exact settings"),
    (r"\btwin\b", "small model"),
    (r"search by likeness", "image similarity search"),
    (r"telling clusters?", "representative clusters"),
    (r"\bmonitors\b", "metrics"),
    (r"\bloners?\b|\bdealt\b|\bdecks?\b", "singletons, balanced draws"),
    (r"\bstrangers?\b", "untrusted"),
    (r"Highest learning rate", "Peak learning rate"),
    (r"half a cosine", "cosine decay to 0"),
    (r"what the run leaves|everything that the run leaves", "output folder of the run"),
    (r"no classes in it", "no class labels found; use one sub-folder per class"),
    (r"\bgo(es|ne)? on\b", "resumes, continues"),
    (r"\bleft[ _]out\b|\bleav(e|es|ing)( it| them)? out\b", "skipped, omitted or ignored"),
    (r"\banew\b", "again"),
    (r"\bto the bit\b", "bitwise equal"),
    (r"\bwhole or not at all\b", "atomically"),
    (r"\bwhatever\b|\bnobody\b", "any, regardless of; no one"),
    (r", for (it|they) (is|are|was|were|has|have|does|do|would|cannot|can|lies?)\b", "because"),
    (r"\b(is|are|be|was) said\b", "is printed, reported or described"),
    (r"\bat fault\b", "invalid, unusable"),
    (r"\bwants\b|(?<!you )(?<!may )\bwant\b", "needs; wish is a person's"),
    (r"\bmend(s|ed|ing)?\b", "fix"),
    (r"\bcarries on\b|\bvouch", "continues; untrusted"),
    (r"\bone another\b|label mates?", "each other; images with the same label"),
    (r"\b(bytes|passes|blocks|lines?) an? (image|photograph|stage|name|minute)\b", "per"),
    (r"(says?|said|learnt|learned) nothing\b", "is not informative, was not trained"),
    (
        r"^\s+\w+: (?-i:Of) (a|an|its|the)\b|\"\"\"(?-i:Of) (a|an|its|the)\b",
        "a noun phrase: Number of the …",
    ),
    (r"\b(optimis|normalis|initialis|summaris|regularis|serialis)\w+", "-ize, as Keras and NumPy"),
    (
        r"colour|\bgrey|\bcentre[ds]?\b|behaviour|\blearnt\b|\blicence\b|neighbour",
        "color, gray, center, …, as Keras",
    ),
]


def files():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    read = (".py", ".md", ".html", ".flagfile", ".txt", ".toml", ".sh", "Makefile", ".ci/run")
    read += (".ipynb", "plan.json", "study.json")
    own = pathlib.Path(__file__).relative_to(ROOT).as_posix()  # it names the words
    return [ROOT / name for name in tracked if name.endswith(read) and name != own]


def lines_of(path):
    """The lines of a file; of a notebook those of its cells, without their outputs."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "".join("".join(cell["source"]) + "\n" for cell in json.loads(text)["cells"])
    return text.splitlines()


@pytest.mark.parametrize(("pattern", "instead"), WORDS)
def test_old_words_do_not_return(pattern, instead):
    found = [
        f"{path.relative_to(ROOT)}:{number}: write {instead!r}: {line.strip()}"
        for path in files()
        for number, line in enumerate(lines_of(path), 1)
        if re.search(pattern, line, re.IGNORECASE)
    ]
    assert not found, "\n".join(found)


def test_help_texts_start_with_a_noun_phrase():
    pattern = re.compile(r'flag\(\s*[^,]+,\s*"(Of|Which|What|How|Whether) ')
    found = [str(path) for path in files() if pattern.search(path.read_text(encoding="utf-8"))]
    assert not found
