#!/usr/bin/env python3
"""What the kernels should do on a T4 (sm_75) and an A10G (sm_86), from the compiler's output.

usage: kernel-report.py PTXAS_LOG DOCUMENT

PTXAS_LOG is what `nvcc -Xptxas=-v` printed for both architectures; DOCUMENT (worker/cuda/kernels/
T4.md) explains the model and gets everything from the line "## Resources" on anew. What no log
tells, threads and dynamic shared memory, is repeated here from the kernels' sources.
"""

import math
import re
import subprocess
import sys
from collections import namedtuple

GPU = namedtuple("GPU", "name arch sms shared reserved threads gbs tensor_tflops "
                        "tensor_flop_clock shared_bytes_clock latency_us launch_us")
# Reachable GB/s and TFLOP/s, not the data sheet's; per clock and SM: float sums of 16-bit products.
T4 = GPU("T4", "sm_75", 40, 64 << 10, 0, 1024, 260, 42, 1024, 64, 0.7, 2)
A10G = GPU("A10G", "sm_86", 80, 100 << 10, 1 << 10, 1536, 520, 60, 512, 128, 0.7, 2)

Model = namedtuple("Model", "name layers hidden heads kv_heads head inner vocab")
MODELS = {"T4": Model("Llama-3.2-3B F16", 28, 3072, 24, 8, 128, 8192, 128256),
          "A10G": Model("Llama-3.1-8B BF16", 32, 4096, 32, 8, 128, 14336, 128256)}

Kernel = namedtuple("Kernel", "registers static spills")
# name; threads; dynamic shared bytes; blocks an SM that its launcher asks for (0: as many as fit)
Shape = namedtuple("Shape", "name threads dynamic resident")


# -- from the log ----------------------------------------------------------------------------

def read_log(path):
    """{arch: {mangled name: Kernel}}"""
    found, arch, mangled, spills = {}, None, None, 0
    with open(path, errors="replace") as log:
        for line in log:
            if m := re.search(r"Compiling entry function '(\S+)' for '(\S+)'", line):
                mangled, arch = m.groups()
                spills = 0
            elif m := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
                spills = max(spills, int(m[1]) + int(m[2]))
            elif m := re.search(r"Used (\d+) registers", line):
                static = re.search(r"(\d+) bytes smem", line)
                found.setdefault(arch, {})[mangled] = Kernel(
                    int(m[1]), int(static[1]) if static else 0, spills)
    return found


def demangle(kernels):
    names = subprocess.run(["c++filt"], input="\n".join(kernels), text=True, check=True,
                           capture_output=True).stdout.splitlines()
    short = {}
    for mangled, name in zip(kernels, names):
        name = re.sub(r"\(anonymous namespace\)::|\w+::|^void |\(gated_function\)", "", name)
        short[name.split("(")[0].replace(" >", ">")] = kernels[mangled]
    return short


# -- from the sources ------------------------------------------------------------------------

def numbers(name):
    return [int(x) for x in re.findall(r"(?<=[ ,<])\d+(?=[,>])", name)]


