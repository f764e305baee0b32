"""Data sets that the `datasets` library reads, here from local folders: the same path as the Hub's."""

import io
from types import SimpleNamespace

import pytest
from PIL import Image

from vgs_mlx.data import hub, pictures
from vgs_mlx.data.datasets import Reading, load, load_held_out
from vgs_mlx.data.rows import Columns
from vgs_mlx.errors import Refusal
from vgs_mlx.runs.identity import of_data

hf = pytest.importorskip("datasets")
PAPER = Reading(Columns(hub.PAPER_COLUMNS))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(hf.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    hf.disable_progress_bars()


def png(width):
    buffer = io.BytesIO()
    Image.new("RGB", (width, 4), "red").save(buffer, "PNG")
    return buffer.getvalue()


def paper_like(count, first=1, several=False):
    """Rows in Vision-SR1-47K's columns; picture number n is n pixels wide."""
    cells = [{"bytes": png(first + n), "path": None} for n in range(count)]
    picture = hf.Image()
    features = {"problem": hf.Value("string"), "answer": hf.Value("string")}
    features["images"] = hf.List(picture) if several else picture
    rows = {
        "problem": [f"<image>How wide is {first + n}?" for n in range(count)],
        "answer": [str(first + n) for n in range(count)],
        "images": [[cell] for cell in cells] if several else cells,
    }
    return hf.Dataset.from_dict(rows, features=hf.Features(features))


def widths(examples):
    return [[picture.open().width for picture in example.pictures] for example in examples]


@pytest.fixture(params=["parquet", "save_to_disk"])
def folder(request, tmp_path):
    """A data set with the splits train (4 rows) and test (2 rows)."""
    splits = hf.DatasetDict(train=paper_like(4), test=paper_like(2, first=11))
    path = tmp_path / "data"
    if request.param == "save_to_disk":
        splits.save_to_disk(str(path))
    else:
        path.mkdir()
        for name, split in splits.items():
            split.to_parquet(str(path / f"{name}-00000-of-00001.parquet"))
    return path


def test_rows_become_examples_and_pictures_are_read_when_opened(folder):
    data = load(str(folder), held_out="test", how=PAPER)
    assert widths(data.train) == [[1], [2], [3], [4]] and widths(data.held_out) == [[11], [12]]
    assert (data.train[2].question, data.train[2].answer) == ("How wide is 3?", "3")
    assert data.train[2].id == "data:train:2" and data.held_out[0].id == "data:test:0"


def test_a_data_set_that_moves_has_the_same_rows(folder, tmp_path):
    """As the fingerprints of a run see them."""
    before = load(str(folder), held_out="test", how=PAPER)
    (tmp_path / "elsewhere").mkdir()
    folder.rename(tmp_path / "elsewhere" / "data")
    after = load(str(tmp_path / "elsewhere" / "data"), held_out="test", how=PAPER)
    assert of_data(after) == of_data(before)


def test_pictures_beside_a_table_are_named_as_seen_from_their_folder(tmp_path):
    found = []
    for place in ("one", "two"):
        data = tmp_path / place / "data"
        (data / "sub").mkdir(parents=True)
        (data / "sub" / "a.png").write_bytes(png(5))
        (data / "metadata.csv").write_text("file_name,question,answer\nsub/a.png,Wide?,5\n")
        found.append(load_held_out(str(data)))
    assert found[0].held_out[0].pictures[0].name == "sub/a.png"
    assert of_data(found[0]) == of_data(found[1])


def test_lists_of_pictures_are_read_too(tmp_path):
    paper_like(3, several=True).save_to_disk(str(tmp_path / "data"))
    assert widths(load_held_out(str(tmp_path / "data"), PAPER).held_out) == [
        [1],
        [2],
        [3],
    ]


def test_stored_cells_are_noted_by_their_bytes(folder):
    data = load(str(folder), held_out="test", how=PAPER)
    noted = [each.pictures[0] for each in data.train + data.held_out]
    assert [each.size for each in noted] == [(width, 4) for width in (1, 2, 3, 4, 11, 12)]
    assert len({each.digest for each in noted}) == 6
    stored = pictures.looked_at(pictures.from_bytes(lambda: png(3), "the same bytes"), "row", {})
    assert noted[2].digest == stored.digest


def test_a_fraction_or_another_data_set_holds_out_rows(folder, tmp_path):
    assert len(load(str(folder), held_out=0.5, how=PAPER).held_out) == 2
    other = load(f"{folder}:test", held_out=f"{folder}:train", how=PAPER)
    assert (len(other.train), len(other.held_out)) == (2, 4)


def test_training_and_held_out_split_must_differ(folder):
    for source, held_out in ((str(folder), "train"), (f"{folder}:test", "test"), (str(folder), str(folder))):
        with pytest.raises(Refusal, match="the rows to train on"):
            load(source, held_out=held_out, how=PAPER)


def test_a_split_that_is_not_there_is_refused_with_those_that_are(folder):
    with pytest.raises(Refusal, match=r"no split 'validation' but (train, test|test, train): write "):
        load(str(folder), held_out="validation", how=PAPER)


def test_the_only_split_is_taken_whatever_its_name(tmp_path):
    hf.DatasetDict(golden=paper_like(2)).save_to_disk(str(tmp_path / "data"))
    assert len(load_held_out(str(tmp_path / "data"), PAPER).held_out) == 2


def test_a_column_that_is_not_there_is_refused_with_those_that_are(folder):
    with pytest.raises(
        Refusal, match=r"no column 'question' but .*problem.*: say in data.columns which is question"
    ):
        load_held_out(str(folder))
    with pytest.raises(Refusal, match=r"no column 'picture' but "):
        load_held_out(str(folder), Reading(Columns(hub.PAPER_COLUMNS | {"images": "picture"})))


def labelled(**features):
    """Two rows with class labels, and further columns (feature, cells)."""
    yes_no = hf.ClassLabel(names=["no", "yes"])
    given = {
        "question": (hf.Value("string"), ["Is it red?", "Is it blue?"]),
        "answer": (yes_no, [1, 0]),
        "kind": (hf.ClassLabel(names=["red", "blue"]), [0, 1]),
        "image": (hf.Image(), [{"bytes": png(n), "path": None} for n in (1, 2)]),
        **features,
    }
    types = hf.Features({name: feature for name, (feature, _) in given.items()})
    return hf.Dataset.from_dict({name: cells for name, (_, cells) in given.items()}, features=types)


def stored(data, how, path):
    """The folder of a data set, stored in one of the two ways."""
    if how == "save_to_disk":
        data.save_to_disk(str(path))
    else:
        path.mkdir()
        data.to_parquet(str(path / "train.parquet"))
    return str(path)


@pytest.mark.parametrize("how", ["parquet", "save_to_disk"])
def test_class_labels_are_read_by_their_names(tmp_path, how):
    first, second = load_held_out(stored(labelled(), how, tmp_path / "data")).held_out
    assert [(each.answer, each.kind) for each in (first, second)] == [("yes", "red"), ("no", "blue")]


def test_class_labels_in_lists_are_read_by_their_names_and_a_missing_one_is_missing(tmp_path):
    several = hf.List(hf.ClassLabel(names=["no", "yes"]))
    source = stored(labelled(answer=(several, [[1, 0], [0]])), "parquet", tmp_path / "lists")
    assert [each.answers for each in load_held_out(source).held_out] == [("yes", "no"), ("no",)]
    unknown = hf.ClassLabel(names=["no", "yes"])
    source = stored(labelled(answer=(unknown, [-1, None])), "parquet", tmp_path / "unknown")
    with pytest.raises(
        Refusal, match=r"(?s)2 of 2 rows.*:0: missing answer: the cell is empty.*:1: missing answer"
    ):
        load_held_out(source)


def test_an_empty_cell_of_a_table_of_numbers_is_missing_and_a_kind_may_be_a_number(tmp_path):
    number = hf.Value("float64")
    data = labelled(answer=(number, [1.5, float("nan")]), kind=(hf.Value("int64"), [3, None]))
    source = stored(data, "parquet", tmp_path / "data")
    with pytest.raises(Refusal, match=r"1 of 2 rows .*\n.*:1: missing answer: the cell is empty"):
        load_held_out(source)
    found = load_held_out(source, Reading(on_bad_row="skip")).held_out
    assert [(each.answer, each.kind) for each in found] == [("1.5", "3")]
    endless = labelled(answer=(number, [1.0, float("inf")]))
    with pytest.raises(Refusal, match=r":1: answer must be a finite number, not inf"):
        load_held_out(stored(endless, "parquet", tmp_path / "endless"))


def test_options_and_columns_that_nothing_reads_are_reported_as_for_files(tmp_path):
    colours = (hf.List(hf.Value("string")), [["red", "blue"], []])
    data = labelled(
        choices=colours, hint=(hf.Value("string"), ["a", "b"]), images=(hf.Value("string"), ["", ""])
    )
    source = stored(data.rename_column("image", "picture"), "parquet", tmp_path / "data")
    columns = {"image": "picture"}
    with pytest.raises(
        Refusal, match=r"1 of 2 rows .*\n.*:0: the question does not list its options \(column"
    ):
        load_held_out(source, Reading(Columns(columns)))
    found = load_held_out(source, Reading(Columns(columns, ignored=["choices"])))
    assert len(found.held_out) == 2 and set(found.unread) == {"hint", "images"}
    listed = labelled(choices=(hf.List(hf.ClassLabel(names=["red", "blue"])), [[0], [1]]))
    assert len(load_held_out(stored(listed, "parquet", tmp_path / "listed")).held_out) == 2
    unkind = load_held_out(source, Reading(Columns(columns, ignored=["choices", "kind", "images"])))
    assert [each.kind for each in unkind.held_out] == ["", ""] and unkind.unread == ("hint",)


def test_options_that_are_pictures_are_not_decoded_and_are_named(tmp_path):
    cells = [[{"bytes": png(3), "path": None}], []]
    source = stored(labelled(options=(hf.List(hf.Image()), cells)), "parquet", tmp_path / "data")
    assert load_held_out(source).unread == ("options",)


def test_the_papers_columns_are_read_and_others_named(monkeypatch):
    data = paper_like(2).add_column("split", ["a", "b"])
    monkeypatch.setattr(hf, "load_dataset", lambda *_, **__: hf.DatasetDict(train=data))
    assert load_held_out("tomyoon2/OPD_val").unread == ("split",)


@pytest.mark.parametrize("column", ["messages", "conversations", "prompt"])
def test_conversations_are_called_by_their_name(tmp_path, column):
    turn = {"role": hf.Value("string"), "content": hf.Value("string")}
    features = hf.Features({column: hf.List(turn), "images": hf.List(hf.Image())})
    rows = {column: [[{"role": "user", "content": "What?"}]], "images": [[{"bytes": png(1), "path": None}]]}
    source = stored(hf.Dataset.from_dict(rows, features=features), "parquet", tmp_path / "data")
    with pytest.raises(
        Refusal, match=f"no column 'question' but .*: the column '{column}' holds a conversation"
    ):
        load_held_out(source)
    with pytest.raises(Refusal, match=f"the column '{column}' holds a conversation"):
        load_held_out(source, Reading(Columns({"question": column, "answer": column})))


def test_markers_and_texts_are_checked_as_for_files(tmp_path):
    questions = (hf.Value("string"), ["Compare <image> with it", "a\0b"])
    source = stored(labelled(question=questions), "parquet", tmp_path / "data")
    with pytest.raises(
        Refusal, match=r"(?s):0: the question holds the marker <image> at .*:1: .*NUL .at char"
    ):
        load_held_out(source)


def test_damaged_and_missing_pictures_are_bad_rows(tmp_path):
    cells = [{"bytes": png(1), "path": None}, {"bytes": png(2)[:40], "path": None}, None]
    features = hf.Features(question=hf.Value("string"), answer=hf.Value("string"), image=hf.Image())
    rows = {"question": ["?"] * 3, "answer": ["1"] * 3, "image": cells}
    hf.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "data"))
    with pytest.raises(Refusal, match=r"(?s)2 of 3 rows.*data:train:1: .*\n.*data:train:2: no picture"):
        load_held_out(str(tmp_path / "data"))
    assert widths(load_held_out(str(tmp_path / "data"), Reading(on_bad_row="skip")).held_out) == [[1]]


