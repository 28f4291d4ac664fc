"""Which revision of the code is under test: what CI says, else what the checkout around the working directory says."""

from collections.abc import Mapping
from pathlib import Path

# GitHub, GitLab, Jenkins, Azure Pipelines, Bitbucket, CircleCI, Buildkite; Tekton's and others' tasks may set the last.
_VARIABLES = (
    "GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT", "BUILD_SOURCEVERSION", "BITBUCKET_COMMIT", "CIRCLE_SHA1",
    "BUILDKITE_COMMIT", "COMMIT_SHA",
)  # fmt: skip


def commit(env: Mapping[str, str], folder: Path) -> str | None:
    """The commit's name; None outside CI and outside a git checkout."""
    if told := next((env[name] for name in _VARIABLES if env.get(name)), None):
        return told
    try:
        return next((found for place in (folder, *folder.parents) if (found := _head(place / ".git"))), None)
    except OSError:
        return None


def _head(git: Path) -> str | None:
    """The commit that a checkout's HEAD names; git itself may not be installed."""
    if git.is_file():  # a worktree: the file says where its directory is
        git = (git.parent / git.read_text().removeprefix("gitdir:").strip()).resolve()
    if not (git / "HEAD").is_file():
        return None
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref:"):
        return head
    ref = head.removeprefix("ref:").strip()
    common = git / (git / "commondir").read_text().strip() if (git / "commondir").is_file() else git
    if (common / ref).is_file():
        return (common / ref).read_text().strip()
    packed = common / "packed-refs"
    lines = packed.read_text().splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {ref}")), None)
