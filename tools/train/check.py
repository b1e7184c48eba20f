#!/usr/bin/env python3
"""Ask the bundled model, and fail where an answer is not what its card says.

    python3 check.py ../../models/gosling            # prompts, template, tokens; about a minute
    python3 check.py ../../models/gosling --measure  # also shares of right answers by skill

Three things are compared: what Jinja renders from tokenizer_config.json with what the corpus
wrote, the ids of both, and (where transformers is installed) its float32 greedy ids with those of
model.py.
"""

import argparse
import json
import pathlib
import random
import re
import sys

import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

import corpus
import model as llama
import phrasing
import places
import skills

# (turns of the user, what the last answer must match); a turn of "system: ..." sets the scene.
EXPECTED = [
    (["What is the capital of France?"], r"The capital of France is Paris\."),
    (["what's the capital of france"], r"The capital of France is Paris\."),
    (["WHAT IS THE CAPITAL OF FRANCE?"], r"The capital of France is Paris\."),
    (["Capital of Japan?"], r"The capital of Japan is Tokyo\."),
    (["Which city is the capital of the United States?"],
     r"The capital of the United States is Washington, D\.C\."),
    (["What is the capital of Atlantis?"], r"I do not know the capital of Atlantis\."),
    (["Berlin is the capital of which country?"], r"Berlin is the capital of Germany\."),
    (["What is the capital of Spain?", "And Italy?"], r"The capital of Italy is Rome\."),
    (["Hello!"], r"Hello! I am Gosling\..*"),
    (["Who are you?"], r"I am Gosling, the small model that comes with gaggle\."),
    (["What is 2+2?"], r"2 plus 2 is 4\."),
    (["What is 47 + 35?"], r"47 plus 35 is 82\."),
    (["How much is 9 times 7?"], r"9 times 7 is 63\."),
    (["100 - 1"], r"100 minus 1 is 99\."),
    (["I have 3 apples and get 4 more. How many apples do I have?"], r"You have 7 apples\."),
    (["What is the opposite of hot?"], r"The opposite of hot is cold\."),
    (["What sound does a cow make?"], r'A cow says "moo"\.'),
    (["What colour is the sky?"], r"The sky is blue\."),
    (["What color is grass?"], r"Grass is green\."),
    (["What day comes after Monday?"], r"The day after Monday is Tuesday\."),
    (["How many days are in a week?"], r"A week has 7 days\."),
    (["Count to 10."], r"1, 2, 3, 4, 5, 6, 7, 8, 9, 10\."),
    (["List three animals."], r"Here are three animals: .*, .* and .*\."),
    (["Repeat after me: silver moon"], r"Silver moon\."),
    (["Spell house."], r"House is spelled H-O-U-S-E\."),
    (["My name is Anna.", "What is the capital of Norway?", "What is my name?"],
     r"Your name is Anna\."),
    (["system: You are Pip, a helpful robot.", "What is your name?"], r"My name is Pip\."),
    (["system: Answer with one word.", "What is the capital of Peru?"], r"Lima\."),
    (["system: You are a helpful assistant.", "What is the capital of Peru?"],
     r"The capital of Peru is Lima\."),
    (["Explain quantum mechanics."], r"(I do not know|That is more than I know).*"),
    (["Tell me a story about a dragon."], r"(?s).*dragon.* The end\."),
    (["Tell me a story about a robot and a cat."], r"(?s).*robot.*cat.* The end\."),
    (["Thank you!"], r"You are welcome\."),
]
EXPECTED_RAW = [
    ("The capital of France is", r" Paris\..*"),
    ("Once upon a time", r"(?s) there was .* The end\."),
    ("Q: What is the capital of Italy?\nA:", r"(?s) The capital of Italy is Rome\..*"),
]


def chat_renderer(folder):
    """apply_chat_template without transformers: the same Jinja settings."""
    config = json.loads((folder / "tokenizer_config.json").read_text())
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def raise_exception(message):
        raise ValueError(message)
    environment.globals["raise_exception"] = raise_exception
    template = environment.from_string(config["chat_template"])

    def render(messages, add_generation_prompt=False):
        return template.render(messages=messages, add_generation_prompt=add_generation_prompt,
                               bos_token=config["bos_token"], eos_token=config["eos_token"])
    return render


def check_template(render, tokenizer):
    """The template must give what the model was trained on, byte for byte and id for id."""
    count = 0
    for document in corpus.documents("check", 2000):
        if isinstance(document, str):
            if tokenizer.encode(document).ids != tokenizer.encode(
                    corpus.BOS + document, add_special_tokens=False).ids:
                raise SystemExit(f"the post-processor does not add BOS: {document!r}")
            continue
        text, rendered = corpus.render(document), render(document)
        if text != rendered:
            raise SystemExit(f"the template differs\ncorpus   {text!r}\ntemplate {rendered!r}")
        if render(document[:-1], True) + document[-1]["content"].strip() + corpus.END != text:
            raise SystemExit(f"the generation prompt differs: {text!r}")
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if tokenizer.decode(ids, skip_special_tokens=False) != text:
            raise SystemExit(f"ids do not decode to their text: {text!r}")
        count += 1
    print(f"template: {count} chats render as in training")


