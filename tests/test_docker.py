"""docker/: closed by default, without secrets in images or files, and with commands that the benchmark accepts."""

import re
import runpy
import shlex
import subprocess
import tomllib
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lmsa_bench.suites import load as suite
from lmsa_bench.sweep.arguments import parser

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
RAYJOB = yaml.safe_load((DOCKER / "rayjob.yaml").read_text())["spec"]
CLUSTER = RAYJOB["rayClusterSpec"]
PODS = [RAYJOB["submitterPodTemplate"], CLUSTER["headGroupSpec"]["template"]] + [
    group["template"] for group in CLUSTER["workerGroupSpecs"]
]
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
RAY_SERVICES = ("ray-head", "ray-worker", "sweep")


def locked() -> dict[str, str]:
    """The version of each package in the image; every line has the hash of its file."""
    found = {}
    for name in ("requirements.txt", "torch.txt"):
        header, *lines = (DOCKER / name).read_text().splitlines()
        assert header.startswith("# By docker/lock.py")
        for line in lines:
            package = re.fullmatch(r"([a-z0-9-]+)==(\S+) --hash=sha256:[0-9a-f]{64}", line)
            assert package, line
            found[package[1]] = package[2]
    return found


def test_the_image_installs_what_the_project_asks_for_by_hash():
    versions = locked()
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    servers = runpy.run_path(str(DOCKER / "lock.py"))["SERVERS"]
    linux = {"python_version": "3.11", "python_full_version": "3.11.9", "sys_platform": "linux"}
    linux |= {"platform_system": "Linux", "platform_machine": "x86_64", "implementation_name": "cpython"}
    waiting, seen = [*asked, *servers], set[str]()
    while waiting:
        if (text := waiting.pop()) in seen:
            continue
        seen.add(text)
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        assert requirement.specifier.contains(versions[name], prereleases=True), text
        with suppress(metadata.PackageNotFoundError):  # where it is not needed here
            if metadata.version(name).partition("+")[0] == versions[name]:  # else it may ask for other packages
                for needed in map(Requirement, metadata.requires(name) or ()):
                    places = [linux | {"extra": extra} for extra in ("", *requirement.extras)]
                    if needed.marker is None or any(needed.marker.evaluate(place) for place in places):
                        needed.marker = None
                        waiting.append(str(needed))
    assert len({canonicalize_name(Requirement(text).name) for text in seen}) > len(asked)
    assert CLUSTER["rayVersion"] == versions["ray"]
    assert DOCKERFILE.count("--require-hashes") == 2 and "--no-build-isolation" in DOCKERFILE


