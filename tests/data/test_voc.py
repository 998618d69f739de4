"""The VOC reader on hand-made trees."""

import dataclasses
import os
import re

import pytest

from mgta_tf.data import voc
from mgta_tf.data.annotated import LabelledBox
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


DOG = LabelledBox("dog", 48, 240, 195, 371, difficult=False, truncated=True)
PERSON = LabelledBox("person", 8.5, 12, 352, 498, difficult=True, truncated=False)
SIZE = re.search(r"<size>.*</size>", ANNOTATION)[0]


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


def test_the_folder_is_found_from_any_of_its_parents(tree):
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
    assert voc.read_annotation(str(path)) == voc.VocAnnotation((353, 500), (DOG, PERSON))


def hard(box):
    return dataclasses.replace(box, difficult=True)


def named(box, name):
    return dataclasses.replace(box, name=name)


def with_box(xmin, ymin, xmax, ymax):
    return dataclasses.replace(DOG, xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax)


def changed(old, new):
    assert old in ANNOTATION
    return ANNOTATION.replace(old, new)


@pytest.mark.parametrize(
    ("content", "size", "dog"),
    [
        (changed("<filename>000001.jpg</filename>", ""), (353, 500), DOG),
        (changed(SIZE, ""), None, DOG),
        (changed(SIZE, "<size/>"), None, DOG),
        (changed(SIZE, "<size><width>0</width><height>0</height></size>"), None, DOG),
        (changed("<width>353<", "<width> 353.0 <"), (353, 500), DOG),
        (changed("<difficult>0<", "<difficult>true<"), (353, 500), hard(DOG)),
        (changed("<difficult>0<", "<difficult> True\n<"), (353, 500), hard(DOG)),
        (changed("<difficult>0<", "<difficult>Unspecified<"), (353, 500), DOG),
        (changed("<difficult>0</difficult>", "<difficult/>"), (353, 500), DOG),
        (changed("<difficult>0</difficult>", ""), (353, 500), DOG),
        (changed("<xmin>48<", "<xmin>47.6<"), (353, 500), with_box(47.6, 240, 195, 371)),
        (changed("<xmin>48<", "<xmin>-5<"), (353, 500), with_box(-5, 240, 195, 371)),
        (changed("<name>dog<", "<name>\n  hot \t dog <"), (353, 500), named(DOG, "hot dog")),
        (changed("<name>dog<", "<name>Helm 帽<"), (353, 500), named(DOG, "Helm 帽")),
        ("\ufeff" + ANNOTATION, (353, 500), DOG),
        ('<?xml version="1.0" encoding="utf-8"?>\n' + ANNOTATION, (353, 500), DOG),
        (ANNOTATION.encode("utf-16"), (353, 500), DOG),
        (
            ('<?xml version="1.0" encoding="gb2312"?>' + changed("dog", "帽")).encode("gb2312"),
            (353, 500),
            named(DOG, "帽"),
        ),
        (
            ('<?xml version="1.0" encoding="Shift_JIS"?>' + changed("dog", "犬")).encode("cp932"),
            (353, 500),
            named(DOG, "犬"),
        ),
        # A tool that declares no encoding, and writes a folder's name in that of its system
        (
            changed("<filename>000001", "<folder>图片</folder><filename>1").encode("gbk"),
            (353, 500),
            DOG,
        ),
    ],
    ids=range(20),
)
def test_annotations_of_labelling_tools(tmp_path, content, size, dog):
    path = tmp_path / "a.xml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert voc.read_annotation(str(path)) == voc.VocAnnotation(size, (dog, PERSON))


@pytest.mark.parametrize("place", ["<object>", "</object>"])
def test_parts_of_objects_are_ignored(tmp_path, place):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax>"
    part += "</bndbox></part>"
    text = ANNOTATION.replace(place, place + part if place == "<object>" else part + place)
    (tmp_path / "a.xml").write_text(text)
    assert voc.read_annotation(str(tmp_path / "a.xml")).boxes == (DOG, PERSON)


def test_an_image_without_objects(tmp_path):
    (tmp_path / "a.xml").write_text(f"<annotation>{SIZE}</annotation>")
    assert voc.read_annotation(str(tmp_path / "a.xml")) == voc.VocAnnotation((353, 500), ())


