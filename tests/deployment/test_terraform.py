"""The Terraform files: what they say is what the provider takes, and grants what is documented."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import hcl2
import pytest
from hcl2 import SerializationOptions

from pipelines.template import ROOT

FOLDER = ROOT / "templates/terraform"
META_ARGUMENTS = {"count", "depends_on", "for_each", "lifecycle", "provider"}
OF_CDKTF = META_ARGUMENTS | {"connection", "provisioners"}
PLAIN = SerializationOptions(
    with_comments=False, explicit_blocks=False, strip_string_quotes=True, preserve_heredocs=False
)


def read(name: str, text: str | None = None) -> dict[str, Any]:
    return hcl2.loads(
        (FOLDER / name).read_text(encoding="utf-8") if text is None else text,
        serialization_options=PLAIN,
    )


FILES = {path.name: read(path.name) for path in sorted(FOLDER.glob("*.tf"))}


def blocks(files, kind) -> dict[str, dict[str, Any]]:
    """The resources or data sources of files: `type.name` to what is in them."""
    return {
        f"{type_}.{name}": body
        for file in files.values()
        for block in file.get(kind, [])
        for type_, named in block.items()
        for name, body in named.items()
    }


RESOURCES = blocks(FILES, "resource")
DATA = blocks(FILES, "data")
VARIABLES = {
    name: body
    for file in FILES.values()
    for block in file.get("variable", [])
    for name, body in block.items()
}


def faults(given, wanted, classes, where):
    """What the provider would refuse: names that it does not know, required ones left out."""
    for name in given.keys() - wanted.keys() - META_ARGUMENTS:
        yield f"{where}.{name}: there is no such argument"
    for name, argument in wanted.items():
        if argument.required and name not in given:
            yield f"{where}.{name}: required"
    for name in given.keys() & wanted.keys() - META_ARGUMENTS:
        if (block := wanted[name].block) is None:
            if isinstance(given[name], list) and any(isinstance(i, dict) for i in given[name]):
                yield f"{where}.{name}: a value, not a block"
        elif not isinstance(given[name], list):
            yield f"{where}.{name}: a block, not a value"
        else:
            for inside in given[name]:
                yield from faults(inside, classes[block], classes, f"{where}.{name}")


def refused(provider, files) -> list[str]:
    found = []
    for kind, prefix in (("resource", ""), ("data", "data_google_")):
        for address, body in blocks(files, kind).items():
            module = prefix + address.partition(".")[0].removeprefix("google_")
            if module not in provider.modules():
                found.append(f"{address}: there is no such {kind}")
                continue
            classes = provider.classes(module)
            (config,) = (
                arguments for name, arguments in classes.items() if arguments.keys() >= OF_CDKTF
            )
            wanted = {name: config[name] for name in config.keys() - OF_CDKTF}
            found += faults(body, wanted, classes, address)
    return found


def test_the_provider_takes_every_resource(provider):
    assert len(RESOURCES) > 30
    assert refused(provider, FILES) == []


def test_the_schema_is_of_the_version_asked_for(provider):
    (asked,) = re.findall(r'version = "~> ([\d.]+)"', (FOLDER / "versions.tf").read_text())
    source = provider.source("storage_bucket")
    assert set(re.findall(r"hashicorp/google/(\d+\.\d+)\.\d+/docs", source)) == {asked}


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("storage.tf", "versioning {", "versions {", "versions: there is no such argument"),
        ("storage.tf", "age  ", "ages  ", "condition.ages: there is no such argument"),
        ("storage.tf", 'name                        = "${var.project}-events"', "", "name: requir"),
        ("storage.tf", "google_bigquery_dataset", "google_bigquery_set", "no such resource"),
        ("workflow.tf", "matching_criteria {", "matching_criteria = {", "a block, not a value"),
        ("workflow.tf", 'attribute = "bucket"', "", "matching_criteria.attribute: required"),
        ("alarms.tf", "comparison      =", "compare =", "condition_threshold.comparison: required"),
        ("alarms.tf", "google_project", "google_projet", "there is no such data"),
    ],
)
def test_what_the_provider_would_refuse_is_found(provider, name, old, new, problem):
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert old in text
    changed = {name: read(name, text.replace(old, new))}
    assert any(problem in fault for fault in refused(provider, changed))


def test_what_is_referred_to_is_there():
    local_names = (
        name for file in FILES.values() for block in file.get("locals", []) for name in block
    )
    declared = {
        *(f"var.{name}" for name in VARIABLES),
        *(f"local.{name}" for name in local_names),
        *(f"data.{name}" for name in DATA),
        *RESOURCES,
    }
    text = "\n".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.tf"))
    code = re.sub(r"#.*", "", text)
    used = set(re.findall(r"\b((?:var|local)\.\w+)", code))
    used |= set(re.findall(r"\b(data\.google_\w+\.\w+)", code))
    used |= set(re.findall(r"(?<![\w.])(google_\w+\.\w+)", code))
    assert used <= declared
    assert {name for name in declared if name.startswith("var.")} <= used


def test_the_example_names_variables_that_are_there():
    required = {name for name, body in VARIABLES.items() if "default" not in body}
    text = (FOLDER / "terraform.tfvars.example").read_text(encoding="utf-8")
    given = read("example", text).keys()
    optional = set(re.findall(r"^# (\w+) +=", text, re.MULTILINE))
    assert required <= given
    assert given | optional <= VARIABLES.keys()


def granted() -> dict[str, set[str]]:
    """Roles by the account that has them."""
    roles = defaultdict(set)
    for address, body in RESOURCES.items():
        if "_iam_" not in address:
            continue
        assert address.partition(".")[0].endswith("_iam_member"), "takes away what others have"
        member = re.search(
            r"(?:google_service_account|project_service_account)\.(\w+)", body["member"]
        )
        given = re.findall(r"roles/[\w.]+", f"{body['role']} {body.get('for_each', '')}")
        assert given, address
        roles[member[1]].update(given)
    return dict(roles)


def documented() -> dict[str, set[str]]:
    """Roles by account, as the table of docs/dataflow.md has them."""
    names = {"the workers": "worker", "who launches": "launcher", "Cloud Build": "builder"}
    names |= {"the workflow": "launcher", "Cloud Storage": "storage"}
    roles, account = defaultdict(set), None
    text = (ROOT / "docs/dataflow.md").read_text(encoding="utf-8")
    for who, role in re.findall(r"^\| ([^|]*) ?\| `(roles/[\w.]+)` \|", text, re.MULTILINE):
        if who.strip():
            label = who.strip()
            account = next((n for t, n in names.items() if label.startswith(t)), None)
            if label.startswith("who launches without the template"):
                account = None  # by hand, from a checkout
        if account:
            roles[account].add(role)
    return dict(roles)


def test_roles_are_those_that_are_documented():
    assert granted() == documented()


def test_nobody_has_a_broad_role():
    for roles in granted().values():
        for role in roles:
            assert not re.search(r"(owner|editor|admin|serviceAgent)$", role, re.IGNORECASE) or (
                role == "roles/bigquery.dataEditor"  # of one dataset
            )


def test_no_key_no_machine_no_open_port():
    kinds = {address.partition(".")[0] for address in RESOURCES}
    assert not {k for k in kinds if "key" in k or "instance" in k or "address" in k}
    assert "google_secret_manager_secret_version" not in kinds  # a state has no secret
    (firewall,) = (
        body for name, body in RESOURCES.items() if name.startswith("google_compute_firewall.")
    )
    assert "source_ranges" not in firewall
    assert firewall["source_tags"] == firewall["target_tags"] == ["dataflow"]
    members = [body["member"] for name, body in RESOURCES.items() if "_iam_" in name]
    assert not any("allUsers" in m or "allAuthenticatedUsers" in m for m in members)


def test_buckets_are_closed_and_no_rule_deletes_a_published_state():
    buckets = {n: b for n, b in RESOURCES.items() if n.startswith("google_storage_bucket.")}
    assert len(buckets) == 3
    for bucket in buckets.values():
        assert bucket["uniform_bucket_level_access"] is True
        assert bucket["public_access_prevention"] == "enforced"
        assert "force_destroy" not in bucket  # what it holds never goes with it
        for rule in bucket["lifecycle_rule"]:
            (condition,) = rule["condition"]
            if "days_since_noncurrent_time" not in condition:
                assert set(condition["matches_prefix"]) <= {"source/", "staging/", "temp/"}


def test_a_workflow_has_the_variables_that_it_reads():
    for name in ("workflow", "heartbeat"):
        text = (ROOT / f"templates/{name}.yaml").read_text(encoding="utf-8")
        read_there = set(re.findall(r'sys\.get_env\("(\w+)"\)', text))
        (resource,) = (
            body
            for address, body in RESOURCES.items()
            if address.startswith("google_workflows_workflow.")
            and f"/{name}.yaml" in body["source_contents"]
        )
        own = {variable for variable in read_there if not variable.startswith("GOOGLE_CLOUD_")}
        assert own == resource["user_env_vars"].keys()


def test_alarms_name_what_is_watched():
    text = (FOLDER / "alarms.tf").read_text(encoding="utf-8")
    workflow = (ROOT / "templates/workflow.yaml").read_text(encoding="utf-8")
    heartbeat = (ROOT / "templates/heartbeat.yaml").read_text(encoding="utf-8")
    (application,) = re.findall(r'application = "([\w-]+)"', (FOLDER / "storage.tf").read_text())
    assert f"- job_name: {application}\n" in workflow
    assert 'jsonPayload.customer_analytics="fresh"' in text
    assert "customer_analytics: fresh\n" in heartbeat
    headings = re.findall(r"^### (.+)$", (ROOT / "docs/deployment.md").read_text(), re.MULTILINE)
    named = re.findall(r'content = "docs/deployment\.md, ([^.]+)\.', text)
    assert len(named) == 3
    assert set(named) <= set(headings)
