"""Descriptions of GPUs for XLA's compiler, which then needs no GPU and no driver."""

_TEMPLATE = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared}
  threads_per_core_limit: 2048
  core_count: {cores}
  fpus_per_core: {fpus}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  l2_cache_size: {l2}
  clock_rate_ghz: {clock}
  device_memory_size: {memory}
  shared_memory_per_block_optin: {optin}
  cuda_compute_capability {{ major: {major} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 12 patch: 0 }}
device_description_str: "{name}"
"""

_A100 = dict(
    name="NVIDIA A100-SXM4-80GB",
    major=8,
    cores=108,
    fpus=64,
    shared=167936,
    optin=166912,
    l2=41943040,
    clock=1.41,
    bandwidth=2039000000000,
    memory=85899345920,
)
_H100 = dict(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    cores=132,
    fpus=128,
    shared=233472,
    optin=232448,
    l2=52428800,
    clock=1.98,
    bandwidth=3352320000000,
    memory=84942979072,
)
_B200 = _H100 | dict(name="NVIDIA B200", major=10, cores=148, bandwidth=8000000000000, l2=132120576)

# Compute capability -> what `jax.experimental.topologies.get_topology_desc` takes.
TARGETS: dict[int, tuple[str, str]] = {
    10 * int(t["major"]): (str(t["name"]), _TEMPLATE.format(**t)) for t in (_A100, _H100, _B200)
}
