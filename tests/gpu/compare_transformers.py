#!/usr/bin/env python3
"""Every model family against transformers: the same random weights, the same ids, logits near.

For each model below a checkpoint is written with the config that its publisher wrote, fewer layers
(but both kinds of layer, where there are two) and random weights. transformers runs it in float32
on the weights as rounded; `gaggle-worker generate` runs the same ids on the device under test.
Compared are, after each prompt, the log-probabilities of the reference's five best tokens, and then
64 greedy steps: the reference is fed the worker's own ids, and each must be its best token too or
within 0.5 nats of it, and in all but 2 % of the steps as near as the logits have to be.

The weights are such that a 16-bit backend can pass: scores and logits spread by about one nat, for
what rounding does to random models grows with that. Windows and soft caps are small enough to
matter.

    python tests/gpu/compare_transformers.py --worker build/bin/gaggle-worker --device cuda
    python tests/gpu/compare_transformers.py --worker build/bin/gaggle-worker --width-divisor 8

Runs with transformers 4.5x and 5.x. One line a prompt; exit status 1 when anything is off.
"""

import argparse
import copy
import json
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import torch
import transformers
from safetensors.torch import save_file

LARGEST_LIMIT = 0.05  # of the top five's differences, in nats
MEAN_LIMIT = 0.01  # over all prompts of a model
NEAR_TIE = 0.5
FLAGGED_LIMIT = 0.02
STEPS = 64
TOP = 5
SPREAD = 0.9  # standard deviation of the logits, in nats
SHARP = 1.1  # of queries and keys

LLAMA3_ROPE = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192, "rope_type": "llama3"}

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
         "attention_bias": False, "mlp_bias": False, "rms_norm_eps": 1e-5,
         "max_position_embeddings": 131072, "rope_theta": 500000.0, "vocab_size": 128256,
         "bos_token_id": 128000, "eos_token_id": 128001}
MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_act": "silu",
           "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
           "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "max_position_embeddings": 32768,
           "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2}
