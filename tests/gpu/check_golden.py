#!/usr/bin/env python3
"""Greedy answers of small real models on a GPU, against what was recorded in float32.

    check_golden.py --worker build/bin/gaggle-worker --device cuda:0 [--shared DIR] [-- more flags]

An id may differ from the recorded one only where the recorded logits were a near tie: there both
answers are right, and the rest of that answer is not compared. Exit status 1 when one differs
otherwise.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

NEAR_TIE = 0.5  # nats between the first and the second


def generate(options, model, requests):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as prompts:
        for request in requests:
            prompts.write(json.dumps(request) + "\n")
        prompts.flush()
        command = [options.worker, "generate", "-m", model, "--prompts", prompts.name,
                   "--device", options.device, *options.flags]
        run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{' '.join(command)}: {run.stderr.strip()[-500:]}")
    return [json.loads(line)["ids"] for line in run.stdout.splitlines()]


def compare(name, expected, found, margins=None):
    """Number of equal ids; exits where they part without a near tie."""
    for i, (want, got) in enumerate(zip(expected, found)):
        if want == got:
            continue
        margin = margins[i] if margins else None
        if margin is not None and margin >= NEAR_TIE:
            sys.exit(f"{name}: token {i} is {got}, recorded {want} with a margin of {margin} nats")
        return i
    return len(expected)


def check(options, title, model, lines, key):
    requests = [{"ids": line[key], "max_tokens": len(line["greedy_ids"]), "temperature": 0,
                 "ignore_eos": True} for line in lines]
    answers = generate(options, model, requests)
    equal = total = 0
    for line, answer in zip(lines, answers):
        equal += compare(f"{title}, prompt of {len(line[key])} ids", line["greedy_ids"], answer,
                         line.get("margins"))
        total += len(line["greedy_ids"])
    print(f"{title}: {len(lines)} prompts, {equal} of {total} ids before a near tie equal")
    return equal / total


def read(path):
    with open(path) as lines:
        return [json.loads(line) for line in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", required=True)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--shared", help="folder with weights/stories260K")
    parser.add_argument("flags", nargs="*", help="more flags of gaggle-worker generate")
    options = parser.parse_args()
    tree = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    bundled = read(os.path.join(tree, "tests", "golden", "bundled_model.jsonl"))
    check(options, "bundled model", os.path.join(tree, "models", "gosling"), bundled, "ids")
    stories = os.path.join(options.shared or "", "weights", "stories260K")
    if not options.shared or not os.path.isdir(stories):
        print("skipped: stories260K (no --shared folder that has it)")
        return
    share = check(options, "stories260K in float32", os.path.join(stories, "hf"),
                  read(os.path.join(stories, "greedy.jsonl")), "prompt_ids")
    if share < 0.5:
        sys.exit(f"stories260K: only {share:.0%} of the ids before the first difference")


if __name__ == "__main__":
    main()
