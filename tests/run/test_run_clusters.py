"""The files of docs/clusters: that they are what KubeRay, `ray up` and Slurm take, and do what their comments say."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "clusters"
SLURM = FOLDER / "slurm.sh"
BASH = shutil.which("bash")
JOB = "4711"

# By hand from KubeRay's CustomResourceDefinition ray.io/v1 RayJob
# (github.com/ray-project/kuberay, ray-operator/config/crd/bases/ray.io_rayjobs.yaml): those that are used or required.
RAYJOB = {
    "spec": {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"},
    "cluster": {"rayVersion", "authOptions", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"},
    "head": {"rayStartParams", "template"},
    "worker": {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"},
}
REQUIRED = {"cluster": {"headGroupSpec"}, "head": {"template"}}
REQUIRED["worker"] = {"groupName", "minReplicas", "maxReplicas", "template"}


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "rayjob.yaml").read_text()))


def check(fields: dict[str, Any], kind: str) -> None:
    assert REQUIRED.get(kind, set()) <= fields.keys() <= RAYJOB[kind]


def test_the_rayjob_has_the_fields_that_kuberay_requires_and_no_others() -> None:
    config, job = documents()
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    check(spec, "spec")
    check(cluster, "cluster")
    check(cluster["headGroupSpec"], "head")
    for group in cluster["workerGroupSpecs"]:
        check(group, "worker")
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert (config["kind"], config["metadata"]["name"]) == ("ConfigMap", "nas-search")


def test_every_pod_mounts_what_it_names_and_sees_the_runs() -> None:
    config, job = documents()
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert mounts.keys() <= volumes
            assert mounts["runs"] == "/runs"
            assert container["resources"]["requests"] == container["resources"]["limits"]
    assert "/search/" + next(iter(config["data"])) == job["spec"]["entrypoint"].split()[1]


@pytest.mark.parametrize("exists", [False, True])
def test_the_rayjobs_driver_begins_a_run_and_goes_on_with_it(tmp_path: Path, exists: bool) -> None:
    script = documents()[0]["data"]["search.sh"].replace("/runs", str(tmp_path / "runs"))
    if exists:
        (tmp_path / "runs" / "first").mkdir(parents=True)
        (tmp_path / "runs" / "first" / "manifest.json").touch()
    shim(tmp_path, "nas", 'printf "%s\\n" "$@"')
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=path_of(tmp_path), check=True)
    place = [f"run.resume={tmp_path}/runs/first"] if exists else [f"run.folder={tmp_path}/runs", "run.name=first"]
    rest = ["runner.address=auto", "runner.wait_for_nodes=10 min", "run.workers=16", "display=plain"]
    assert done.stdout.splitlines() == ["search", *place, *rest]


def test_the_ray_up_file_is_what_rays_own_schema_asks_for() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    package = importlib.util.find_spec("ray")
    assert package is not None
    assert package.origin is not None
    schema = json.loads((Path(package.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    given = yaml.safe_load((FOLDER / "ray-up.yaml").read_text())
    jsonschema.validate(given, schema)
    assert given["head_node_type"] in given["available_node_types"]
    starts = [line for line in given["head_start_ray_commands"] + given["worker_start_ray_commands"] if "start" in line]
    assert len(starts) == 2
    assert all(line.startswith("RAY_AUTH_MODE=token ") for line in starts)


def shim(folder: Path, name: str, body: str) -> None:
    """A program of that name, found before any other."""
    (folder / "bin").mkdir(exist_ok=True)
    path = folder / "bin" / name
    path.write_text(f"#!{BASH}\n{body}\n")
    path.chmod(0o755)


def path_of(folder: Path, **others: str) -> dict[str, str]:
    return {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", **others}


SRUN = """
echo "srun $*" >>"$TOLD"
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""
RAY = """
echo "ray $* | token $(stat -c %a "$RAY_AUTH_TOKEN_PATH") $RAY_AUTH_MODE" >>"$TOLD"
[ "$2" = --head ] && exec "$PYTHON" -c '
import socket, sys, time
port = int([a for a in sys.argv if a.startswith("--port=")][0][7:])
server = socket.create_server(("127.0.0.1", port)); time.sleep(60)' "$@"
exec sleep 60
"""
NAS = """
echo "nas $*" >>"$TOLD"
trap 'echo "nas was told to stop" >>"$TOLD"; exit 130' TERM
echo ready >"$READY"
for _ in $(seq "$TENTHS"); do sleep 0.1; done
"""


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts the Slurm script with stand-ins for Slurm, Ray and nas; the search takes ``tenths`` of a second."""
    if BASH is None or not Path("/proc").is_dir():
        pytest.skip("needs bash and Linux")
    for name, body in {"srun": SRUN, "ray": RAY, "nas": NAS, "hostname": "echo 127.0.0.1"}.items():
        shim(tmp_path, name, body)
    shim(tmp_path, "scontrol", 'echo "scontrol $*" >>"$TOLD"; [ "$1" = show ] && printf "n1\\nn2\\nn3\\n"; true')
    shim(tmp_path, "python", f'exec {sys.executable} "$@"')

    def start(*arguments: str, tenths: int = 2, **variables: str) -> subprocess.Popen[str]:
        given = {
            "SLURM_JOB_ID": JOB, "SLURM_JOB_NUM_NODES": "3", "SLURM_CPUS_PER_TASK": "2", "SLURM_JOB_NODELIST": "n[1-3]",
            "TOLD": str(tmp_path / "told"), "READY": str(tmp_path / "ready"), "PYTHON": sys.executable,
            "TENTHS": str(tenths),
        }  # fmt: skip
        return subprocess.Popen(
            [str(BASH), str(SLURM), *arguments], cwd=tmp_path, env=path_of(tmp_path, **given, **variables),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    return start


def told(folder: Path) -> list[str]:
    return (folder / "told").read_text().splitlines()


def wait_for(path: Path) -> None:
    until = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_slurm_script_starts_a_cluster_with_a_token_runs_the_search_and_leaves_nothing(
    job: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = job("space=resnet-tiny", "budget.latency=1 ms")
    wait_for(tmp_path / "ready")
    token = tmp_path / f".ray-token-{JOB}"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    secret = token.read_text()
    assert len(secret) == 64
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    lines = told(tmp_path)
    starts = sorted(line for line in lines if line.startswith("ray "))
    port = 6380 + int(JOB) % 1000
    assert starts == [
        f"ray start --block --address=127.0.0.1:{port} --num-cpus=2 | token 600 token",
        f"ray start --head --block --node-ip-address=127.0.0.1 --port={port} --num-cpus=2 | token 600 token",
    ]
    assert any(line.startswith("srun --nodes=2 --ntasks=2 --exclude=n1 ray") for line in lines)
    (driver,) = (line for line in lines if line.startswith("nas "))
    assert driver == (
        f"nas search run.folder=runs run.name=slurm-{JOB} runner.address=127.0.0.1:{port}"
        ' runner.wait_for_nodes="5 min" display=plain space=resnet-tiny budget.latency=1 ms'
    )
    assert not any(secret in line for line in lines)
    assert not token.exists()
    assert not any("requeue" in line for line in lines)


def test_near_the_time_limit_the_driver_stops_cleanly_and_the_job_is_queued_again(
    job: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = job(tenths=600)
    wait_for(tmp_path / "ready")
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert told(tmp_path)[-2:] == ["nas was told to stop", f"scontrol requeue {JOB}"]
    assert not (tmp_path / f".ray-token-{JOB}").exists()


def test_at_pre_emption_the_driver_stops_and_slurm_does_the_rest(
    job: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = job(tenths=600)
    wait_for(tmp_path / "ready")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert told(tmp_path)[-1] == "nas was told to stop"


def test_a_job_that_starts_again_goes_on_with_its_run(
    job: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    (tmp_path / "shared" / "a").mkdir(parents=True)
    (tmp_path / "shared" / "a" / "manifest.json").touch()
    process = job(NAS_RUN="shared/a")
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert any(line.startswith("nas search run.resume=shared/a runner.address=") for line in told(tmp_path))


def test_a_search_that_fails_is_not_queued_again(job: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    shim(tmp_path, "nas", "exit 2")
    process = job()
    process.communicate(timeout=30)
    assert process.returncode == 2
    assert not any("requeue" in line for line in told(tmp_path))