def test_a_folder_of_pictures_is_read_by_its_metadata(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.png").write_bytes(png(5))
    (data / "metadata.csv").write_text("file_name,question,answer\na.png,Wide?,5\n")
    example = load_held_out(str(data)).held_out[0]
    assert (example.question, example.answer, widths([example])) == ("Wide?", "5", [[5]])


def test_stored_paths_must_not_leave_the_folder(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(3))
    rows = {"question": ["?"], "answer": ["1"], "image": [str(secret)]}
    hf.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "data"))
    with pytest.raises(Refusal, match="leaves the data set's folder"):
        load_held_out(str(tmp_path / "data"))
    assert widths(load_held_out(str(tmp_path / "data"), Reading(allow_outside=True)).held_out) == [[3]]


def test_without_a_network_the_refusal_is_one_line(monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("Couldn't reach 'owner/name' on the Hub\nand more")

    monkeypatch.setattr(hf, "load_dataset", unreachable)
    with pytest.raises(
        Refusal, match=r"owner/name can't be loaded \(.*the Hugging Face Hub\): Couldn't"
    ) as caught:
        load("owner/name", held_out=0.1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tomyoon2/OPD_train", "tomyoon2/OPD_val"])
def test_the_papers_data_needs_no_columns_of_ours(monkeypatch, name):
    monkeypatch.setattr(hf, "load_dataset", lambda *_, **__: hf.DatasetDict(train=paper_like(2)))
    assert widths(load_held_out(name).held_out) == [[1], [2]]


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("owner/name", ("owner/name", None, None)),
        ("owner/name:test", ("owner/name", None, "test")),
        ("owner/name:hard:test", ("owner/name", "hard", "test")),
        ("owner/name:", None),
        ("owner", None),
        ("a/b/c", None),
        ("owner/name:a:b:c", None),
        ("owner/name@v1", ("owner/name", None, None, "v1")),
        ("owner/name@v1:test", ("owner/name", None, "test", "v1")),
        ("owner/name@refs/pr/3:hard:test", ("owner/name", "hard", "test", "refs/pr/3")),
        ("owner/name@", None),
        ("owner/name@:test", None),
    ],
)
def test_names_carry_configuration_and_split(source, parts):
    assert hub.parse_name(source) == (parts and hub.HubName(*parts))
    assert parts is None or str(hub.parse_name(source)) == source


COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture
def asked(monkeypatch):
    """What `datasets` is asked for, with a Hub whose newest commit is COMMIT and whose tag v1 is OTHER."""
    asked = []

    def info(_, name, *, revision=None, timeout):
        if revision not in (None, "v1"):
            answer = SimpleNamespace(headers={}, request=None)
            raise hub.RevisionNotFoundError("404 Client Error.\n\nRevision Not Found", response=answer)
        return SimpleNamespace(sha=OTHER if revision else COMMIT)

    def load_dataset(name, config, revision):
        asked.append((name, config, revision))
        return hf.DatasetDict(train=paper_like(2), test=paper_like(1))

    monkeypatch.setattr(hub.HfApi, "dataset_info", info)
    monkeypatch.setattr(hf, "load_dataset", load_dataset)
    return asked


def test_the_revision_that_is_named_is_the_one_that_is_read(asked):
    for source, revision in (("a/b", None), ("a/b@v1:hard:test", OTHER), (f"a/b@{COMMIT}", COMMIT)):
        found = load_held_out(source, PAPER).held_out
        assert asked.pop() == ("a/b", "hard" if "hard" in source else None, revision)
        assert found[0].id == f"a/b:{'test' if 'test' in source else 'train'}:0"


def test_a_split_to_hold_out_is_of_the_same_revision(asked):
    load(f"a/b@{COMMIT}", held_out="test", how=PAPER)
    assert asked == [("a/b", None, COMMIT)] * 2


