"""Input files in a bucket."""

import pytest
from google.cloud import storage

from tests.oracle.strategies import GOOD_ROW, compressed
from transforms.errors import InputError
from transforms.ingest.files import match_inputs, read_blocks, split_files
from transforms.ingest.grammar import COLUMNS
from transforms.ingest.parsing import parse_block

LINES = [",".join(COLUMNS), *[",".join(GOOD_ROW)] * 50]
CONTENT = "\n".join(LINES).encode()
SUFFIXES = ("", ".gz", ".zst", ".bz2", ".zip")


@pytest.fixture
def bucket(cloud) -> storage.Bucket:
    """A bucket of the test's own."""
    return storage.Client().bucket(cloud.bucket)


def put(bucket: storage.Bucket, name: str, content: bytes = CONTENT) -> str:
    bucket.blob(name).upload_from_string(content)
    return f"gs://{bucket.name}/{name}"


def test_a_folder_and_a_glob_leave_out_what_is_no_input(bucket):
    names = [f"data/a.csv{suffix}" for suffix in SUFFIXES]
    paths = sorted(put(bucket, name, compressed(CONTENT, name[10:])) for name in names)
    for name in ("data/_SUCCESS", "data/.b.csv", "data/_temporary/c.csv", "data/d/e.csv"):
        put(bucket, name)
    root = f"gs://{bucket.name}/data"
    files = match_inputs([f"{root}/a*", f"{root}/*"])
    assert [file.path for file in files] == paths
    assert [file.path for file in match_inputs([f"{root}/"])] == paths
    blocks = [block for part in split_files(files, 1) for block in read_blocks(part)]
    assert sum(parse_block(block, files[0].header).events.height for block in blocks) == 250


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONTENT[:-9], "it has shrunk from"),
        (CONTENT + b"\n", "it has grown from"),
        (CONTENT.upper(), "it was replaced or written again since the run began"),
        (None, "cannot be looked at"),
    ],
)
@pytest.mark.parametrize("moment", ["before", "while"])
def test_an_object_that_changes_fails_the_run(bucket, content, message, moment):
    path = put(bucket, "a.csv")
    blocks = read_blocks(*split_files(match_inputs([path]), 1))
    if moment == "while":
        next(blocks)
    if content is None:
        bucket.blob("a.csv").delete()
        message = "cannot be" if moment == "before" else message
    else:
        put(bucket, "a.csv", content)
    with pytest.raises(InputError) as error:
        list(blocks)
    assert str(error.value).startswith(f"{path}: {message}")


def test_a_wrong_kind_of_object_says_how_to_rename_it(bucket):
    path = put(bucket, "a.csv", compressed(CONTENT, ".gz"))
    with pytest.raises(InputError) as error:
        match_inputs([path])
    assert str(error.value) == (
        f"{path}: this is a gzip file, but its name does not say so; "
        f"rename it: gcloud storage mv {path} {path}.gz"
    )
