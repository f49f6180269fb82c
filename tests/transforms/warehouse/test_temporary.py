"""What killed runs left in the temporary folder goes; what is of others, or in use, stays."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from tests.oracle.grammar import COLUMNS
from tests.oracle.strategies import GOOD_ROW
from tests.pipelines.running import run
from transforms.errors import RunError
from transforms.warehouse import temporary
from transforms.warehouse.local import LOCK, locked
from transforms.warehouse.temporary import held, sweep


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The temporary folder."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


def left(folder: Path, name: str, *, age: float = 3600, lock: bool = True) -> Path:
    """What a run left there that was killed some seconds ago."""
    path = folder / name
    path.mkdir()
    (path / "staged").write_text("x")
    if lock:
        (path / LOCK).write_text("1")
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def test_folders_of_dead_runs_are_swept(folder):
    dead = left(folder, "ours_dead")
    sweep("ours_")
    assert not dead.exists()


def test_folders_of_names_that_only_this_program_gives_need_no_lock(folder, tmp_path):
    dead = left(tmp_path, "ours_without_a_lock", lock=False)
    young = left(tmp_path, "ours_young", lock=False, age=5)
    sweep("ours_", tmp_path, is_ours=True)
    assert not dead.exists()
    assert young.exists()


def test_what_is_young_or_in_use_or_of_another_program_stays(folder):
    young = left(folder, "ours_young", age=5)
    other = left(folder, "ours_without_a_lock", lock=False)
    named = left(folder, "theirs")
    linked = folder / "ours_link"
    linked.symlink_to(named)
    used = left(folder, "ours_used")
    with locked(used):
        then = time.time() - 3600
        os.utime(used, (then, then))
        sweep("ours_")
    for path in (young, other, named, linked, used):
        assert path.exists(), path
        assert (path / "staged").exists(), path


def test_what_belongs_to_another_user_stays(folder, monkeypatch):
    foreign = left(folder, "ours_foreign")
    monkeypatch.setattr(temporary, "own_user", lambda _: os.geteuid() + 1)
    sweep("ours_")
    assert foreign.exists()


def test_a_folder_is_held_and_goes_away_with_the_block(folder):
    path = folder / "ours_new"
    path.mkdir()
    with held(path), pytest.raises(RunError, match="another run"), locked(path):
        pass
    assert not path.exists()


def test_a_run_sweeps_what_beam_kept_for_a_dead_one_and_leaves_nothing(folder, tmp_path):
    dead = left(folder, "beam-pipeline-temp1")
    of_another_program = left(folder, "beam-pipeline-temp2", lock=False)
    (tmp_path / "a.csv").write_text("\n".join([",".join(COLUMNS), ",".join(GOOD_ROW)]))
    (tmp_path / "w").mkdir()
    probe = left(tmp_path / "w", "_probe_dead", lock=False)
    run([tmp_path / "a.csv"], tmp_path / "w")
    assert not dead.exists()
    assert not probe.exists()
    assert [path.name for path in folder.iterdir()] == [of_another_program.name]
