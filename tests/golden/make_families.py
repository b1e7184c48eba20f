#!/usr/bin/env python3
"""Writes families.jsonl: tiny models of every family and what transformers computes for them.

A line has the config.json, every tensor's name, shape, mean and deviation, the ids of a prompt, and
after some of its positions the five best tokens with their log-probabilities, in float32. Weights
are a function of the tensor's name and the element's index (value() below), so that a test can make
the same ones; tests/unit/worker/cpu/test_cpu_families.c does.

    python tests/golden/make_families.py > tests/golden/families.jsonl
"""

import copy
import json
import math
import pathlib
import sys
import tempfile

import numpy
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "gpu"))
import compare_transformers as compare  # noqa: E402

TOKENS = 60
POSITIONS = [0, 1, 15, 16, 40, 59]

# name: (model of compare_transformers, changes, config style)
TINY = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "vocab_size": 120,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "bos_token_id": 1, "eos_token_id": 2}
LLAMA_ROPE = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0,
              "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
YARN = {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32}
LONGROPE = {"type": "longrope", "short_factor": [1.0, 1.25, 1.5, 1.75, 2.0, 2.0, 2.0, 2.0],
            "long_factor": [1.0, 2.0, 4.0, 8.0, 16.0, 24.0, 32.0, 64.0]}
PARTIAL = {"type": "longrope", "short_factor": [1.0, 1.25, 1.5, 1.75, 2.0, 2.0],
           "long_factor": [1.0, 2.0, 4.0, 8.0, 16.0, 24.0]}
GEMMA3 = {"head_dim": 16, "num_key_value_heads": 1, "sliding_window": 21,
          "sliding_window_pattern": 3, "query_pre_attn_scalar": 32}
CASES = {
    "llama": ("llama-3.1-8b", {"rope_scaling": LLAMA_ROPE}, "published"),
    "llama as transformers 5 saves it": ("llama-3.1-8b", {"rope_scaling": LLAMA_ROPE}, "saved"),
    "llama with biases": ("llama-3.2-1b", {"rope_scaling": None, "head_dim": 12,
                                           "attention_bias": True, "mlp_bias": True}, "published"),
    "mistral": ("mistral-7b-v0.1", {"sliding_window": 19}, "published"),
    "qwen2": ("qwen2.5-3b", {}, "published"),
    "qwen2 with windows": ("qwen2.5-3b", {"use_sliding_window": True, "sliding_window": 17,
                                          "max_window_layers": 1}, "published"),
    "qwen2 with yarn": ("qwen2.5-yarn", {"rope_scaling": YARN}, "published"),
    "qwen3": ("qwen3-4b", {"head_dim": 24}, "published"),
    "gemma 2": ("gemma-2-2b", {"head_dim": 16, "sliding_window": 18, "query_pre_attn_scalar": 24,
                               "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
                "published"),
    "gemma 3": ("gemma-3-1b", {**GEMMA3, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
                "published"),
    "gemma 3 as transformers 5 saves it":
        ("gemma-3-1b", {**GEMMA3, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}, "saved"),
    "gemma 3 with eyes": ("gemma-3-4b", GEMMA3, "published"),
    "phi 3": ("phi-3-mini-4k", {"sliding_window": 23, "num_key_value_heads": 4,
                                "original_max_position_embeddings": 256}, "published"),
    "phi 3 longrope, long": ("phi-3-mini-128k", {"original_max_position_embeddings": 64,
                                                 "rope_scaling": LONGROPE}, "published"),
    "phi 3 longrope, short": ("phi-3-mini-128k-short", {"original_max_position_embeddings": 64,
                                                        "rope_scaling": LONGROPE}, "published"),
    "phi 4": ("phi-4-mini", {"original_max_position_embeddings": 64, "rope_scaling": PARTIAL},
              "published"),
}


def value(name, count):
    """[count] numbers in [-1, 1), multiples of 2^-23: splitmix64 of FNV-1a of the name, plus index."""
    with numpy.errstate(over="ignore"):
        state = numpy.uint64(14695981039346656037)
        for byte in name.encode():
            state = (state ^ numpy.uint64(byte)) * numpy.uint64(1099511628211)
        x = state + (numpy.arange(count, dtype=numpy.uint64) + numpy.uint64(1)) * numpy.uint64(
            0x9E3779B97F4A7C15)
        x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        x ^= x >> numpy.uint64(31)
    return ((x >> numpy.uint64(40)).astype(numpy.float64) / 2**23 - 1).astype(numpy.float32)


def moments(name, shape, config):
    """Mean and deviation of a tensor's weights; float32 numbers with few digits."""
    if "norm" in name:
        mean = 2.0 if "q_norm" in name or "k_norm" in name else 1.0
        if compare.plus_one(config):
            mean = 4.0 if name == "model.norm.weight" else mean - 1
        return mean, 0.25
    if name.endswith("bias"):
        return 0.0, 0.5
    if "embed_tokens" in name and compare.plus_one(config):
        return 0.0, 0.09375
    scores = any(k in name for k in ("q_proj", "k_proj", "qkv_proj", "embed", "lm_head"))
    return 0.0, round((3.0 if scores else 1.7) / math.sqrt(shape[-1]) * 1024) / 1024


def weights_of(model, config):
    tied = config.get("tie_word_embeddings", compare.plus_one(config))
    for name, old in model.state_dict().items():
        if (name == "lm_head.weight" and tied) or name.endswith("inv_freq"):
            continue
        mean, deviation = moments(name, old.shape, config)
        flat = numpy.float32(mean) + numpy.float32(deviation) * value(name, old.numel())
        yield name, mean, deviation, torch.from_numpy(flat).reshape(old.shape)


def case(title, source, changes, style):
    config = copy.deepcopy({**compare.MODELS[source][0], **TINY, **changes})
    config.pop("pad_token_id", None)
    config["pad_token_id"] = 0
    config["torch_dtype"] = "bfloat16" if compare.plus_one(config) else "float32"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        compare.write_config(folder, compare.reference_config(source, config), "published")
        model = compare.build_reference(folder, "cpu")
        compare.write_config(folder, config, style)
        written = json.loads((folder / "config.json").read_text())
    tensors, state = [], {}
    prefix = "language_model." if "text_config" in written else ""
    for name, mean, deviation, tensor in weights_of(model, config):
        tensors.append([prefix + name, list(tensor.shape), mean, deviation, name])
        state[name] = tensor
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    compare.round_embedding_scale(model, config)
    ids = [(i * i * 7 + i * 13 + 5) % config["vocab_size"] for i in range(TOKENS)]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    logprobs = torch.log_softmax(logits.double(), dim=-1)
    expected = []
    for position in POSITIONS:
        best = logprobs[position].topk(5)
        expected.append({"position": position, "ids": best.indices.tolist(),
                         "logprobs": [round(x, 7) for x in best.values.tolist()]})
    line = {"name": title, "config": written, "ids": ids, "expected": expected, "tensors": tensors}
    if source.endswith("-short"):
        line["context"] = 64
    print(json.dumps(line, separators=(",", ":")))


def main():
    transformers.logging.set_verbosity_error()
    for title, (source, changes, style) in CASES.items():
        case(title, source, changes, style)


if __name__ == "__main__":
    main()