def test_the_image_does_not_run_as_root():
    users = re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)
    assert users[-1] == "${UID}" and re.search(r"^ARG UID=[1-9]\d*$", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK .*CMD", DOCKERFILE, re.MULTILINE)
    assert "RAY_AUTH_MODE=token" in DOCKERFILE
    assert re.search(r'^ARG PIP_EXTRA_INDEX_URL=""$', DOCKERFILE, re.MULTILINE)


def test_all_that_the_image_copies_is_in_its_context():
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    for sources in re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists() and f"!{source}" in ignored, source


@pytest.mark.parametrize("name", SERVICES)
def test_services(name):
    service = SERVICES[name]
    assert all(port.startswith("${LMSA_BIND:-127.0.0.1}:") for port in service.get("ports", []))
    assert name == "sweep" or service["healthcheck"]["test"][0] == "CMD"
    assert all(needed["condition"] == "service_healthy" for needed in service.get("depends_on", {}).values())
    for variable, value in service["environment"].items():
        if re.search("PASSWORD|TOKEN|SECRET|KEY", variable):
            assert variable.endswith(("_FILE", "_PATH")) and value.startswith("/run/secrets/"), variable
            assert value.removeprefix("/run/secrets/") in service["secrets"]
    if name in RAY_SERVICES:
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
    assert service["read_only"] and "/tmp" in service["tmpfs"] and service["mem_limit"] and service["pids_limit"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    if name != "postgres":
        assert service["environment"]["HOME"] == "/tmp"
        assert service["cap_drop"] == ["ALL"] and "privileged" not in service


def test_mlflow_requires_a_password_that_only_the_driver_has():
    assert "--app-name=basic-auth" in SERVICES["mlflow"]["command"]
    assert "password" not in COMPOSE["configs"]["mlflow_auth"]["content"]
    assert "mlflow_password" in SERVICES["ray-head"]["secrets"]
    assert SERVICES["ray-worker"]["secrets"] == ["ray_token"]
    assert SERVICES["ray-worker"]["volumes"] == SERVICES["ray-head"]["volumes"]
    for service in SERVICES.values():  # a URI with a user's password in it
        assert not re.search(r"://[^/\s]+:[^/\s]+@", yaml.safe_dump(service))


def test_what_runs_plugins_reaches_neither_mlflow_nor_its_database():
    near = {name: set(service["networks"]) for name, service in SERVICES.items()}
    assert not near["ray-worker"] & (near["mlflow"] | near["postgres"])
    assert near["ray-worker"] <= near["ray-head"] and near["sweep"] <= near["ray-head"]
    assert near["mlflow"] & near["ray-head"] and near["postgres"] < near["mlflow"]
    assert set().union(*near.values()) == set(COMPOSE["networks"])


def test_only_the_jobs_own_pods_and_the_operator_reach_it():
    policy = yaml.safe_load((DOCKER / "network.yaml").read_text())["spec"]
    for pod in PODS:
        assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    pods, operator = policy["ingress"]
    assert pods["from"] == [{"podSelector": policy["podSelector"]}] and operator["ports"] == [{"port": 8265}]
    head = CLUSTER["headGroupSpec"]["template"]
    assert all(pod["spec"]["automountServiceAccountToken"] is False for pod in PODS if pod is not head)


def test_make_secrets_writes_what_compose_reads(tmp_path):
    script = tmp_path / "make_secrets.sh"
    script.write_text((DOCKER / "make_secrets.sh").read_text())
    files = [tmp_path / secret["file"] for secret in COMPOSE["secrets"].values()]

    def secrets() -> list[str]:
        subprocess.run(["sh", str(script)], check=True, timeout=60)
        return [file.read_text() for file in files]

    first = secrets()
    assert secrets() == first and len(set(first)) == len(files)
    assert all(re.fullmatch("[0-9a-f]{64}", secret) for secret in first)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert "docker/secrets/" in (ROOT / ".gitignore").read_text().split()


def test_the_entry_point_reads_secrets_from_files(tmp_path):
    secret = tmp_path / "secret"
    command = ["sh", str(DOCKER / "entrypoint.sh"), "sh", "-c", 'printf %s "$MLFLOW_TRACKING_PASSWORD"']

    def run() -> "subprocess.CompletedProcess[str]":
        environment = {"MLFLOW_TRACKING_PASSWORD_FILE": str(secret), "PATH": "/usr/bin:/bin"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    assert run().returncode != 0  # no file
    secret.write_text("")
    assert "is empty" in run().stderr
    secret.write_text("a $secret 'quoted'\n")
    assert run().stdout == "a $secret 'quoted'"
    read = re.search(r"for name in (.+); do", (DOCKER / "entrypoint.sh").read_text())
    named = {key.removesuffix("_FILE") for s in SERVICES.values() for key in s["environment"] if key.endswith("_FILE")}
    assert read and named - {"POSTGRES_PASSWORD"} == set(read[1].split())


def test_pods_do_not_run_as_root_and_share_the_volume():
    for pod in PODS:
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] > 0
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]
            assert all("value" not in e for e in container.get("env", []) if re.search("PASSWORD|TOKEN", e["name"]))
    for pod in PODS[1:]:
        assert {"name": "shared", "mountPath": "/shared"} in pod["spec"]["containers"][0]["volumeMounts"]
    assert CLUSTER["authOptions"] == {"mode": "token"} and CLUSTER["enableInTreeAutoscaling"]
    assert RAYJOB["shutdownAfterJobFinishes"]


def test_gpu_workers_have_room_for_a_trial():
    table1 = suite.load("table1", None)
    for group in CLUSTER["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert int(limits["nvidia.com/gpu"]) >= table1.gpus > 0 and int(limits["cpu"]) >= table1.cpus
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def sweeps() -> list[list[str]]:
    """Every command of the benchmark in docker/, as a list of words."""
    image = re.search(r"^CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)
    service = SERVICES["sweep"]
    assert image
    return [yaml.safe_load(image[1]), service["entrypoint"] + service["command"], shlex.split(RAYJOB["entrypoint"])]


@pytest.mark.parametrize("words", sweeps(), ids=["image", "compose", "rayjob"])
def test_commands(words):
    start = words.index("lmsa_bench.sweep")
    assert words[start - 2 : start] == ["python", "-m"]
    options = parser().parse_args(words[start + 1 :])
    assert suite.load(options.suite, options.seeds).trials
    assert (str(options.results), str(options.data)) == ("/shared/results", "/shared/data")
