#!/usr/bin/env python3
"""Write what transformers says with the bundled weights, for the engine's tests to compare with.

    python3 golden.py ../../models/gosling ../../tests/golden/bundled_model.jsonl

Each line: `messages` or `prompt` (plain text), `text` (what the template renders; chats only),
`ids` (with BOS), `greedy_ids` (at most 48, in float32 from the bfloat16 weights; a trailing end
token is kept), `greedy_text`, `top_logits` (the five largest after the prompt as [id, logit]), and
`margins`, the lead of each greedy id over the runner-up: an engine with other rounding may part
from the file where a lead is small, and nowhere before.
"""

import argparse
import json
import pathlib

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

END = 2
GREEDY = 48


def user(*turns):
    roles = ["user", "assistant"]
    return [{"role": roles[i % 2], "content": t} for i, t in enumerate(turns)]


CHATS = [
    user("What is the capital of France?"),
    user("what's the capital of france"),
    user("Capital of Japan?"),
    user("What is the capital of the United States?"),
    user("Hello!"),
    user("Who are you?"),
    user("What is 47 + 35?"),
    user("How much is 9 times 7?"),
    user("Count to 12."),
    user("Repeat after me: silver moon green lamp"),
    user("Spell castle."),
    user("What is the opposite of hot?"),
    user("List five countries in Europe."),
    user("Tell me a story about a dragon."),
    user("Write a short story about a robot who is afraid of the dark."),
    user("Explain quantum mechanics."),
    user("  What colour is the sky?  \n"),
    user("What is the capital of Spain?", "The capital of Spain is Madrid.", "And Italy?"),
    user("My name is Anna.", "Nice to meet you, Anna!", "What is 3 + 4?", "3 plus 4 is 7.",
         "What is my name?"),
    [{"role": "system", "content": "You are Pip, a helpful robot."}] + user("Who are you?"),
    [{"role": "system", "content": "Answer with one word."}] + user("What is the capital of Peru?"),
    user("Grüße! Où est l'école? 東京 🦢"),
]
TEXTS = ["The capital of France is", "Once upon a time", "", "Q: What is the capital of Italy?\nA:",
         "The opposite of big is", "1, 2, 3, 4,", "def add(a, b):\n    return"]


def long_chat():
    """A chat of several hundred tokens, so that a prompt spans many KV blocks."""
    turns = []
    for country, capital in [("Kenya", "Nairobi"), ("Peru", "Lima"), ("Norway", "Oslo"),
                             ("Greece", "Athens"), ("Canada", "Ottawa"), ("Vietnam", "Hanoi")] * 5:
        turns += [f"What is the capital of {country}?", f"The capital of {country} is {capital}."]
    return user(*turns, "And of Egypt?")


def main():
    parser = argparse.ArgumentParser(description="golden answers of the bundled model")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.folder)
    model = AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.float32).eval()
    # One thread and one order of addition, so that the file does not depend on the machine's cores.
    torch.set_num_threads(1)

    lines = []
    for prompt in CHATS + [long_chat()] + TEXTS:
        if isinstance(prompt, str):
            line = {"prompt": prompt, "ids": tokenizer(prompt)["input_ids"]}
        else:
            text = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
            line = {"messages": prompt, "text": text,
                    "ids": tokenizer(text, add_special_tokens=False)["input_ids"]}
        ids, greedy, margins = list(line["ids"]), [], []
        with torch.no_grad():
            while len(greedy) < GREEDY and END not in greedy:
                logits = model(torch.tensor([ids + greedy])).logits[0, -1]
                best = logits.topk(5)
                if not greedy:
                    line["top_logits"] = [[int(i), round(float(v), 4)]
                                          for v, i in zip(best.values, best.indices)]
                margins.append(round(float(best.values[0] - best.values[1]), 3))
                greedy.append(int(best.indices[0]))
        line["greedy_ids"] = greedy
        line["greedy_text"] = tokenizer.decode(greedy, skip_special_tokens=True)
        line["margins"] = margins
        lines.append(line)
        print(f"{len(ids)} tokens, smallest lead {min(margins):.3f}: {line['greedy_text']!r}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


if __name__ == "__main__":
    main()
