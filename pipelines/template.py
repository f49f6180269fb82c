"""The flex template's metadata, written from the options, and the checks that need no cloud.

`python -m pipelines.template` writes templates/metadata.json; with `--check` it compares that file
with the options, and checks what builds the template.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from google.cloud.dataflow_v1beta3.types import TemplateMetadata

from pipelines.options import OPTIONS, Option

ROOT: Final = Path(__file__).parent.parent
METADATA: Final = "templates/metadata.json"
DOCKERFILE: Final = "templates/Dockerfile"
BUILD: Final = "cloudbuild.yaml"
_BUILD_PATH: Final = re.compile(
    r"(?<![\w/.-])(?:templates|pipelines|transforms|tests|\.ci)/[\w./-]+"
)
_BUILD_TARGETS: Final = re.compile(r"^ *make ([a-z][a-z -]*)", re.MULTILINE)


def parameter(option: Option) -> dict[str, Any]:
    """One parameter of the template: what a launch form knows of an option."""
    number = isinstance(option.default, int | float) and not option.flag
    described: dict[str, Any] = {
        "name": option.name,
        "label": option.label,
        "helpText": f"{option.help} For example: {option.example}",
        "groupName": option.group,
        "isOptional": not option.required,
        "paramType": "NUMBER" if number else option.parameter_type,
        "regexes": [option.pattern],
    }
    if option.default is not None:
        described["defaultValue"] = _default_text(option)
    return described


def _default_text(option: Option) -> str:
    """An option's default as a form gives it."""
    return option.default if isinstance(option.default, str) else json.dumps(option.default)


def metadata() -> str:
    """The text of the metadata file."""
    described = {
        "name": "Customer analytics",
        "description": (
            "Reads e-commerce clickstream CSVs; publishes events, sessions, users, RFM segments, "
            "funnel and churn tables after an audit."
        ),
        "streaming": False,
        "parameters": [parameter(option) for option in OPTIONS if not option.command_line_only],
    }
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def problems(root: Path) -> Iterator[str]:
    """What does not fit together in a checkout, one line or block each."""
    yield from _metadata_problems(root)
    yield from _option_problems()
    yield from _image_problems(root)
    yield from _copy_problems(root)
    yield from _build_problems(root)


def lint(root: Path) -> Iterator[str]:
    """What the linters of the Dockerfile and the build find."""
    yield from _lint(root, "hadolint", DOCKERFILE)
    yield from _lint(root, "check-jsonschema", "--builtin-schema", "vendor.cloudbuild", BUILD)


def _metadata_problems(root: Path) -> Iterator[str]:
    path = root / METADATA
    written = path.read_text(encoding="utf-8") if path.exists() else ""
    generated = metadata()
    if written != generated:
        difference = difflib.unified_diff(
            written.splitlines(), generated.splitlines(), METADATA, "options", lineterm="", n=1
        )
        yield "\n".join([*difference, f"{METADATA} is out of date: python -m pipelines.template"])
    TemplateMetadata.from_json(generated, ignore_unknown_fields=False)


def _option_problems() -> Iterator[str]:
    """What a form lets through and what the program reads must agree."""
    for option in OPTIONS:
        texts = [option.example]
        if option.default is not None:
            texts.append(_default_text(option))
        for text in texts:
            if not re.search(option.pattern, text):
                yield f"--{option.name}: its pattern {option.pattern} refuses {text}"
            try:
                option.parse(text)
            except ValueError:
                yield f"--{option.name}: the program refuses {text}"


def _image_problems(root: Path) -> Iterator[str]:
    """Versions that must agree, in the Dockerfile and what it installs."""
    text = (root / DOCKERFILE).read_text(encoding="utf-8")
    beam = _find_all(r"^apache-beam(?:\[[a-z,]+\])?==([\d.]+)", root / "requirements.in")
    if _find_all(r"^apache-beam==([\d.]+)", root / "requirements.lock") != beam:
        yield f"requirements.lock: not the Beam of requirements.in, {beam}: make lock"
    if (images := re.findall(r"beam_python[\d.]+_sdk:(\S+)", text)) != beam:
        yield f"{DOCKERFILE}: Beam {images}, but requirements.in has {beam}"
    pythons = {
        *re.findall(r"\bpython:(\d+\.\d+)\.\d+", text),
        *re.findall(r"beam_python([\d.]+)_sdk", text),
        *(f"3.{minor}" for minor in re.findall(r"/python3(\d+)-template-launcher", text)),
    }
    lowest, above = _find_all(r'python_requires=">=3\.(\d+),<3\.(\d+)"', root / "setup.py")[0]
    supported = {f"3.{minor}" for minor in range(int(lowest), int(above))}
    if len(pythons) != 1 or not pythons <= supported:
        yield f"{DOCKERFILE}: Python {sorted(pythons)}; setup.py supports {sorted(supported)}"
    bases = set(re.findall(r"\bpython:([\d.]+)-", text + (root / BUILD).read_text("utf-8")))
    if len(bases) != 1:
        yield f"{DOCKERFILE} and {BUILD}: Python {sorted(bases)}, but one is wanted"
    for image in re.findall(r"^(?:FROM |ARG \w+_IMAGE=)([^$\s]\S*)", text, re.MULTILINE):
        if ":" not in image or image.endswith(":latest"):
            yield f"{DOCKERFILE}: {image} is not pinned to a version"


def _copy_problems(root: Path) -> Iterator[str]:
    """Files that the Dockerfile copies must exist, and be sent to Docker."""
    sent = {
        path
        for pattern in _find_all(r"^!(\S+)$", root / ".dockerignore")
        for path in root.glob(pattern)
    }
    for line in _find_all(r"^COPY (?!--from)(.+)", root / DOCKERFILE):
        for name in line.split()[:-1]:
            if not (root / name).exists():
                yield f"{DOCKERFILE}: COPY {name}: there is no such file"
            elif root / name not in sent:
                yield f"{DOCKERFILE}: COPY {name}: .dockerignore leaves it out"


def _build_problems(root: Path) -> Iterator[str]:
    """Files and make targets that the build names."""
    text = (root / BUILD).read_text(encoding="utf-8")
    for name in sorted(set(_BUILD_PATH.findall(text))):
        if not (root / name).exists():
            yield f"{BUILD}: {name}: there is no such file"
    targets = set(_find_all(r"^([a-z][a-z-]*):", root / "Makefile"))
    for command in _BUILD_TARGETS.findall(text):
        for target in set(command.split()) - targets:
            yield f"{BUILD}: make {target}: there is no such target"


def _lint(root: Path, program: str, *arguments: str) -> Iterator[str]:
    """Run a linter of the development environment."""
    path = Path(sys.executable).parent / program
    if not path.exists():
        yield f"{program} is not installed beside {sys.executable}: make setup"
        return
    done = subprocess.run(  # noqa: S603 - our own arguments
        [path, *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        yield f"{program}:\n{done.stdout}{done.stderr}".rstrip()


def _find_all(pattern: str, path: Path) -> list[Any]:
    return re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the metadata, or check the template; the exit code is 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.template", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--check", action="store_true", help="write nothing; say what is wrong")
    if not parser.parse_args(arguments).check:
        (ROOT / METADATA).write_text(metadata(), encoding="utf-8")
        return 0
    found = [*problems(ROOT), *lint(ROOT)]
    print("\n".join(found) or "The flex template agrees with the code.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