ENTITY_BOMB = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not xml",
        "<annotations><image><box/></image></annotations>",
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
        re.sub(r"<bndbox>.*?</bndbox>", "<polygon><pt><x>1</x></pt></polygon>", ANNOTATION),
        ANNOTATION.replace("<name>dog</name>", ""),
        ANNOTATION.replace("<name>dog</name>", "<name> </name>"),
        ANNOTATION.replace("dog", "d" * 201),
        changed("<name>dog", "<name>头盔").encode("gbk"),  # a class of unknown encoding
        ('<?xml version="1.0" encoding="zip"?>' + ANNOTATION).encode(),
        ('<?xml version="1.0" encoding="gb2312"?>' + ENTITY_BOMB).encode(),
    ],
    ids=range(20),
)
def test_bad_annotations_are_named(tmp_path, text):
    path = tmp_path / "bad.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
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
        ("cat_trainval.txt", "000001 1\n", "1 line for the 3 images"),
        ("cat_trainval.txt", "000001 1\n000001 1\n000002 1\n", "000001 is listed twice"),
    ],
)
def test_bad_lists_are_named(tree, file, text, message):
    folder = voc.year_dir(str(tree))
    (tree / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / file).write_text(text)
    with pytest.raises(UserError, match=message):
        voc.class_labels(folder, "trainval")


@pytest.mark.parametrize("style", ["{}.jpg", "JPEGImages/{}.JPG", "JPEGImages\\{}.png", "{} "])
def test_lists_may_contain_file_names(tree, style):
    folder = voc.year_dir(str(tree))
    for name in (f"{name}_trainval.txt" for name in voc.CLASSES):
        path = tree / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / name
        path.write_text(re.sub(r"\d{6}", lambda found: style.format(found[0]), path.read_text()))
    path = path.parent / "trainval.txt"
    path.write_text("\ufeff" + "".join(f"{style.format(f'00000{i}')}\r\n" for i in (1, 2, 3)))
    ids, labels = voc.class_labels(folder, "trainval")
    assert ids == ["000001", "000002", "000003"]
    assert labels[:, voc.CLASSES.index("dog")].tolist() == [1, -1, 0]


def test_names_may_contain_dots_and_spaces_and_have_any_suffix(tree):
    folder = tree / "VOCdevkit" / "VOC2007"
    (folder / "JPEGImages").mkdir()
    photographs = ["img_jpg.rf.0001.jpg", "my photo.2.PNG", "3.jpeg", "unlisted.bmp"]
    for name in photographs:
        (folder / "JPEGImages" / name).write_bytes(b"")
    path = folder / "ImageSets" / "Main" / "trainval.txt"
    path.write_text("img_jpg.rf.0001\nmy photo.2\n3\n")
    ids = voc.image_ids(str(folder), "trainval")
    assert ids == ["img_jpg.rf.0001", "my photo.2", "3"]
    found = voc.image_paths(str(folder), "trainval", ids)
    assert [os.path.basename(p) for p in found] == photographs[:3]
    (folder / "JPEGImages" / "3.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"3\.jpeg, 3\.png are all image 3; keep one"):
        voc.image_paths(str(folder), "trainval", ids)
    with pytest.raises(UserError, match=r"trainval\.txt: 2 of its 3 images missing .*: 4, 5"):
        voc.image_paths(str(folder), "trainval", ["img_jpg.rf.0001", "4", "5"])


def test_without_class_lists_labels_come_from_the_annotations(tree):
    folder = tree / "VOCdevkit" / "VOC2007"
    for name in voc.CLASSES:
        (folder / "ImageSets" / "Main" / f"{name}_trainval.txt").unlink()
    (folder / "Annotations").mkdir()
    for number in (1, 2, 3):
        text = ANNOTATION if number == 1 else f"<annotation>{SIZE}</annotation>"
        (folder / "Annotations" / f"00000{number}.xml").write_text(text)
    _, labels = voc.class_labels(str(folder), "trainval")
    shown = dict(zip(voc.CLASSES, labels.T.tolist()))
    assert shown["dog"] == [1, -1, -1]
    assert shown["person"] == [0, -1, -1]  # only as a difficult one
    assert shown["cat"] == [-1, -1, -1]


def test_missing_split_is_named(tree):
    with pytest.raises(UserError, match=r"test.txt: No such file"):
        voc.image_ids(voc.year_dir(str(tree)), "test")


def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "a.xml")
    with pytest.raises(UserError, match=r"a.xml: (not a file|Invalid)"):
        voc.read_annotation(str(tmp_path / "a.xml"))
