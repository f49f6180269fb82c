"""What builds and checks elsewhere: Cloud Build and GitHub."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from pipelines.template import ROOT

BUILD = yaml.safe_load((ROOT / "cloudbuild.yaml").read_text(encoding="utf-8"))
STEPS = {step["id"]: step for step in BUILD["steps"]}
ORDER = [step["id"] for step in BUILD["steps"]]


def script(name, tmp_path, programs, **substitutions):
    """Run a step's script here, as Cloud Build writes it, with programs of the test's own."""
    text = STEPS[name]["args"][-1]
    for key, value in substitutions.items():
        text = text.replace(f"${{{key}}}", value)
    text = text.replace("$$", "$").replace("/workspace", str(tmp_path))
    assert "${_" not in text
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    for program, body in programs.items():
        (folder / program).write_text(f'#!/bin/sh\necho {program} "$@" >> {tmp_path}/calls\n{body}')
        (folder / program).chmod(0o755)
    done = subprocess.run(
        [STEPS[name]["entrypoint"], "-euc", text],
        cwd=ROOT,
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    calls = tmp_path / "calls"
    return done, calls.read_text() if calls.exists() else ""


def smoke(tmp_path, state, source="gs://bucket/events.csv"):
    gcloud = f'case "$*" in *run*) echo job-1 ;; *describe*) echo {state} ;; esac'
    return script(
        "smoke",
        tmp_path,
        {"gcloud": gcloud},
        _SMOKE_INPUT=source,
        _SMOKE_OUTPUT="gs://bucket/smoke",
        _SMOKE_WORKER="worker@p",
        _SMOKE_SUBNETWORK="",
        _TEMPLATE="gs://templates/build-1.json",
        _POINTER="gs://templates/current.json",
        _REGION="us-central1",
        BUILD_ID="build-1",
    )


PROMOTION = "gcloud storage cp gs://templates/build-1.json gs://templates/current.json"


def test_a_green_smoke_launch_is_promoted(tmp_path):
    done, calls = smoke(tmp_path, "JOB_STATE_DONE")
    assert done.returncode == 0, done.stderr
    launch, *_, last = calls.splitlines()
    assert "--staging-location=gs://bucket/staging" in launch
    assert "--service-account-email=worker@p" in launch
    assert "--subnetwork" not in launch
    assert last == PROMOTION


def test_a_smoke_launch_that_fails_moves_nothing(tmp_path):
    done, calls = smoke(tmp_path, "JOB_STATE_FAILED")
    assert done.returncode == 1
    assert "storage cp" not in calls


def test_without_a_smoke_launch_nothing_is_promoted(tmp_path):
    done, calls = smoke(tmp_path, "", source="")
    assert (done.returncode, calls) == (0, "")
    assert PROMOTION in done.stdout


DOCKER = 'case "$1" in inspect) echo "${3%%:*}@sha256:0123" ;; *) echo "$3" ;; esac'


def test_base_images_are_resolved_once_and_built_from(tmp_path):
    dockerfile = (ROOT / "templates/Dockerfile").read_text(encoding="utf-8")
    declared = re.findall(r"^ARG (\w+_IMAGE)=(\S+)", dockerfile, re.MULTILINE)
    assert set(re.findall(r"^FROM \$\{(\w+)\}", dockerfile, re.MULTILINE)) == {
        name for name, _ in declared
    }
    done, _ = script("resolve", tmp_path, {"docker": DOCKER})
    assert done.returncode == 0, done.stderr
    resolved = (tmp_path / "base-images").read_text()
    assert resolved.splitlines() == [
        f"{name}={image.rpartition(':')[0]}@sha256:0123" for name, image in declared
    ]
    done, calls = script("build", tmp_path, {"docker": ""}, _IMAGE="registry/image:build-1")
    assert done.returncode == 0, done.stderr
    for line in resolved.splitlines():
        assert f" --build-arg={line} " in calls.splitlines()[-1]
    assert "/workspace/base-images" in STEPS["record"]["args"]
    assert ORDER.index("resolve") < ORDER.index("build") < ORDER.index("record")


def test_an_image_without_a_digest_stops_the_build(tmp_path):
    done, _ = script("resolve", tmp_path, {"docker": '[ "$1" = pull ] || echo'})
    assert done.returncode != 0


def test_githubs_workflow():
    path = ROOT / ".github/workflows/ci.yml"
    program = Path(sys.executable).parent / "check-jsonschema"
    done = subprocess.run(
        [program, "--builtin-schema", "vendor.github-workflows", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    text = path.read_text(encoding="utf-8")
    assert "- run: .ci/run\n" in text
    assert re.search(r"python:3\.11\.\d+", text)[0] in (ROOT / "cloudbuild.yaml").read_text()