def gemm_skinny_tile(name, gpu):
    row_tiles, token_tiles, row_warps, token_warps, chunk_warps, _, slices, _ = numbers(name)
    rows, tokens = 16 * row_tiles * row_warps, 8 * token_tiles * token_warps
    stage = chunk_warps * (rows + tokens) // 8 * slices * 512
    sums = chunk_warps * tokens * (rows + 4) * 4 + 16
    ampere = gpu.arch != "sm_75"
    stages = min((gpu.shared - gpu.reserved - sums) // stage, 10 if ampere else 2)
    # Bytes of weights that a block has on their way.
    ahead = (stages - 1 if ampere else 1) * chunk_warps * rows // 8 * slices * 512
    return 32 * row_warps * token_warps * chunk_warps, stages, stages * stage + sums, ahead


def shape_of(name, gpu, model):
    """None: not launched on that GPU with its model's type."""
    t = "__half" if gpu.arch == "sm_75" else "__nv_bfloat16"
    other = "__nv_bfloat16" if t == "__half" else "__half"
    if other in name:
        return None
    if name.startswith("attention_decode_kernel"):
        head, arch, stages, blocks = numbers(name)[-4:]
        if arch != (750 if gpu.arch == "sm_75" else 800):
            return None
        ring = 4 * 16 * 2 * stages * 2 * head
        return Shape(f"attention_decode, head {head}", 128,
                     ring + (4 * 8 * head * 4 if arch >= 800 else 0), blocks)
    if name.startswith("attention_prefill_kernel"):
        head, warps, row_blocks, stages = numbers(name)[-4:]
        if stages == 2:
            return None
        keys = 32 if head == 256 else 64
        form = "single" if warps == 1 else "narrow"
        return Shape(f"attention_prefill {form}, head {head}", 32 * warps, 2 * keys * head * 2, 0)
    if name.startswith("gemm_skinny_kernel"):
        threads, stages, dynamic, _ = gemm_skinny_tile(name, gpu)
        if stages < 2:
            return None
        tile = ", ".join(map(str, numbers(name)))
        return Shape(f"gemm_skinny {tile}", threads, dynamic, 1)
    threads = {f"embed_kernel<{t}, 8>": 256,
               f"norm_held<{t}, 8>": min(1024, model.hidden // 8),
               f"norm_reread<{t}, 8>": 1024,
               "rope_angles_kernel": 128,
               f"rope_write_kernel<{t}, 8, 1>": 128,
               f"gated_kernel<0, 8, {t}, {t}>": 256,
               f"gated_row_kernel<0, 8, {t}, float>": 1024,
               "softcap_kernel": 256,
               f"convert_kernel<{t}, float>": 256,
               f"fill_random_kernel<{t}>": 256,
               "scan_kernel": 512,
               "draw_kernel": 512,
               "clear_counts_kernel": 256,
               "add_counts_kernel": 256}
    if name not in threads or (name.startswith("gated_row") and gpu.arch != "sm_75"):
        return None
    return Shape(re.sub("_kernel|__half|__nv_bfloat16", lambda m: "" if "k" in m[0] else "T", name),
                 threads[name], 0, 0)


# -- occupancy -------------------------------------------------------------------------------

def blocks_that_fit(gpu, kernel, shape):
    warps = shape.threads // 32
    registers = math.ceil(kernel.registers * 32 / 256) * 256  # of a warp
    limits = {"threads": gpu.threads // shape.threads,
              "registers": 65536 // registers // 4 * 4 // warps,
              "blocks": 16}
    shared = kernel.static + shape.dynamic + gpu.reserved
    if shared > gpu.reserved:
        limits["shared"] = gpu.shared // shared
    reason = min(limits, key=limits.get)
    return limits[reason], reason


def resources(gpu, kernels, model):
    rows = []
    for name, kernel in kernels.items():
        shape = shape_of(name, gpu, model)
        if shape is None:
            continue
        fit, reason = blocks_that_fit(gpu, kernel, shape)
        blocks = min(fit, shape.resident) if shape.resident else fit
        if blocks < fit:
            reason = "launcher"
        natural = re.sub(r"\d+", lambda m: m[0].zfill(4), shape.name)
        rows.append((natural, f"| {shape.name} | {kernel.registers} | {kernel.spills} | "
                     f"{kernel.static} + {shape.dynamic} | {shape.threads} | {blocks} ({reason}) | "
                     f"{100 * blocks * shape.threads // gpu.threads} % |"))
    return [row for _, row in sorted(rows)]


# -- predictions -----------------------------------------------------------------------------

# draw: GB/s that the loads in flight could draw from a memory without limit, None for the few
# kilobytes of one token; a_step: launches of it in a decode step
Case = namedtuple("Case", "kernel case bytes flop draw a_step")


def draw(gpu, bytes_an_sm, duty):
    """duty: the part of its time in which a warp's loads are under way."""
    return gpu.sms * bytes_an_sm * duty / gpu.latency_us / 1e3


def decode_cases(gpu, m, streams, context):
    """A step of one token for each of `streams`."""
    turing, element, layers = gpu is T4, 2, m.layers
    few = "1, 1, 1, 1, 8, 1, 2, 1" if turing else "2, 1, 1, 1, 8, 1, 2, 1"
    tile = few if streams <= 8 else "2, 2, 1, 1, 4, 1, 1, 2"  # what gemm_skinny takes for these
    weights_draw = draw(gpu, gemm_skinny_tile(f"<{tile}>", gpu)[3], 0.7 if turing else 1)
    wide = 4 if turing else element  # gate and up are float where T is F16
    qkv = (m.heads + 2 * m.kv_heads) * m.head

    def product(name, n, k, a_step):
        return Case("gemm_skinny", f"{name} {n:,} x {k:,}, M = {streams}", element * n * k,
                    2 * streams * n * k, weights_draw, a_step)

    def small(name, count, a_step):
        return Case(name, f"{streams} x 1 token", count, 0, None, a_step)

    def sampling(name):
        return Case(name, f"{streams} x {m.vocab:,}", streams * m.vocab * 4, 0,
                    draw(gpu, 1024 * 64, 0.5), 1)

    page = 16 * m.head * element  # of keys, or of values; a warp has one, or all but one of four
    kv_draw = draw(gpu, 8 * page, 0.5) if turing else draw(gpu, 4 * 3 * page, 1)
    return [small("embed", streams * m.hidden * (element + 4), 1),
            small("rope_angles", streams * m.head * 4, 1),
            small("residual_norm", streams * m.hidden * (4 + 4 + 4 + element), 2 * layers + 1),
            product("qkv", qkv, m.hidden, layers),
            small("rope_write", 2 * streams * qkv * element, layers),
            Case("attention_decode", f"{streams} x {context:,} keys",
                 streams * context * m.kv_heads * m.head * 2 * element,
                 4 * m.head * m.heads * context * streams, kv_draw, layers),
            product("o", m.hidden, m.heads * m.head, layers),
            product("gate, up", 2 * m.inner, m.hidden, layers),
            small("gated_activation", streams * m.inner * (2 * wide + element), layers),
            product("down", m.hidden, m.inner, layers),
            product("head", m.vocab, m.hidden, 1),
            sampling("sample, scan"), sampling("sample, draw")]


def prefill_cases(gpu, m, kernels, tokens):
    """The kernels that memory bounds, in a step of `tokens`."""
    t, element, wide = ("__half", 2, 4) if gpu is T4 else ("__nv_bfloat16", 2, 2)
    qkv = (m.heads + 2 * m.kv_heads) * m.head
    gated = f"gated_row_kernel<0, 8, {t}, float>" if gpu is T4 else f"gated_kernel<0, 8, {t}, {t}>"
    cases = []
    for title, name, bytes_a_thread, count in (
            ("embed", f"embed_kernel<{t}, 8>", 16, m.hidden * (element + 4)),
            ("residual_norm", f"norm_held<{t}, 8>", 64, m.hidden * (4 + 4 + 4 + element)),
            ("rope_write", f"rope_write_kernel<{t}, 8, 1>", 32, 2 * qkv * element),
            ("gated_activation", gated, 16 * wide, m.inner * (2 * wide + element))):
        shape = shape_of(name, gpu, m)
        threads = blocks_that_fit(gpu, kernels[name], shape)[0] * shape.threads
        cases.append(Case(title, f"{tokens} tokens", tokens * count, 0,
                          draw(gpu, threads * bytes_a_thread, 0.5), 0))
    return cases


def prefill_tflops(gpu, head):
    """Of attention_prefill's narrow form: tensor cores and shared memory by turns, and at once."""
    keys = 64
    tensor = 4 * 16 * keys * head / gpu.tensor_flop_clock  # clocks of a warp's 16 rows and a tile
    tile = 2 * keys * head * 2
    shared = (tile + tile / 4) / gpu.shared_bytes_clock  # read by the warp; written by four
    return [gpu.tensor_tflops * tensor / t for t in (tensor + shared, max(tensor, shared))]


def predict(gpu, case):
    """(microseconds, what bounds)"""
    memory = gpu.gbs
    if case.draw is not None:
        memory = (gpu.gbs ** -4 + case.draw ** -4) ** -0.25
    bounds = {"memory" if memory > 0.8 * gpu.gbs else "latency": case.bytes / memory / 1e3,
              "tensor": case.flop / gpu.tensor_tflops / 1e6}
    reason = max(bounds, key=bounds.get)
    us = gpu.launch_us + bounds[reason]
    return us, reason if bounds[reason] > gpu.launch_us else "launch"


def case_row(gpu, case, columns):
    us, reason = predict(gpu, case)
    size = f"{case.bytes / 1e6:,.1f} MB" if case.bytes >= 1e6 else f"{case.bytes / 1e3:.0f} kB"
    cells = {"a step": case.a_step, "bytes": size, "Mflop": f"{case.flop / 1e6:,.0f}",
             "could draw": "" if case.draw is None else f"{case.draw:,.0f} GB/s",
             "µs": f"{us:,.1f}", "bound": reason,
             "fraction": f"{100 * case.bytes / us / 1e3 / gpu.gbs:.0f} %"}
    return f"| {case.kernel} | {case.case} | " + " | ".join(str(cells[c]) for c in columns) + " |"


def table_head(columns):
    return ["| kernel | case | " + " | ".join(columns) + " |",
            "|---|---|" + "--:|" * len(columns)]


def predictions(gpu, m, kernels):
    columns = ["a step", "bytes", "Mflop", "could draw", "µs", "bound", "fraction"]
    lines = [f"### {gpu.name}, {m.name}: decode, 2,048 tokens of context (fraction of "
             f"{gpu.gbs} GB/s)", ""] + table_head(columns)
    sums = []
    for streams in (1, 16):
        cases = decode_cases(gpu, m, streams, 2048)
        lines += [case_row(gpu, case, columns) for case in cases]
        step_ms = sum(predict(gpu, case)[0] * case.a_step for case in cases) / 1e3
        bytes_ms = sum(case.bytes * case.a_step for case in cases) / gpu.gbs / 1e6
        sums.append(f"A step of {streams}: {step_ms:.1f} ms, {1e3 * streams / step_ms:.0f} "
                    f"tokens/s; its bytes alone {bytes_ms:.1f} ms.")
    lines += [""] + sums

    tokens, context = 512, 2048
    columns = ["bytes", "could draw", "µs", "bound", "fraction"]
    lines += ["", f"### {gpu.name}, {m.name}: prefill, {tokens} tokens that end at {context:,}", ""]
    lines += table_head(columns)
    lines += [case_row(gpu, case, columns) for case in prefill_cases(gpu, m, kernels, tokens)]
    pairs = tokens * (context - tokens) + tokens * (tokens + 1) // 2
    flop = 4 * m.head * m.heads * pairs
    low, high = prefill_tflops(gpu, m.head)
    lines += ["", f"`attention_prefill`, narrow: {flop / 1e9:.1f} Gflop a layer at {low:.0f} to "
              f"{high:.0f} of {gpu.tensor_tflops} TFLOP/s: {flop / high / 1e6:.0f} to "
              f"{flop / low / 1e6:.0f} µs."]
    return lines


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    log = read_log(sys.argv[1])
    lines = ["## Resources", ""]
    for gpu in (T4, A10G):
        if gpu.arch not in log:
            sys.exit(f"{sys.argv[1]} has nothing for {gpu.arch}")
        lines += [f"### {gpu.name} ({gpu.arch})", "",
                  "| kernel | registers | spilled bytes | shared, static + dynamic | threads | "
                  "blocks an SM (limit) | occupancy |", "|---|--:|--:|--:|--:|--:|--:|"]
        lines += resources(gpu, demangle(log[gpu.arch]), MODELS[gpu.name]) + [""]
    lines += ["## Predictions", ""]
    for gpu in (T4, A10G):
        lines += predictions(gpu, MODELS[gpu.name], demangle(log[gpu.arch])) + [""]
    with open(sys.argv[2]) as document:
        prose = document.read().split("## Resources")[0]
    with open(sys.argv[2], "w") as document:
        document.write(prose + "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
