#!/usr/bin/env python3
"""The corpus as rows of token ids, ready for the GPU.

    python3 encode.py --seed 1 --documents 2600000 --out /tmp/corpus.npy

Whole documents are packed into rows of 1024 ids; a document is never split. Nothing else is
stored: train.py finds the documents and what to learn from them by the special tokens. Shard i
depends on the seed and i alone, so the number of processes does not change the file.
"""

import argparse
import concurrent.futures
import os
import pathlib
import time

import numpy
from tokenizers import Tokenizer

import corpus

ROW = 1024
PAD = 0
SHARD_DOCUMENTS = 20000
OPEN_ROWS = 16  # a document goes into the first of these that has room


def pack(encoded, row=ROW):
    """Lists of ids -> array [rows, row], padded with PAD."""
    rows, open_rows = [], []
    for ids in encoded:
        if len(ids) > row:
            continue
        for r in open_rows:
            if len(r) + len(ids) <= row:
                r.extend(ids)
                break
        else:
            if len(open_rows) == OPEN_ROWS:
                fullest = max(range(OPEN_ROWS), key=lambda i: len(open_rows[i]))
                rows.append(open_rows.pop(fullest))
            open_rows.append(list(ids))
    rows += open_rows
    packed = numpy.full((len(rows), row), PAD, dtype=numpy.uint16)
    for i, r in enumerate(rows):
        packed[i, :len(r)] = r
    return packed


def shard(job):
    """One shard: (tokenizer file, seed, index, documents) -> packed rows."""
    path, seed, index, count = job
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = Tokenizer.from_file(path)
    texts = (corpus.render(d) for d in corpus.documents(f"{seed}/{index}", count))
    return pack(tokenizer.encode(t, add_special_tokens=False).ids for t in texts)


def main():
    parser = argparse.ArgumentParser(description="encode the corpus")
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--tokenizer", default=str(here / "../../models/gosling/tokenizer.json"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--documents", type=int, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()

    start = time.monotonic()
    jobs = []
    for index, at in enumerate(range(0, args.documents, SHARD_DOCUMENTS)):
        jobs.append((args.tokenizer, args.seed, index, min(SHARD_DOCUMENTS, args.documents - at)))
    with concurrent.futures.ProcessPoolExecutor(args.processes) as pool:
        rows = numpy.concatenate(list(pool.map(shard, jobs)))
    numpy.save(args.out, rows)
    used = int((rows != PAD).sum())
    print(f"rows={len(rows)} tokens={used} filled={used / rows.size:.3f} "
          f"seconds={time.monotonic() - start:.0f}")


if __name__ == "__main__":
    main()
