#!/usr/bin/env python3
"""Make the bundled model's tokenizer: byte-level BPE over a sample of the corpus.

    python3 train_tokenizer.py --out ../../models/gosling

No merge contains a digit, so a number is always one token a digit and sums can be learned.
"""

import argparse
import json
import pathlib

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import corpus

SPECIAL = ["<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]

# What corpus.render() does, in Jinja: roles as special tokens, nothing between them.
CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
    {%- if message['role'] not in ['system', 'user', 'assistant'] -%}
        {{- raise_exception('Gosling knows the roles system, user and assistant, not ' + message['role']) -}}
    {%- endif -%}
    {{- '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|assistant|>' -}}
{%- endif -%}
"""


def plain_text(seed, count):
    """The documents' text without the special tokens' spellings."""
    for document in corpus.documents(seed, count):
        if isinstance(document, str):
            yield document
        else:
            for message in document:
                yield message["content"]


def main():
    parser = argparse.ArgumentParser(description="train the tokenizer of the bundled model")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--documents", type=int, default=60000)
    parser.add_argument("--vocab", type=int, default=2048)
    args = parser.parse_args()

    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    # Digits stand alone while merges are learned; afterwards no rule is needed to keep them so.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), byte_level])
    trainer = trainers.BpeTrainer(vocab_size=args.vocab, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(plain_text(args.seed, args.documents), trainer)
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    bos = ("<|bos|>", tokenizer.token_to_id("<|bos|>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", pair="<|bos|> $A <|bos|> $B:1", special_tokens=[bos])

    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(args.out / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
        "chat_template": CHAT_TEMPLATE,
    }
    (args.out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    special = {"bos_token": "<|bos|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}
    (args.out / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    merges_with_digits = [m for m in json.loads(tokenizer.to_str())["model"]["merges"]
                          if any(c.isdigit() for c in "".join(m))]
    assert not merges_with_digits, merges_with_digits
    print(f"tokens={tokenizer.get_vocab_size()} merges end with "
          f"{json.loads(tokenizer.to_str())['model']['merges'][-3:]}")


if __name__ == "__main__":
    main()