def test_a_name_is_pinned_to_the_commit_of_today(asked):
    for source, pinned in (
        ("a/b", f"a/b@{COMMIT}"),
        ("a/b@v1:hard:test", f"a/b@{OTHER}:hard:test"),
        (f"a/b@{OTHER}:test", f"a/b@{OTHER}:test"),
    ):
        assert str(hub.pinned(hub.parse_name(source))) == pinned


def test_a_revision_that_is_not_there_is_one_line(asked):
    for ask in (lambda: load_held_out("a/b@v2"), lambda: hub.pinned(hub.parse_name("a/b@v2"))):
        with pytest.raises(Refusal, match=r"data set a/b@v2: .*no revision 'v2': give a branch") as refused:
            ask()
        assert "\n" not in str(refused.value)


def test_a_name_that_the_hub_cannot_resolve_is_kept_or_refused(monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no way\nto it")

    monkeypatch.setattr(hub.HfApi, "dataset_info", unreachable)
    assert str(hub.pinned(hub.parse_name("a/b:test"))) == "a/b:test"
    assert str(hub.pinned(hub.parse_name(f"a/b@{COMMIT}"))) == f"a/b@{COMMIT}"
    with pytest.raises(
        Refusal, match=r"can't ask the Hub which commit 'v1' is \(no way\): go online, or give the"
    ):
        hub.pinned(hub.parse_name("a/b@v1"))


def test_a_copy_of_another_commit_never_stands_in_for_the_one_named(tmp_path, monkeypatch):
    """`datasets` takes the copy that it made last when it can't reach the Hub, with a warning that nobody sees."""
    made = hf.Dataset.from_parquet(str(parquet(tmp_path)), cache_dir=str(tmp_path / "cache" / OTHER))
    monkeypatch.setattr(hf, "load_dataset", lambda *_, **__: hf.DatasetDict(train=made))
    assert OTHER in made.cache_files[0]["filename"]
    assert len(load_held_out(f"a/b@{OTHER}", PAPER).held_out) == 2
    with pytest.raises(Refusal, match="the copy here is of another commit: go online, or give a folder"):
        load_held_out(f"a/b@{COMMIT}", PAPER)


def parquet(folder):
    paper_like(2).to_parquet(str(folder / "rows.parquet"))
    return folder / "rows.parquet"


def test_a_folder_with_a_colon_in_its_name_is_a_folder(tmp_path):
    (tmp_path / "a:b").mkdir()
    assert hub.parse_name(str(tmp_path / "a:b")) == hub.HubName(str(tmp_path / "a:b"))
