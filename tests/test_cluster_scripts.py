"""The scripts for clusters: no cluster runs them here, but they are what their languages and this program accept."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from idim import cli
from idim.runs.sweeps.request import SweepRequest

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "cluster"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
VALUES = {
    "sweep": "digits.yaml",
    "store": "runs",
    "folder": "parts",
    "parts": "8",
    "SLURM_ARRAY_TASK_ID": "8",
    "SLURM_CPUS_PER_TASK": "32",
}


def requested(command: str) -> SweepRequest:
    """Return the request of a command, its variables given values."""
    named = re.sub(r"\$\{?(\w+)\}?", lambda match: VALUES[match[1]], command)
    request = cli._parse(shlex.split(named)[1:])
    assert isinstance(request, SweepRequest)
    return request


def command(text: str) -> str:
    """Return the first command of this program in a script that is no comment."""
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    return next(match[0] for match in re.finditer(r"idim sweep .*", code))


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_are_bash_and_ask_for_their_arguments(script: Path, tmp_path: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    done = subprocess.run(["bash", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"usage: sbatch {script.name} SPEC.yaml" in done.stderr
    assert not list(tmp_path.iterdir())


def test_each_script_asks_for_what_it_says() -> None:
    assert [path.stem for path in SCRIPTS] == ["slurm_array", "slurm_symmetric"]
    array, symmetric = (requested(command(path.read_text())) for path in SCRIPTS)
    assert (array.engine, array.part, array.workers, array.store) == ("processes", (7, 8), 32, Path("parts/8"))
    assert (symmetric.engine, symmetric.address, symmetric.store) == ("ray", "auto", Path("runs"))
    assert "#SBATCH --array=1-8" in SCRIPTS[0].read_text(), "as many parts as it is divided into"


def test_the_job_for_kubernetes_is_whole() -> None:
    job = yaml.safe_load((FOLDER / "kuberay.yaml").read_text())
    spec = job["spec"]["rayClusterSpec"]
    assert spec["authOptions"] == {"mode": "token"}
    request = requested(job["spec"]["entrypoint"])
    assert (request.engine, request.address) == ("ray", "auto")
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    places = [group["template"]["spec"]["containers"][0]["volumeMounts"][0]["mountPath"] for group in groups]
    assert all(str(path).startswith(places[0]) for path in (request.spec, request.store, request.data))
    assert len(set(places)) == 1, "all pods see the same files"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
