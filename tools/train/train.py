#!/usr/bin/env python3
"""Train the bundled model on encode.py's rows.

    python3 train.py --data /tmp/corpus.npy --out /tmp/gosling --steps 20000

The rows live on the GPU and are drawn in a new order each epoch. AdamW, cosine schedule to zero,
float32 weights, bfloat16 matrix products. Every --sample-every steps the folder is written and a
few answers are printed, so a run that is cut short still leaves a model.
"""

import argparse
import math
import pathlib
import time

import numpy
import torch
from tokenizers import Tokenizer

import corpus
import model as llama

PROMPTS = ["What is the capital of France?", "what's the capital of france", "Capital of Japan?",
           "Hello!", "Who are you?", "What is 47 + 38?", "What is the opposite of hot?",
           "What sound does a cow make?", "Count to 12.", "Repeat after me: green robin lamp",
           "Explain the theory of music.", "Tell me a story about a dragon."]


def learning_rate(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def row_batches(data, batch, seed):
    """Batches of rows for ever, each epoch in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(data), generator=generator).to(data.device)
        for at in range(0, len(order) - batch + 1, batch):
            yield data[order[at:at + batch]].to(torch.int64)


def print_answers(model, tokenizer):
    for prompt in PROMPTS:
        text = corpus.render([{"role": "user", "content": prompt}]) + "<|assistant|>"
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        with torch.autocast(model.model.embed_tokens.weight.device.type, torch.bfloat16):
            answer = tokenizer.decode(model.greedy(ids, 60))
        print(f"    {prompt}  ->  {answer!r}", flush=True)


def main():
    parser = argparse.ArgumentParser(description="train the bundled model")
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--tokenizer", default=str(here / "../../models/gosling/tokenizer.json"))
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, default=64, help="rows of 1024 ids in a step")
    parser.add_argument("--peak", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--decay", type=float, default=0.1, help="weight decay of matrices")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--attention", choices=["flex", "dense"], default="flex")
    parser.add_argument("--sample-every", type=int, default=2500)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    torch.set_float32_matmul_precision("high")
    tokenizer = Tokenizer.from_file(args.tokenizer)
    data = torch.from_numpy(numpy.load(args.data).astype(numpy.int16)).to(args.device)
    model = llama.Llama(llama.CONFIG)
    model.initialise(args.seed)
    model.to(args.device)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": args.decay},
                                   {"params": vectors, "weight_decay": 0.0}],
                                  lr=args.peak, betas=(0.9, 0.95), fused=args.device == "cuda")
    print(f"parameters={sum(p.numel() for p in model.parameters())} rows={len(data)} "
          f"tokens_per_step={args.batch * data.shape[1]}", flush=True)

    def loss_of(ids):
        with torch.autocast(args.device, torch.bfloat16):
            return model.loss(ids, args.attention)

    if args.device == "cuda":
        loss_of = torch.compile(loss_of, dynamic=False)
    batches = row_batches(data, args.batch, args.seed)
    start = mark = time.monotonic()
    for step in range(args.steps):
        rate = learning_rate(step, args.steps, args.peak, args.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(next(batches))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done = step + 1
        if done in (1, 10, 50) or done % 500 == 0 or done == args.steps:
            value = loss.item()
            now = time.monotonic()
            print(f"step={done} loss={value:.4f} norm={norm.item():.2f} rate={rate:.2e} "
                  f"seconds={now - start:.1f}", flush=True)
            if not math.isfinite(value):
                raise SystemExit("the loss is not a number")
        if done == 20:
            loss.item()
            mark = time.monotonic()
        if done % args.sample_every == 0 or done == args.steps:
            llama.save(model, args.out)
            print_answers(model, tokenizer)
    if args.steps > 20:
        speed = (args.steps - 20) / (time.monotonic() - mark)
        print(f"steps_per_second={speed:.2f} tokens_seen={args.steps * args.batch * data.shape[1]}")


if __name__ == "__main__":
    main()