PHI3 = {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_act": "silu",
        "hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 32064, "rms_norm_eps": 1e-5,
        "original_max_position_embeddings": 4096, "rope_theta": 10000.0, "pad_token_id": 32000,
        "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 32000}
GEMMA3 = {"model_type": "gemma3_text", "hidden_activation": "gelu_pytorch_tanh", "head_dim": 256,
          "attention_bias": False, "attn_logit_softcapping": None, "final_logit_softcapping": None,
          "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6, "rope_theta": 1000000,
          "rope_local_base_freq": 10000, "sliding_window_pattern": 6, "bos_token_id": 2,
          "eos_token_id": 1, "pad_token_id": 0}

# name: (config as published, layers that show both kinds)
MODELS = {
    "llama-3.1-8b": ({**LLAMA, "hidden_size": 4096, "intermediate_size": 14336,
                      "num_attention_heads": 32, "num_key_value_heads": 8,
                      "rope_scaling": LLAMA3_ROPE, "tie_word_embeddings": False}, 2),
    "llama-3.2-1b": ({**LLAMA, "hidden_size": 2048, "intermediate_size": 8192, "head_dim": 64,
                      "num_attention_heads": 32, "num_key_value_heads": 8,
                      "rope_scaling": {**LLAMA3_ROPE, "factor": 32.0},
                      "tie_word_embeddings": True}, 2),
    "qwen2.5-3b": ({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
                    "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 11008,
                    "num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 151936,
                    "rms_norm_eps": 1e-6, "max_position_embeddings": 32768,
                    "rope_theta": 1000000.0, "sliding_window": 32768, "max_window_layers": 36,
                    "use_sliding_window": False, "tie_word_embeddings": True,
                    "bos_token_id": 151643, "eos_token_id": 151645}, 2),
    "qwen2.5-yarn": ({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
                      "hidden_act": "silu", "hidden_size": 3584, "intermediate_size": 18944,
                      "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
                      "rms_norm_eps": 1e-6, "max_position_embeddings": 131072,
                      "rope_theta": 1000000.0, "sliding_window": 131072, "max_window_layers": 28,
                      "use_sliding_window": False, "tie_word_embeddings": False,
                      # transformers 4 takes max_position_embeddings / original for the factor
                      "rope_scaling": {"type": "yarn", "factor": 4.0,
                                       "original_max_position_embeddings": 32768},
                      "bos_token_id": 151643, "eos_token_id": 151645}, 2),
    "qwen3-4b": ({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3",
                  "hidden_act": "silu", "hidden_size": 2560, "intermediate_size": 9728,
                  "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
                  "vocab_size": 151936, "rms_norm_eps": 1e-6, "max_position_embeddings": 40960,
                  "rope_theta": 1000000, "rope_scaling": None, "sliding_window": None,
                  "use_sliding_window": False, "max_window_layers": 36, "attention_bias": False,
                  "tie_word_embeddings": True, "bos_token_id": 151643,
                  "eos_token_id": 151645}, 2),
    "mistral-7b-v0.1": ({**MISTRAL, "vocab_size": 32000, "rope_theta": 10000.0,
                         "sliding_window": 4096}, 2),
    "mistral-7b-v0.3": ({**MISTRAL, "vocab_size": 32768, "rope_theta": 1000000.0,
                         "sliding_window": None}, 2),
    "gemma-2-2b": ({"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2",
                    "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
                    "hidden_size": 2304, "intermediate_size": 9216, "num_attention_heads": 8,
                    "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000,
                    "attention_bias": False, "attn_logit_softcapping": 50.0,
                    "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 256,
                    "rms_norm_eps": 1e-6, "max_position_embeddings": 8192, "rope_theta": 10000.0,
                    "sliding_window": 4096, "bos_token_id": 2, "eos_token_id": 1,
                    "pad_token_id": 0}, 4),
    "gemma-3-1b": ({**GEMMA3, "architectures": ["Gemma3ForCausalLM"], "hidden_size": 1152,
                    "intermediate_size": 6912, "num_attention_heads": 4, "num_key_value_heads": 1,
                    "vocab_size": 262144, "max_position_embeddings": 32768,
                    "rope_scaling": None, "sliding_window": 512}, 7),
    # The larger ones carry a vision tower: the decoder is a section of the config.
    "gemma-3-4b": ({**GEMMA3, "architectures": ["Gemma3ForConditionalGeneration"],
                    "hidden_size": 2560, "intermediate_size": 10240, "num_attention_heads": 8,
                    "num_key_value_heads": 4, "vocab_size": 262208,
                    "max_position_embeddings": 131072,
                    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
                    "sliding_window": 1024}, 7),
    "phi-3-mini-4k": ({**PHI3, "max_position_embeddings": 4096, "rope_scaling": None,
                       "sliding_window": 2047}, 2),
    "phi-3-mini-128k": ({**PHI3, "max_position_embeddings": 131072, "sliding_window": 262144,
                         "rope_scaling": {"type": "longrope"}}, 2),
    "phi-3-mini-128k-short": ({**PHI3, "max_position_embeddings": 131072, "sliding_window": 262144,
                               "rope_scaling": {"type": "longrope"}}, 2),
    "phi-4-mini": ({**PHI3, "num_attention_heads": 24, "num_key_value_heads": 8,
                    "vocab_size": 200064, "max_position_embeddings": 131072,
                    "sliding_window": 262144, "partial_rotary_factor": 0.75,
                    "rope_scaling": {"type": "longrope"}, "tie_word_embeddings": True,
                    "bos_token_id": 199999, "eos_token_id": 199999}, 2),
}

WORKER_OPTIONS = {"phi-3-mini-128k-short": ["--max-model-len", "4096"]}


# -- configs --------------------------------------------------------------------------------------


def smaller(published, layers, divisor):
    """The published config with so many layers, and all widths but a head's divided."""
    config = copy.deepcopy(published)
    config["num_hidden_layers"] = layers
    config["torch_dtype"] = "bfloat16"
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    kv = max(1, kv_heads // divisor)
    config["num_key_value_heads"] = kv
    config["num_attention_heads"] = max(kv, heads // divisor // kv * kv)
    config["intermediate_size"] = max(64, config["intermediate_size"] // divisor)
    config["vocab_size"] = max(2048, config["vocab_size"] // divisor)
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if key in config:
            config[key] %= config["vocab_size"]
    if "head_dim" in config:
        step = 2 * config["num_attention_heads"]
        config["hidden_size"] = max(64, config["hidden_size"] // divisor) // step * step
    else:
        config["hidden_size"] = head_dim * config["num_attention_heads"]
    if config.get("sliding_window") == 4096:
        config["sliding_window"] = 1000  # which a prompt of 4000 outgrows
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.get(key):
            config[key] = 3.0  # which these weights' scores and logits reach
    scaling = config.get("rope_scaling")
    if scaling and scaling["type" if "type" in scaling else "rope_type"] == "longrope":
        pairs = int(head_dim * config.get("partial_rotary_factor", 1.0)) // 2
        scaling["short_factor"] = [1.0 + 0.3 * i / pairs for i in range(pairs)]
        scaling["long_factor"] = [1.0 + 60.0 * (i / pairs) ** 2 for i in range(pairs)]
    return config


def reference_config(name, config):
    """What transformers is to run: one set of LongRoPE factors throughout, as the worker takes it,
    and the decoder of a model with a vision tower by itself."""
    config = copy.deepcopy(config)
    scaling = config.get("rope_scaling") or {}
    if "long_factor" in scaling and name.endswith("-short"):
        scaling["long_factor"] = scaling["short_factor"]
    elif "long_factor" in scaling:
        scaling["short_factor"] = scaling["long_factor"]
    if config["architectures"] == ["Gemma3ForConditionalGeneration"]:
        config["architectures"] = ["Gemma3ForCausalLM"]
    return config


def write_config(path, config, style):
    """As published, or as this version of transformers saves it."""
    if config["architectures"] == ["Gemma3ForConditionalGeneration"]:
        text = {k: v for k, v in config.items() if k not in ("architectures", "torch_dtype")}
        config = {"architectures": config["architectures"], "model_type": "gemma3",
                  "text_config": text, "torch_dtype": config["torch_dtype"]}
    (path / "config.json").write_text(json.dumps(config, indent=1))
    if style == "saved":
        loaded = transformers.AutoConfig.from_pretrained(path)
        loaded.architectures = config["architectures"]
        loaded.save_pretrained(path)


# -- weights --------------------------------------------------------------------------------------


def plus_one(config):
    return config["model_type"].startswith("gemma")


def random_weights(model, config, dtype, seed):
    """Norms and biases included: everything does something."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)

    def normal(shape, deviation, mean=0.0):
        return torch.empty(shape, device=device).normal_(mean, deviation, generator=generator)

    # Gemma's embedding is large beside what the layers add, and is the head as well: the model would
    # repeat its input. So it is made small, and the last norm large.
    embedding = 0.2 if plus_one(config) else SPREAD
    hidden = config["hidden_size"]
    weights = {}
    for name, old in model.state_dict().items():
        if name == "lm_head.weight" and config.get("tie_word_embeddings", plus_one(config)):
            continue
        if name.endswith("rotary_emb.inv_freq"):
            continue
        if "norm" in name:
            scale = SHARP if ".q_norm" in name or ".k_norm" in name else 1.0
            if name == "model.norm.weight" and plus_one(config):
                scale = SPREAD / embedding
            mean = scale - 1.0 if plus_one(config) else scale
            value = normal(old.shape, 0.2, mean)
        elif name.endswith("bias"):
            value = normal(old.shape, 0.5)
        elif "embed_tokens" in name or "lm_head" in name:
            value = normal(old.shape, embedding / math.sqrt(hidden))
        else:
            scores = any(k in name for k in ("q_proj", "k_proj", "qkv_proj"))
            value = normal(old.shape, (SHARP if scores else 1.0) / math.sqrt(old.shape[-1]))
        weights[name] = value.to(dtype)
    return weights


def build_reference(path, device):
    """A float32 model of the folder's config; weights come later."""
    config = transformers.AutoConfig.from_pretrained(path)
    for key in ("torch_dtype", "dtype"):
        if getattr(config, key, None) is not None:
            setattr(config, key, torch.float32)
    torch.set_default_dtype(torch.float32)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return model.float().eval()


def round_embedding_scale(model, config):
    """Gemma multiplies embeddings by sqrt(hidden_size) in the model's own dtype, bfloat16. The
    reference computes in float32, so its factor is rounded by hand, whichever module applies it."""
    if not plus_one(config):
        return
    exact = torch.tensor(config["hidden_size"] ** 0.5)
    ratio = float(exact.to(torch.bfloat16).float() / exact)
    model.model.embed_tokens.register_forward_hook(lambda module, inputs, out: out * ratio)


def write_tokenizer(path, vocab_size):
    vocab = {f"<{i}>": i for i in range(vocab_size)}
    tokenizer = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
                 "post_processor": None, "decoder": None,
                 "model": {"type": "BPE", "vocab": vocab, "merges": []}}
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))


def write_checkpoint(path, name, config, args):
    """The worker's folder; returns the reference model with the same weights."""
    reference = path / "reference"
    reference.mkdir()
    write_config(reference, reference_config(name, config), "published")
    model = build_reference(reference, args.reference_device)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[args.dtype]
    weights = random_weights(model, config, dtype, args.seed)
    missing = model.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
    allowed = {"lm_head.weight"} if config.get("tie_word_embeddings", plus_one(config)) else set()
    wrong = [k for k in missing.missing_keys if k not in allowed and "inv_freq" not in k]
    if wrong or missing.unexpected_keys:
        raise RuntimeError(f"{name}: weights do not fit: {wrong} {missing.unexpected_keys}")
    model.tie_weights()
    round_embedding_scale(model, config)
    prefix = ""
    if config["architectures"] == ["Gemma3ForConditionalGeneration"]:
        prefix = "language_model."
    save_file({prefix + k: v.contiguous().cpu() for k, v in weights.items()},
              path / "model.safetensors")
    write_config(path, config, args.config_style)
    write_tokenizer(path, config["vocab_size"])
    return model


# -- running --------------------------------------------------------------------------------------


def run_worker(worker, path, name, prompts, args):
    """For each prompt (ids, logprobs of the ids, logits after the prompt)."""
    lines = path / "prompts.jsonl"
    with open(lines, "w") as out:
        for ids in prompts:
            request = {"ids": ids, "max_tokens": STEPS, "temperature": 0, "ignore_eos": True,
                       "logprobs": 0}
            out.write(json.dumps(request) + "\n")
    command = [worker, "generate", "-m", str(path), "--prompts", str(lines), "--logits",
               "--device", args.device, *WORKER_OPTIONS.get(name, []), *args.worker_option]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr.strip()}\n{done.stdout[:500]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def reference_logprobs(model, prompt, answer):
    """[len(answer) + 1, vocab]: after the prompt and after each token of the answer."""
    ids = torch.tensor([prompt + answer], device=model.device)
    with torch.no_grad():
        out = model(input_ids=ids, use_cache=False, logits_to_keep=len(answer) + 1)
    return torch.log_softmax(out.logits[0].double(), dim=-1).cpu()


class Figures:
    """What one prompt showed."""

    def __init__(self, expected, result):
        logits = torch.tensor(result["logits"], dtype=torch.float64)
        found = torch.log_softmax(logits, dim=-1)
        best = expected[0].topk(TOP)
        off = (found[best.indices] - best.values).abs()
        self.largest, self.mean = float(off.max()), float(off.mean())
        self.off = off
        self.spread = float(logits.std())
        ids = torch.tensor(result["ids"])
        steps = expected[: len(ids)]
        own = steps.gather(1, ids[:, None])[:, 0]
        behind = steps.max(dim=-1).values - own
        self.flagged = int((behind > LARGEST_LIMIT).sum())
        self.worst_tie = float(behind.max())
        given = torch.tensor(result["logprobs"], dtype=torch.float64)
        self.step_largest = float((given - own).abs().max())
        self.steps = len(ids)

    def faults(self):
        if not self.largest <= LARGEST_LIMIT:
            yield "logits"
        if not self.step_largest <= LARGEST_LIMIT:
            yield "step logprobs"
        if not self.worst_tie <= NEAR_TIE:
            yield "tokens"
        if not self.spread > 0.3:
            yield "degenerate logits"


def prompts_for(config, lengths, seed):
    generator = torch.Generator().manual_seed(seed + 1)
    vocab = config["vocab_size"]
    room = config["max_position_embeddings"] - STEPS
    return [torch.randint(0, vocab, (min(n, room),), generator=generator).tolist()
            for n in lengths]


def compare_worker(worker, path, name, model, prompts, args):
    """The number of faults of one worker."""
    faults = flagged = steps = 0
    off = []
    started = time.monotonic()
    results = run_worker(worker, path, name, prompts, args)
    seconds = time.monotonic() - started
    for prompt, result in zip(prompts, results):
        figures = Figures(reference_logprobs(model, prompt, result["ids"]), result)
        wrong = list(figures.faults())
        faults += len(wrong)
        flagged += figures.flagged
        steps += figures.steps
        off.append(figures.off)
        print(f"{name:22} {args.dtype:5} {len(prompt):6} {figures.spread:6.2f} "
              f"{figures.largest:9.2e} {figures.mean:9.2e} {figures.step_largest:9.2e} "
              f"{figures.flagged:3}/{figures.steps:<3} {figures.worst_tie:9.2e}  "
              f"{'FAILED: ' + ', '.join(wrong) if wrong else 'ok'}", flush=True)
    mean = float(torch.cat(off).mean())
    fine = mean <= MEAN_LIMIT
    faults += not fine
    print(f"{name:22} {args.dtype:5} {'all':>6} {'':6} {'':9} {mean:9.2e} {'':27}  "
          f"{'ok' if fine else 'FAILED: mean'}", flush=True)
    if flagged > FLAGGED_LIMIT * steps:
        faults += 1
        print(f"{name:22} FAILED: {flagged} of {steps} tokens are behind the reference's best")
    print(f"{name:22} worker took {seconds:.1f} s", file=sys.stderr)
    return faults


def compare(name, args):
    """The number of faults of all workers, which share the checkpoint and the reference."""
    published, layers = MODELS[name]
    config = smaller(published, args.layers or layers, args.width_divisor)
    path = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=args.keep))
    faults = 0
    try:
        started = time.monotonic()
        model = write_checkpoint(path, name, config, args)
        prompts = prompts_for(config, args.prompts, args.seed)
        print(f"{name:22} made in {time.monotonic() - started:.1f} s", file=sys.stderr)
        for worker in args.worker:
            if len(args.worker) > 1:
                print(f"{worker}:")
            try:
                faults += compare_worker(worker, path, name, model, prompts, args)
            except (RuntimeError, ValueError, KeyError) as error:
                faults += 1
                print(f"{name:22} FAILED: {error}", flush=True)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        faults += 1
        print(f"{name:22} FAILED: {error}", flush=True)
    finally:
        if not args.keep:
            shutil.rmtree(path)
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--worker", nargs="+", default=["gaggle-worker"],
                        help="path of gaggle-worker; several are compared with one reference")
    parser.add_argument("--device", default="cpu", help="the worker's device [cpu]")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS),
                        metavar="NAME", help="of " + ", ".join(MODELS))
    parser.add_argument("--prompts", nargs="+", type=int, default=[1, 17, 512, 4000],
                        metavar="TOKENS", help="lengths [1 17 512 4000]")
    parser.add_argument("--dtype", choices=["f32", "bf16", "f16"], default="bf16")
    parser.add_argument("--layers", type=int, default=0, help="of each model [as many as it takes]")
    parser.add_argument("--width-divisor", type=int, default=1,
                        help="divide widths but a head's, for small machines [1]")
    parser.add_argument("--config-style", choices=["published", "saved"], default="published",
                        help="config.json as on the hub, or as this transformers saves it")
    parser.add_argument("--reference-device",
                        default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--worker-option", action="append", default=[], metavar="OPTION",
                        help="one more argument for the worker, as --worker-option=--threads=2")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", metavar="DIR", help="make the folders there and leave them")
    args = parser.parse_args()
    if args.keep:
        pathlib.Path(args.keep).mkdir(parents=True, exist_ok=True)
    transformers.logging.set_verbosity_error()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False

    print(f"transformers {transformers.__version__}, torch {torch.__version__}, "
          f"worker on {args.device}, reference on {args.reference_device}")
    print(f"{'model':22} {'dtype':5} {'prompt':>6} {'spread':>6} {'largest':>9} {'mean':>9} "
          f"{'steps':>9} {'flagged':7} {'tie':>9}")
    faults = sum(compare(name, args) for name in args.models)
    print("all within limits" if faults == 0 else f"{faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
