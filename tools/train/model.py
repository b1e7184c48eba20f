"""The bundled model in plain PyTorch: a Llama, with the tensor names of the Hugging Face layout.

RMSNorm before each block, rotary embeddings (halves rotated, base 10000), grouped-query attention,
SwiGLU, output head tied to the embedding.
"""

import json
import math
import pathlib

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

PAD, BOS, END, SYSTEM, USER, ASSISTANT = range(6)

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 2048,
    "hidden_size": 256,
    "intermediate_size": 576,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "hidden_act": "silu",
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "mlp_bias": False,
    "initializer_range": 0.02,
    "tie_word_embeddings": True,
    "use_cache": True,
    "bos_token_id": BOS,
    "eos_token_id": END,
    "pad_token_id": PAD,
    "torch_dtype": "bfloat16",
}


def rotary_tables(length, head_dim, theta, device):
    inverse = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim)
    angles = torch.arange(length, dtype=torch.float32, device=device)[:, None] * inverse[None, :]
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return (x * cos + turned * sin).to(x.dtype)


class RmsNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = (c["num_attention_heads"], c["num_key_value_heads"],
                                                    c["head_dim"])
        self.q_proj = nn.Linear(c["hidden_size"], self.heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(c["hidden_size"], self.kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(c["hidden_size"], self.kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head_dim, c["hidden_size"], bias=False)

    def forward(self, x, cos, sin, attend):
        b, t, _ = x.shape
        q = self.q_proj(x).view(b, t, self.heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(b, t, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(b, t, self.kv_heads, self.head_dim).transpose(1, 2)
        y = attend(rotate(q, cos, sin), rotate(k, cos, sin), v)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, self.heads * self.head_dim))


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c["hidden_size"], c["intermediate_size"], bias=False)
        self.up_proj = nn.Linear(c["hidden_size"], c["intermediate_size"], bias=False)
        self.down_proj = nn.Linear(c["intermediate_size"], c["hidden_size"], bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm = RmsNorm(c["hidden_size"], c["rms_norm_eps"])
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RmsNorm(c["hidden_size"], c["rms_norm_eps"])
        self.mlp = Mlp(c)

    def forward(self, x, cos, sin, attend):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, attend)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = RmsNorm(c["hidden_size"], c["rms_norm_eps"])


class Llama(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = Decoder(config)

    def initialise(self, seed):
        """Normal weights, the two matrices that write to the residual stream scaled down."""
        generator = torch.Generator().manual_seed(seed)
        scale = 1 / math.sqrt(2 * self.config["num_hidden_layers"])
        with torch.no_grad():
            for name, p in self.named_parameters():
                if p.dim() == 2:
                    std = 0.02 * (scale if name.endswith(("o_proj.weight", "down_proj.weight")) else 1)
                    p.copy_(torch.randn(p.shape, generator=generator) * std)

    def hidden(self, ids, attend):
        c = self.config
        cos, sin = rotary_tables(ids.shape[1], c["head_dim"], c["rope_theta"], ids.device)
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x, cos, sin, attend)
        return self.model.norm(x)

    def forward(self, ids):
        """ids [batch, tokens] of one text each -> logits [batch, tokens, vocabulary]."""
        repeats = self.config["num_attention_heads"] // self.config["num_key_value_heads"]

        def attend(q, k, v):
            return F.scaled_dot_product_attention(q, k.repeat_interleave(repeats, 1),
                                                  v.repeat_interleave(repeats, 1), is_causal=True)
        return F.linear(self.hidden(ids, attend), self.model.embed_tokens.weight)

    def loss(self, ids, attention):
        """Mean cross entropy over the tokens that the model itself has to say.

        ids        [rows, ROW] as encode.py packs them
        attention  "flex" (GPU, skips what lies outside a document) or "dense"

        Within a row a token sees its own document only; rotary positions are relative, so they
        need no restart. Learned are the assistant's tokens with their <|end|>, and all of a
        plain text.
        """
        rows, length = ids.shape
        document = (ids == BOS).cumsum(1)
        if attention == "flex":
            def visible(b, h, q, k):
                return (q >= k) & (document[b, q] == document[b, k])
            mask = create_block_mask(visible, rows, None, length, length, device=ids.device)

            def attend(q, k, v):
                return flex_attention(q, k, v.to(q.dtype), block_mask=mask, enable_gqa=True)
        else:
            repeats = self.config["num_attention_heads"] // self.config["num_key_value_heads"]
            mask = (document[:, None, :, None] == document[:, None, None, :]).tril()

            def attend(q, k, v):
                return F.scaled_dot_product_attention(q, k.repeat_interleave(repeats, 1),
                                                      v.repeat_interleave(repeats, 1), attn_mask=mask)

        # Who speaks at each position: the last marker at or before it.
        position = torch.arange(length, device=ids.device).expand(rows, length)
        marker = (ids == BOS) | (ids == SYSTEM) | (ids == USER) | (ids == ASSISTANT)
        last = torch.where(marker, position, 0).cummax(1).values
        speaker = ids.gather(1, last)[:, :-1]
        target = ids[:, 1:]
        learned = (((speaker == ASSISTANT) | (speaker == BOS)) & (target != PAD) & ~marker[:, 1:])
        target = torch.where(learned, target, -100)

        logits = F.linear(self.hidden(ids, attend), self.model.embed_tokens.weight)[:, :-1]
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), target.reshape(-1),
                               ignore_index=-100)

    @torch.no_grad()
    def greedy(self, ids, count):
        """The next ids, up to `count` or to <|end|>; the whole text is run again for each."""
        ids = list(ids)
        start = len(ids)
        device = self.model.embed_tokens.weight.device
        while len(ids) - start < count:
            best = int(self(torch.tensor([ids], device=device))[0, -1].float().argmax())
            ids.append(best)
            if best == END:
                break
        return ids[start:]


def save(model, folder):
    """Weights in bfloat16 and both config files, in the Hugging Face layout."""
    from safetensors.torch import save_file
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: p.detach().to("cpu", torch.bfloat16).contiguous()
               for name, p in model.named_parameters()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model.config, indent=2) + "\n")
    generation = {"bos_token_id": BOS, "eos_token_id": END, "pad_token_id": PAD, "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def load(folder):
    """The model of a folder, in float32 on the CPU."""
    from safetensors.torch import load_file
    folder = pathlib.Path(folder)
    model = Llama(json.loads((folder / "config.json").read_text()))
    model.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return model
