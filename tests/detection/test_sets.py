"""Layouts of photographs with boxes: the images to train and evaluate on, and the remarks."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from mgta_tf.data import voc
from mgta_tf.detection.config import BoxDataConfig
from mgta_tf.detection.sets import digest, load
from mgta_tf.errors import UserError

# The content of every layout below: photograph → (class, xmin, ymin, xmax, ymax) in VOC's pixels.
TRAIN = {
    "a.1.rf.0f.jpg": [("helmet", 11, 6, 30, 15), ("vest", 1, 1, 60, 40)],
    "b c.JPG": [("helmet", 2.5, 6, 30, 15.25)],
    "empty.png": [],
}
VAL = {"v.jpeg": [("helmet", 5, 6, 7, 8)]}
TEST = {"t.jpg": [("vest", 3, 4, 20, 30)], "u.jpg": [("helmet", 3, 4, 20, 30)]}
ALL = {**TRAIN, **VAL, **TEST}


def photo(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.new("RGB", (60, 40), "gray").save(path)


def xml(path, boxes, extra="", size=(60, 40)):
    objects = "".join(
        f"<object><name>{name}</name>{extra}<bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, x0, y0, x1, y1 in boxes
    )
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        stated = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
        file.write(f"<annotation>{stated}{objects}</annotation>")


def pair(images, annotations, photographs):
    for name, boxes in photographs.items():
        photo(f"{images}/{name}")
        xml(f"{annotations}/{os.path.splitext(name)[0]}.xml", boxes)


def coco(path, photographs, file_name="{}", first=0, **more):
    """A JSON as exported by tools: ids with gaps, and a parent category without boxes."""
    ids = {"helmet": 1, "vest": 7}
    images, annotations = [], []
    for number, (name, boxes) in enumerate(photographs.items(), first):
        image = {"id": number * 3, "file_name": file_name.format(name), "width": 60, "height": 40}
        images.append(image)
        for label, x0, y0, x1, y1 in boxes:
            box = [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1]
            entry = {"id": len(annotations), "image_id": number * 3, "category_id": ids[label]}
            annotations.append({**entry, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": 0, "name": "equipment", "supercategory": "none"}]
    categories += [{"id": i, "name": n, "supercategory": "equipment"} for n, i in ids.items()]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        json.dump(
            {"images": images, "annotations": annotations, "categories": categories, **more}, file
        )


# ------------------------------------------------------------------------- Layouts of VOC's XML


def pair_of_folders(root):
    pair(f"{root}/images", f"{root}/annotations", ALL)


def side_by_side(root):  # LabelImg
    pair(root, root, ALL)


def deeper(root):
    pair(f"{root}/JPEGImages/2024/01", f"{root}/Annotations/2024/01", TRAIN)
    pair(f"{root}/JPEGImages/2024/02", f"{root}/Annotations/2024/02", {**VAL, **TEST})


def cvat(root):  # its list names no split
    pair(f"{root}/JPEGImages", f"{root}/Annotations", ALL)
    os.makedirs(f"{root}/ImageSets/Main")
    with open(f"{root}/ImageSets/Main/default.txt", "w") as file:
        file.write("\n".join(os.path.splitext(name)[0] for name in ALL))


def roboflow(root):
    for split, photographs in (("train", TRAIN), ("valid", VAL), ("test", TEST)):
        pair(f"{root}/{split}", f"{root}/{split}", photographs)


def split_pairs(root):
    for split, photographs in (("Train", TRAIN), ("validation", VAL), ("test", TEST)):
        pair(f"{root}/images/{split}", f"{root}/annotations/{split}", photographs)


def lists(root):
    pair(f"{root}/JPEGImages", f"{root}/Annotations", ALL)
    os.makedirs(f"{root}/ImageSets/Main")
    for split, photographs in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        with open(f"{root}/ImageSets/Main/{split}.txt", "w") as file:
            file.write("\r\n".join(photographs))  # with suffixes


def roboflow_same_names(root):
    """Splits may use the same file names: here, test has a name that is also in train."""
    roboflow(root)
    for name in ("t.jpg", "t.xml"):
        os.remove(f"{root}/test/{name}")
    pair(f"{root}/test", f"{root}/test", {"b c.JPG": TEST["t.jpg"]})


# ------------------------------------------------------------------------------ Layouts of COCO


def coco_roboflow(root):
    for split, photographs in (("train", TRAIN), ("valid", VAL), ("test", TEST)):
        coco(f"{root}/{split}/_annotations.coco.json", photographs)
        for name in photographs:
            photo(f"{root}/{split}/{name}")


def coco_itself(root):
    for split, photographs in (("train2017", TRAIN), ("val2017", {**VAL, **TEST})):
        coco(f"{root}/annotations/instances_{split}.json", photographs)
        coco(f"{root}/annotations/person_keypoints_{split}.json", photographs)
        with open(f"{root}/annotations/captions_{split}.json", "w") as file:
            file.write('{"images": [], "annotations": []}')
        for name in photographs:
            photo(f"{root}/{split}/{name}")


def coco_cvat(root):
    coco(f"{root}/annotations/instances_default.json", ALL)
    for name in ALL:
        photo(f"{root}/images/default/{name}")


def coco_label_studio(root):
    coco(f"{root}/result.json", ALL, "..\\..\\media\\upload\\1\\{}")
    for name in ALL:
        photo(f"{root}/images/{name}")


def coco_of_folders(root):
    photographs = {f"train/{n}": b for n, b in TRAIN.items()}
    photographs.update({f"val/{n}": b for n, b in VAL.items()})
    photographs.update({f"test/{n}": b for n, b in TEST.items()})
    coco(f"{root}/all.json", photographs)
    for name in photographs:
        photo(f"{root}/{name}")


def found(sets, name):
    return {
        os.path.basename(image.path): [
            (b.name, b.xmin, b.ymin, b.xmax, b.ymax) for b in image.boxes
        ]
        for image in sets.images[name]
    }


def load_own(root, **flags):
    """Loads a folder as --coco_root if it holds a JSON, as --voc_root otherwise."""
    flag = "coco_root" if any(p.suffix == ".json" for p in [root, *root.rglob("*")]) else "voc_root"
    return load(BoxDataConfig(**{flag: str(root)}, **flags))


@pytest.mark.parametrize(
    "layout", [roboflow, split_pairs, lists, coco_roboflow, coco_of_folders, coco_itself]
)
def test_splits_of_the_data_are_used(tmp_path, layout):
    layout(str(tmp_path / "data"))
    sets = load_own(tmp_path / "data")
    assert sets.classes == ("helmet", "vest")
    test = {**VAL, **TEST} if layout is coco_itself else TEST
    assert found(sets, "test") == test
    assert found(sets, "train") == {n: b for n, b in ALL.items() if n not in test}
    assert all(image.size == (60, 40) for image in sets.images["train"])
    assert "its splits train" in sets.remarks[0]
    with pytest.raises(
        UserError, match=r"--test_share=0\.5: the data have a \w+ split of their own"
    ):
        load_own(tmp_path / "data", test_share=0.5)


@pytest.mark.parametrize(
    "layout", [pair_of_folders, side_by_side, deeper, cvat, coco_cvat, coco_label_studio]
)
def test_data_without_splits_are_split_by_test_share(tmp_path, layout):
    layout(str(tmp_path / "data"))
    sets = load_own(tmp_path / "data", test_share=0.4)
    train, test = found(sets, "train"), found(sets, "test")
    assert {**train, **test} == ALL
    assert (len(train), len(test)) == (4, 2)  # of 5 with boxes 2, of 1 without boxes none
    assert "empty.png" in train
    assert "(--test_share=0.4)" in sets.remarks[0]
    assert (
        found(load_own(tmp_path / "data"), "test").items() <= test.items()
    )  # 0.2: a part of these


def test_the_same_name_in_two_splits(tmp_path):
    roboflow_same_names(str(tmp_path / "data"))
    sets = load_own(tmp_path / "data")
    assert found(sets, "test") == {"b c.JPG": TEST["t.jpg"], "u.jpg": TEST["u.jpg"]}
    assert found(sets, "train") == {**TRAIN, **VAL}
    os.remove(tmp_path / "data" / "test" / "b c.JPG")  # train's is not taken in its place
    sets = load_own(tmp_path / "data")
    assert sets.skipped == {"annotation without an image": ["test/b c.xml"]}


def test_coco_root_may_be_a_json(tmp_path):
    coco_itself(str(tmp_path))
    path = str(tmp_path / "annotations" / "instances_train2017.json")
    sets = load(BoxDataConfig(coco_root=path))
    assert {**found(sets, "train"), **found(sets, "test")} == TRAIN


def test_crowds_and_ignored_boxes_are_difficult(tmp_path):
    coco(f"{tmp_path}/train/x.json", TRAIN)
    coco(f"{tmp_path}/test/x.json", TEST)
    for split, photographs in (("train", TRAIN), ("test", TEST)):
        for name in photographs:
            photo(f"{tmp_path}/{split}/{name}")
    path = tmp_path / "train" / "x.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][2]["ignore"] = 1
    del content["annotations"][1]["iscrowd"]
    content["images"][0].update(width="60.0", height=0)
    content["categories"][1]["name"] = " hard   hat\n"
    path.write_text("\ufeff" + json.dumps(content))
    sets = load(BoxDataConfig(coco_root=str(tmp_path)))
    images = {os.path.basename(i.path): i for i in sets.images["train"]}
    first = images["a.1.rf.0f.jpg"]
    assert [(b.name, b.difficult) for b in first.boxes] == [("hard hat", True), ("vest", False)]
    assert [b.difficult for b in images["b c.JPG"].boxes] == [True]
    assert first.size is None
    assert "no boxes to train on: hard hat, helmet" in sets.remarks


def test_what_is_not_read_is_counted_and_named(tmp_path):
    root = tmp_path / "data"
    pair_of_folders(str(root))
    os.remove(root / "images" / "b c.JPG")
    photo(str(root / "images" / "unlabelled.jpg"))
    (root / "annotations" / "v.xml").write_text("<annotation><object/></annotation>")
    (root / "images" / ".DS_Store").write_bytes(b"")
    for service in ("__MACOSX", ".git"):
        shutil.copytree(root / "annotations", root / service)
    photo(str(tmp_path / "elsewhere.jpg"))
    (root / "images" / "linked.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    sets = load_own(root)
    assert sum(map(len, sets.images.values())) == 4
    assert sets.skipped == {
        "a link that leads out of the folder": ["images/linked.jpg"],
        "annotation without an image": ["annotations/b c.xml"],
        "not a VOC annotation (an object of the class '')": ["annotations/v.xml"],
        "image without an annotation": ["images/unlabelled.jpg"],
    }
    assert "not read: 1 × annotation without an image (annotations/b c.xml)" in sets.remarks
    for name in ("empty.png", "t.jpg", "u.jpg"):
        os.remove(root / "images" / name)
    message = "1 photograph with boxes in VOC's XML; 1 × a link.*; 4 × annotation without an image"
    with pytest.raises(UserError, match=message):
        load_own(root)


def test_classes(tmp_path):
    roboflow(str(tmp_path))
    sets = load_own(tmp_path, classes="vest")
    assert sets.classes == ("vest",)
    assert found(sets, "train")["a.1.rf.0f.jpg"] == [("vest", 1, 1, 60, 40)]
    assert found(sets, "train")["b c.JPG"] == []
    assert "boxes of classes that --classes does not name: helmet" in sets.remarks
    assert load_own(tmp_path, classes="vest, helmet").classes == ("vest", "helmet")
    assert "boxes to train on/to evaluate on: helmet 3/1, vest 1/1" in load_own(tmp_path).remarks
    with pytest.raises(UserError, match="--classes: no boxes of boot; the data have helmet, vest"):
        load_own(tmp_path, classes="vest,boot")
    xml(f"{tmp_path}/test/t.xml", [("Helmet", 3, 4, 20, 30), ("boot", 1, 1, 9, 9)])
    sets = load_own(tmp_path)
    assert sets.classes == ("Helmet", "boot", "helmet", "vest")
    assert "no boxes to train on: Helmet, boot" in sets.remarks
    assert "no boxes to evaluate on: vest" in sets.remarks
    assert sets.remarks[-1].endswith("taken as classes: Helmet, helmet")
    with pytest.raises(UserError, match="--classes: no boxes to train on of boot"):
        load_own(tmp_path, classes="helmet,boot")


def test_a_devkit_without_other_classes_has_vocs_twenty(make_voc, tmp_path):
    scene = [("cow", 5, 5, 20, 20, 0)]
    devkit = make_voc(tmp_path / "VOCdevkit", [scene, []], [scene])
    sets = load(BoxDataConfig(voc_root=str(devkit)))
    assert sets.classes == voc.CLASSES
    assert list(sets.images) == ["2007_trainval", "2007_test"]
    assert load(BoxDataConfig(voc_root=str(devkit), classes="cow")).classes == ("cow",)
    with pytest.raises(UserError, match="no VOC2012/ImageSets/Main"):
        load(BoxDataConfig(voc_root=str(devkit), train_set="voc0712"))
    path = devkit / "VOC2007" / "Annotations" / "000001.xml"
    path.write_text(path.read_text().replace("cow", "helmet"))
    sets = load(BoxDataConfig(voc_root=str(devkit)))
    assert sets.classes == ("cow", "helmet")
    assert [b.name for i in sets.images["2007_trainval"] for b in i.boxes] == ["helmet"]
    folder = devkit / "VOC2007" / "ImageSets" / "Main"
    (folder / "test.txt").write_text("000001\n000003\n")
    sets = load(BoxDataConfig(voc_root=str(devkit)))
    assert sets.remarks[0] == "1 of the 2 test images also trained on: 000001.jpg"
    (folder / "test.txt").write_text("000003\n")
    for name, split in (("trainval", "train"), ("test", "val")):
        (folder / f"{name}.txt").rename(folder / f"{split}.txt")
    sets = load(BoxDataConfig(voc_root=str(devkit)))
    assert {name: len(images) for name, images in sets.images.items()} == {"train": 2, "test": 1}
    (folder / "val.txt").write_text("000003\n000002\n")
    sets = load(BoxDataConfig(voc_root=str(devkit)))
    assert {name: len(images) for name, images in sets.images.items()} == {"train": 1, "test": 2}
    assert "val.txt: 1 image also in other lists" in sets.remarks[1]
    shutil.rmtree(devkit / "VOC2007" / "ImageSets")
    sets = load(BoxDataConfig(voc_root=str(devkit), test_share=0.4))
    assert {name: len(images) for name, images in sets.images.items()} == {"train": 2, "test": 1}


def test_what_cannot_be_used_is_refused_at_the_start(make_voc, tmp_path):
    def fails(message, **flags):
        with pytest.raises(UserError, match=message):
            load(BoxDataConfig(**flags))

    fails("--voc_root or --records is required")
    fails("name one of them", voc_root="a", coco_root="b")
    fails("--coco_root=nowhere: no such file or folder", coco_root="nowhere")
    root = tmp_path / "data"
    root.mkdir()
    fails("data: 0 photographs with boxes in VOC's XML", voc_root=str(root))
    fails("no JSON with images, annotations, categories in it", coco_root=str(root))
    photo(f"{root}/images/a.jpg")
    xml(f"{root}/annotations/a.xml", TEST["t.jpg"])
    fails("one photograph with boxes; at least two", voc_root=str(root))
    photo(f"{root}/img/a.jpg")
    fails(r"annotations/a\.xml may belong to images/a\.jpg, img/a\.jpg", voc_root=str(root))
    os.remove(root / "img" / "a.jpg")
    xml(f"{root}/copy/a.xml", TEST["t.jpg"])
    fails(r"annotations/a\.xml and copy/a\.xml both annotate images/a\.jpg", voc_root=str(root))
    os.remove(root / "copy" / "a.xml")
    pair(f"{root}/test", f"{root}/test", TEST)
    fails(r"1 photograph outside of its splits \(test\): a\.jpg", voc_root=str(root))
    shutil.rmtree(root / "images")
    shutil.rmtree(root / "annotations")
    fails("only a test split, nothing to train on", voc_root=str(root))
    pair(f"{root}/train", f"{root}/train", {"e.jpg": []})
    fails("no boxes to train on in 1 photograph", voc_root=str(root))
    devkit = make_voc(tmp_path / "VOCdevkit", [[]], [[]])
    fails("no boxes to train on in 1 photograph", voc_root=str(devkit))


@pytest.mark.parametrize("layout", ["voc", "coco", "devkit"])
def test_photographs_of_unclear_orientation_are_refused_at_the_start(make_voc, tmp_path, layout):
    """By their headers, before records are written; photographs without boxes do not matter."""
    root = tmp_path / "data"
    if layout == "devkit":
        scenes = [[("cow", 5, 5, 20, 20, 0)], []]
        folder = make_voc(root, scenes, scenes) / "VOC2007" / "JPEGImages"
        turned, flag = ["000001.jpg", "000002.jpg", "000003.jpg"], "voc_root"
    else:
        pair(root, root, ALL)
        coco(f"{root}/all.json", ALL)
        folder, turned = root, ["t.jpg", "empty.png", "v.jpeg"]
        flag = f"{layout}_root"
    exif = Image.Exif()
    exif[0x0112] = 3
    for name in turned:
        Image.open(folder / name).save(folder / name, exif=exif)
    reason = r"EXIF orientation 3, and .* fits both, .*; 1 more: \w+\.jpe?g"
    with pytest.raises(UserError, match=rf"data/.*\.jpe?g: {reason}"):
        load(BoxDataConfig(**{flag: str(root)}))


GOOD = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}],
    "categories": [{"id": 1, "name": "helmet"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
}


def with_entry(key, **changes):
    return {**GOOD, key: [{**GOOD[key][0], **changes}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "damaged JSON"),
        ("[" * 100_000, "damaged JSON"),
        ("[]", "no lists images, annotations, categories"),
        ({**GOOD, "images": {}}, "no lists"),
        ({**GOOD, "images": GOOD["images"] * 2}, "two images of the id 1"),
        ({**GOOD, "images": [*GOOD["images"], {"id": 2, "file_name": "x/a.jpg"}]}, "listed twice"),
        ({**GOOD, "images": [1]}, "not COCO's JSON"),
        (with_entry("images", id=None), "an id None"),
        (with_entry("images", file_name=7), "not COCO's JSON"),
        (with_entry("images", width=float("inf")), "a size of inf"),
        (with_entry("images", width="wide"), "not COCO's JSON"),
        (with_entry("categories", name=""), "a category called"),
        (with_entry("categories", name="x" * 300), "a category called"),
        (with_entry("annotations", category_id=3), "category 3, which is not listed"),
        (with_entry("annotations", bbox=[]), "annotation 1 without a box"),
        (with_entry("annotations", bbox=[1, 2, 3]), "annotation 1 without a box"),
        (with_entry("annotations", bbox=[1, 2, float("nan"), 4]), "a box"),
        (with_entry("annotations", bbox=[1, 2, 1e9, 4]), "a box"),
        (with_entry("annotations", bbox=None), "not COCO's JSON"),
        ({**GOOD, "annotations": [{"image_id": 1, "category_id": 1}]}, "no 'bbox'"),
        (with_entry("images", file_name="../outside.jpg"), "image that is listed and missing"),
        (with_entry("images", file_name="/etc/passwd"), "image that is listed and missing"),
        (with_entry("images", file_name=""), "image that is listed and missing"),
    ],
    ids=range(23),
)
def test_a_bad_json_is_named(tmp_path, content, message):
    photo(f"{tmp_path}/data/a.jpg")
    photo(f"{tmp_path}/outside.jpg")
    path = tmp_path / "data" / "x.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=message) as raised:
        load(BoxDataConfig(coco_root=str(path)))
    assert "data" in str(raised.value)


def test_boxes_of_images_that_are_not_listed_are_counted(tmp_path):
    coco_cvat(str(tmp_path))
    path = tmp_path / "annotations" / "instances_default.json"
    content = json.loads(path.read_text())
    del content["images"][0]  # with two boxes
    path.write_text(json.dumps(content))
    sets = load_own(tmp_path)
    assert "2 boxes of unlisted images ignored" in sets.remarks[1]
    assert sets.skipped["image without an annotation"] == ["images/default/a.1.rf.0f.jpg"]


def test_the_digest_covers_boxes_classes_and_pixels_but_not_the_location(tmp_path):
    roboflow(str(tmp_path / "data"))
    first = digest(load_own(tmp_path / "data"))
    shutil.copytree(tmp_path / "data", tmp_path / "moved")
    assert digest(load_own(tmp_path / "moved")) == first
    assert digest(load_own(tmp_path / "data", classes="vest,helmet")) != first
    path = tmp_path / "data" / "train" / "b c.JPG"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[:20] = 0
    Image.fromarray(pixels).save(path, "JPEG")
    second = digest(load_own(tmp_path / "data"))
    assert second != first
    xml(f"{tmp_path}/data/train/b c.xml", [("helmet", 2, 6, 30, 15.25)])
    assert digest(load_own(tmp_path / "data")) not in (first, second)
