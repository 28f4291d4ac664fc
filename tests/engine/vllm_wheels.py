"""Fetch a GPU build of vLLM for a machine that has torch but no package index: `python vllm_wheels.py FOLDER vllm==X`.

Run it with the Python version of that machine. pip resolves what vLLM needs without fetching it; then all of it is
fetched but for torch and the CUDA packages that come with it, which are most of the size. There:

    python -m venv --system-site-packages vllm-env
    vllm-env/bin/pip install --no-index --no-deps FOLDER/*.whl
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TORCH = ("torch", "torchvision", "torchaudio")
_COMES_WITH_TORCH = ("nvidia-", "cuda-", "triton")
_NEED = re.compile(r"([\w.-]+)(?:\[([^]]*)\])?")
_EXTRA = re.compile(r"extra == ['\"]([^'\"]+)")


def wanted(report: Mapping[str, Any]) -> list[str]:
    """`name==version` of what pip's installation report names, less torch and the CUDA packages that torch needs."""
    found = {_plain(item["metadata"]["name"]): item["metadata"] for item in report["install"]}
    there, rest = set(TORCH), [(name, "") for name in TORCH]
    while rest:
        name, extras = rest.pop()
        for need in found.get(name, {}).get("requires_dist") or ():
            other, its_extras = _parsed(need)
            extra = _EXTRA.search(need)
            asked = extra is None or extra[1] in extras.split(",")
            if asked and other.startswith(_COMES_WITH_TORCH) and other not in there:
                there.add(other)
                rest.append((other, its_extras))
    return [f"{name}=={metadata['version']}" for name, metadata in sorted(found.items()) if name not in there]


def torch_version(report: Mapping[str, Any]) -> str | None:
    """The torch that this vLLM was built for; another one does not load its kernels."""
    return next(
        (item["metadata"]["version"] for item in report["install"] if item["metadata"]["name"] == "torch"), None
    )


def _parsed(requirement: str) -> tuple[str, str]:
    """The name of a package that is needed, and its extras."""
    match = _NEED.match(requirement)
    assert match, requirement
    return _plain(match[1]), (match[2] or "").replace(" ", "")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


def main(folder: str, requirements: Sequence[str]) -> None:
    """Resolve, then fetch."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "report.json"
        _pip("install", "--dry-run", "--ignore-installed", "--report", str(path), *requirements)
        report = json.loads(path.read_text())
    print(f"{' '.join(requirements)} needs torch {torch_version(report)} on that machine", file=sys.stderr)
    _pip("download", "--no-deps", "--dest", folder, *wanted(report))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
