"""What is fetched of a GPU build of vLLM, decided on reports as pip writes them."""

from vllm_wheels import torch_version, wanted


def package(name: str, version: str = "1", *needs: str) -> dict[str, object]:
    return {"metadata": {"name": name, "version": version, "requires_dist": list(needs)}}


REPORT = {
    "install": [
        package("vllm", "0.24.0", "torch==2.11.0", "xgrammar"),
        package("torch", "2.11.0", "sympy", "triton==3.6.0", "cuda-toolkit[cublas, nvtx]==13.0.2; sys_platform != 'x'"),
        package("torchvision"),
        package("xgrammar", "2", "torch", "nvidia-cuda-nvcc"),
        package("sympy"),
        package("triton"),
        package("cuda_toolkit", "13.0.2", 'nvidia-cublas; extra == "cublas"', 'nvidia-cuda-nvcc; extra == "nvcc"'),
        package("nvidia-cublas"),
        package("nvidia-cuda-nvcc", "13"),
    ]
}


def test_torch_and_what_comes_with_it_is_left_out() -> None:
    """The machine has torch with its CUDA packages; an extra that torch does not ask for is another package's need."""
    assert wanted(REPORT) == ["nvidia-cuda-nvcc==13", "sympy==1", "vllm==0.24.0", "xgrammar==2"]


def test_the_torch_it_was_built_for_is_told() -> None:
    """Its version, or nothing for a build that pins none."""
    assert torch_version(REPORT) == "2.11.0"
    assert torch_version({"install": []}) is None
