"""The engines that can be read: one table each, from the catalogue's families to the engine's names for them."""

from collections.abc import Mapping

from slo.engines import llamacpp, lmdeploy, nim, ray, sglang, tgi, triton, trtllm, vllm
from slo.engines.table import Engine

# A page that fits several is taken for the first of them: NIM 2.x is vLLM.
ENGINES: Mapping[str, Engine] = {
    module.ENGINE.kind: module.ENGINE for module in (vllm, sglang, tgi, trtllm, triton, nim, llamacpp, ray, lmdeploy)
}
