"""The VOC reader on hand-made trees."""

import os

import pytest

from mgta_tf.data import voc
from mgta_tf.errors import UserError

ANNOTATION = """<annotation><filename>000001.jpg</filename>
<size><width>353</width><height>500</height><depth>3</depth></size>
<object><name>dog</name><truncated>1</truncated><difficult>0</difficult>
<bndbox><xmin>48</xmin><ymin>240</ymin><xmax>195</xmax><ymax>371</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
</object>
<object><name>person</name><difficult>1</difficult>
<bndbox><xmin>8.5</xmin><ymin>12</ymin><xmax>352</xmax><ymax>498</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def tree(tmp_path):
    main = tmp_path / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (main / "trainval.txt").write_text("000001\n000002\n000003\n")
    for name in voc.CLASSES:
        values = {"dog": (1, -1, 0)}.get(name, (-1, -1, -1))
        lines = [f"00000{i} {v:2d}\n" for i, v in enumerate(values, 1)]
        (main / f"{name}_trainval.txt").write_text("".join(lines))
    return tmp_path


def test_the_folder_is_found_from_anywhere(tree):
    expected = str(tree / "VOCdevkit" / "VOC2007")
    for root in (tree, tree / "VOCdevkit", tree / "VOCdevkit" / "VOC2007"):
        assert voc.year_dir(str(root)) == expected
    with pytest.raises(UserError, match="no VOC2012"):
        voc.year_dir(str(tree), "2012")


def test_labels(tree):
    ids, labels = voc.class_labels(voc.year_dir(str(tree)), "trainval")
    assert ids == ["000001", "000002", "000003"]
    assert labels[:, voc.CLASSES.index("dog")].tolist() == [1, -1, 0]
    assert labels[:, voc.CLASSES.index("cat")].tolist() == [-1, -1, -1]


def test_annotation(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(ANNOTATION)
    assert voc.read_annotation(str(path)) == voc.VocAnnotation(
        "000001.jpg",
        353,
        500,
        (
            voc.VocObject("dog", 48, 240, 195, 371, difficult=False, truncated=True),
            voc.VocObject("person", 8.5, 12, 352, 498, difficult=True, truncated=False),
        ),
    )


ENTITY_BOMB = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not xml",
        "<annotation></annotation>",
        ANNOTATION.replace("<xmin>48</xmin>", ""),
        ANNOTATION.replace(">353<", ">wide<"),
        ENTITY_BOMB,
        OUTSIDE,
        "<a>" * 100000,
        " " * (voc.MAX_ANNOTATION_BYTES + 1),
        ANNOTATION.replace("</annotation>", "<object></object>" * 10**6 + "</annotation>"),
        ANNOTATION.replace(">48<", ">nan<"),
        ANNOTATION.replace(">48<", ">1e999<"),
        ANNOTATION.replace(">353<", f">{'9' * 10**6}<"),
    ],
    ids=range(13),
)
def test_bad_annotations_are_named(tmp_path, text):
    path = tmp_path / "bad.xml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad.xml"):
        voc.read_annotation(str(path))


def test_missing_annotation(tmp_path):
    with pytest.raises(UserError, match=r"gone.xml: No such file"):
        voc.read_annotation(str(tmp_path / "gone.xml"))


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("trainval.txt", "../../etc/passwd\n", "cannot be an image"),
        ("cat_trainval.txt", "000001 2\n", "cat_trainval.txt:1"),
        ("cat_trainval.txt", "000009 1\n", "cat_trainval.txt:1"),
        ("cat_trainval.txt", "000001 1\n", "1 lines for the 3 images"),
        ("cat_trainval.txt", "000001 1\n000001 1\n000002 1\n", "lines for the 3"),
    ],
)
def test_bad_lists_are_named(tree, file, text, message):
    folder = voc.year_dir(str(tree))
    (tree / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / file).write_text(text)
    with pytest.raises(UserError, match=message):
        voc.class_labels(folder, "trainval")


def test_missing_split_is_named(tree):
    with pytest.raises(UserError, match=r"test.txt: No such file"):
        voc.image_ids(voc.year_dir(str(tree)), "test")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.xml")
    with pytest.raises(UserError, match=r"a.xml: (not a file|Invalid)"):
        voc.read_annotation(str(tmp_path / "a.xml"))