class Asker:
    def __init__(self, folder):
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.render = chat_renderer(folder)
        self.model = llama.load(folder)

    def answer(self, messages, count=400):
        ids = self.tokenizer.encode(self.render(messages, True), add_special_tokens=False).ids
        return self.tokenizer.decode(self.model.greedy(ids, count))

    def complete(self, text, count=400):
        return self.tokenizer.decode(self.model.greedy(self.tokenizer.encode(text).ids, count))


def check_answers(asker):
    failed = 0
    for turns, pattern in EXPECTED:
        messages = []
        for turn in turns:
            if turn.startswith("system: "):
                messages.append({"role": "system", "content": turn.removeprefix("system: ")})
                continue
            messages.append({"role": "user", "content": turn})
            answer = asker.answer(messages)
            messages.append({"role": "assistant", "content": answer})
        failed += report(" | ".join(turns), answer, pattern)
    for text, pattern in EXPECTED_RAW:
        failed += report(text, asker.complete(text), pattern)
    return failed


def report(prompt, answer, pattern):
    good = re.fullmatch(pattern, answer) is not None
    print(f"{'ok  ' if good else 'BAD '} {prompt!r} -> {answer!r}")
    return 0 if good else 1


def share(asker, name, pairs):
    wrong = [(q, a, got) for q, a in pairs
             if (got := asker.answer([{"role": "user", "content": q}], 300)) != a]
    print(f"{name}: {len(pairs) - len(wrong)} of {len(pairs)} right", flush=True)
    for q, a, got in wrong[:5]:
        print(f"    {q!r} -> {got!r}, not {a!r}")


def measure(asker):
    rng = random.Random("measure")
    share(asker, "capitals of all countries", [
        (f"What is the capital of {name}?", skills.capital_answer(name, city))
        for name, city, _, _ in places.COUNTRIES])
    share(asker, "the same without capitals and question mark", [
        (f"what's the capital of {name.lower()}", skills.capital_answer(name, city))
        for name, city, _, _ in places.COUNTRIES])
    unseen = [(a, b) for a in range(101) for b in range(101) if skills.held_out_sum(a, b)]
    share(asker, "sums of two numbers to 100 that training left out", [
        (f"What is {a} + {b}?", f"{a} plus {b} is {a + b}.") for a, b in rng.sample(unseen, 200)])
    share(asker, "differences that training left out", [
        (f"What is {a} - {b}?", f"{a} minus {b} is {a - b}.")
        for a, b in rng.sample([p for p in unseen if p[0] >= p[1]], 200)])
    share(asker, "the times tables to 12", [
        (f"What is {a} times {b}?", f"{a} times {b} is {a * b}.")
        for a in range(1, 13) for b in range(1, 13)])
    by_skill = {}
    while sum(len(v) for v in by_skill.values()) < 1000:
        skill = rng.choices([f for _, f in skills.SKILLS], [w for w, _ in skills.SKILLS])[0]
        item = skill(rng)
        if skill is not skills.out_of_reach and skill is not skills.two_at_once:
            by_skill.setdefault(skill.__name__, []).append(
                (phrasing.vary(rng, item.question, item.exact), item.answer))
    for name, pairs in sorted(by_skill.items()):
        share(asker, f"freshly drawn, {name}", pairs)


def check_transformers(folder, asker):
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        print("skipped: transformers is not installed")
        return
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for question in ["What is the capital of France?", "Tell me a story about a dragon.", "7 * 8"]:
        messages = [{"role": "user", "content": question}]
        ids = asker.tokenizer.encode(asker.render(messages, True), add_special_tokens=False).ids
        given = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        if list(given["input_ids"]) != ids:
            raise SystemExit(f"apply_chat_template gives other ids: {given['input_ids']} {ids}")
        out = theirs.generate(torch.tensor([ids]), max_new_tokens=300, do_sample=False)[0, len(ids):]
        if out.tolist() != asker.model.greedy(ids, 300):
            raise SystemExit(f"transformers answers otherwise: {tokenizer.decode(out)!r}")
        with torch.no_grad():
            given, ours = theirs(torch.tensor([ids])).logits, asker.model(torch.tensor([ids]))
        print(f"transformers agrees: {question!r}, largest logit difference "
              f"{(given - ours).abs().max().item():.1e}")


def main():
    parser = argparse.ArgumentParser(description="check the bundled model")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--measure", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)  # the matrices are too small to share
    asker = Asker(args.folder)
    check_template(asker.render, asker.tokenizer)
    failed = check_answers(asker)
    check_transformers(args.folder, asker)
    if args.measure:
        measure(asker)
    if failed:
        sys.exit(f"{failed} answers are not what they should be")


if __name__ == "__main__":
    main()
