#!/usr/bin/env python3
"""Write a Llama checkpoint of random BF16 weights, to measure how fast a worker loads one.

    random_checkpoint.py FOLDER     with a config.json; model.safetensors is added beside it

Standard library only. The numbers repeat: loading does not look at them.
"""
import json
import os
import struct
import sys


def tensors(config):
    """(name, shape) in the order of the file."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    yield "model.embed_tokens.weight", [config["vocab_size"], hidden]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", [hidden]
        yield prefix + "self_attn.q_proj.weight", [heads * head_dim, hidden]
        yield prefix + "self_attn.k_proj.weight", [kv_heads * head_dim, hidden]
        yield prefix + "self_attn.v_proj.weight", [kv_heads * head_dim, hidden]
        yield prefix + "self_attn.o_proj.weight", [hidden, heads * head_dim]
        yield prefix + "post_attention_layernorm.weight", [hidden]
        yield prefix + "mlp.gate_proj.weight", [inner, hidden]
        yield prefix + "mlp.up_proj.weight", [inner, hidden]
        yield prefix + "mlp.down_proj.weight", [hidden, inner]
    yield "model.norm.weight", [hidden]
    if not config.get("tie_word_embeddings"):
        yield "lm_head.weight", [config["vocab_size"], hidden]


def main():
    folder = sys.argv[1]
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    header, end = {}, 0
    for name, shape in tensors(config):
        size = 2
        for extent in shape:
            size *= extent
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # Signs and exponents of small numbers: the low byte anything, the high byte 0x3c or 0xbc.
    block = bytearray(os.urandom(64 << 20))
    block[1::2] = bytes(0x3C | (byte & 0x80) for byte in block[1::2])
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        left = end
        while left > 0:
            file.write(block[: min(left, len(block))])
            left -= len(block)


if __name__ == "__main__":
    main()
