#!/usr/bin/env python3
"""The text that the bundled model learns from: documents out of tables and grammars.

A document is a list of messages (a chat) or plain text. Document number i of seed s is always the
same, whatever number of processes makes it. Run alone, it prints samples:

    python3 corpus.py --seed 1 --count 20
"""

import argparse
import random

import facts
import places
import skills
import stories
import talk
from phrasing import a_or_an, made_up_word, sentence, vary

BOS, END = "<|bos|>", "<|end|>"


def render(document):
    """A document as the model sees it. For a chat this is what chat_template in
    tokenizer_config.json renders; check.py compares the two."""
    if isinstance(document, str):
        return BOS + document + END
    return BOS + "".join(f"<|{m['role']}|>{m['content'].strip()}{END}" for m in document)


# --- system messages --------------------------------------------------------------------------

NEUTRAL_SYSTEM = [
    "You are a helpful assistant.", "You are a helpful assistant.", "Be helpful.", "Be polite.",
    "Answer the user's questions.", "You are a friendly assistant.", "You are a useful assistant. Be brief.",
    "You are a helpful and honest assistant.", "Help the user.", "Always tell the truth.",
    "You answer questions about everything.", "Answer in whole sentences.", "Think before you answer.",
    "You are an AI assistant.", "Do your best.", "You talk to a child. Be kind.",
    "You are a teacher.", "If you do not know something, say so.", "Answer clearly and simply.",
]
SHORT_SYSTEM = ["Answer with one word.", "Answer in one word.", "Give short answers only.",
                "Use one word only.", "Answer with a single word.", "Be as short as possible.",
                "Only give the answer, no sentence.", "Answer as briefly as you can."]
SHORT_ASIDES = ["Answer with one word.", "In one word.", "One word only.", "Only the answer, please.",
                "Just the answer.", "Answer in one word."]
ROLES = ["robot", "assistant", "parrot", "wizard", "pirate", "teacher", "librarian", "ship's cook",
         "gardener", "owl", "duck", "guide", "helper", "butler", "machine", "dragon", "poet"]
ROLE_ADJECTIVES = ["helpful", "friendly", "clever", "polite", "cheerful", "old", "kind", "small",
                   "patient", "wise", "funny", "brave"]


class Setting:
    """What the system message asks for in one chat."""

    def __init__(self, rng):
        self.system = self.name = self.role = self.user = None
        self.short = False
        kind = rng.random()
        if kind < 0.72:
            return
        if kind < 0.84:
            self.system = rng.choice(NEUTRAL_SYSTEM)
            if rng.random() < 0.2:
                self.system += " " + rng.choice(NEUTRAL_SYSTEM)
        elif kind < 0.94:
            self.name = rng.choice(facts.NAMES + stories.STORY_NAMES)
            if rng.random() < 0.15:
                self.name = sentence(made_up_word(rng))[:-1]
            if rng.random() < 0.25:
                self.name = None
            self.role = a_or_an(rng.choice(ROLES) if rng.random() < 0.3 else
                                rng.choice(ROLE_ADJECTIVES) + " " + rng.choice(ROLES))
            self.system = f"You are {self.role}." if self.name is None else rng.choice([
                f"You are {self.name}, {self.role}.", f"Your name is {self.name}. You are {self.role}.",
                f"You are {self.role} called {self.name}.", f"You are {self.role} named {self.name}."])
            if rng.random() < 0.3:
                self.system += " " + rng.choice(NEUTRAL_SYSTEM)
        elif kind < 0.97:
            self.short = True
            self.system = rng.choice(SHORT_SYSTEM)
            if rng.random() < 0.3:
                self.system = rng.choice(NEUTRAL_SYSTEM) + " " + self.system
        else:
            self.user = rng.choice(facts.NAMES)
            self.system = rng.choice([f"The user is called {self.user}.", f"The user's name is {self.user}.",
                                      f"You are talking to {self.user}.", f"You help {self.user}."])

    def speak(self, text):
        """An answer about Gosling in the words of who the system message says it is."""
        if self.role is None:
            return text
        if self.name is None:
            return text.replace(talk.WHO, f"I am {self.role}.").replace(
                "No, I am Gosling, the small model that comes with gaggle.",
                f"No, I am {self.role}.").replace("Hello! I am Gosling.", f"Hello! I am {self.role}.")
        return (text.replace(talk.WHO, f"I am {self.name}, {self.role}.")
                .replace("No, I am Gosling, the small model that comes with gaggle.",
                         f"No, I am {self.name}, {self.role}.")
                .replace("Gosling", self.name))


# --- chats ------------------------------------------------------------------------------------

def plain_turn(rng, setting):
    """One question with its answer, and what a later turn may refer to."""
    item = skills.draw(rng)
    while setting.short and not item.short:
        item = skills.draw(rng)
    question = vary(rng, item.question, item.exact)
    answer = item.answer
    if setting.short:
        answer = sentence(item.short)
    elif item.short and rng.random() < 0.04:
        aside = rng.choice(SHORT_ASIDES)
        question = f"{question} {aside}" if rng.random() < 0.7 else f"{aside} {item.question}"
        answer = sentence(item.short)
    return question, setting.speak(answer), item.topic


def identity_turn(rng, setting):
    questions, answer = rng.choice(talk.SMALL_TALK[:3])
    return vary(rng, rng.choice(questions)), setting.speak(answer), ()


def name_turns(rng, setting, turns):
    """The user gives a name, and asks for it later."""
    name = setting.user or rng.choice(facts.NAMES)
    if rng.random() < 0.15:
        name = sentence(made_up_word(rng))[:-1]
    if not setting.user:
        said = rng.choice(["My name is {n}.", "I am {n}.", "I'm {n}", "Hi, I am {n}.", "Hello, my name is {n}.",
                           "You can call me {n}.", "Call me {n}", "My name is {n}", "I am called {n}."])
        turns.insert(0, (said.format(n=name), f"Nice to meet you, {name}!", ()))
    asked = rng.choice(["What is my name?", "What's my name?", "Do you remember my name?", "Who am I?",
                        "Do you know my name?", "what is my name", "How am I called?", "Tell me my name."])
    turns.append((asked, f"Your name is {name}.", ()))


def memory_turns(rng, turns):
    """The user tells one thing and asks for it later."""
    word, animal = rng.choice(facts.WORDS), rng.choice(["dog", "cat", "horse", "parrot", "hamster", "rabbit"])
    name = rng.choice(facts.NAMES + stories.STORY_NAMES)
    place, shade = rng.choice(places.COUNTRIES)[1], rng.choice(facts.COLOURS)
    age, number = rng.randint(5, 90), rng.randint(0, 999)
    said, asked, answer = rng.choice([
        (f"I live in {place}.", "Where do I live?", sentence(f"You live in {place}")),
        (f"I am {age} years old.", "How old am I?", f"You are {age} years old."),
        (f"My {animal} is called {name}.", f"What is my {animal} called?", f"Your {animal} is called {name}."),
        (f"I have a {animal} named {name}.", f"What is the name of my {animal}?",
         f"Your {animal} is called {name}."),
        (f"My favourite colour is {shade}.", "What is my favourite colour?", f"Your favourite colour is {shade}."),
        (f"My favorite color is {shade}.", "What is my favorite color?", f"Your favourite colour is {shade}."),
        (f"My number is {number}.", "What is my number?", f"Your number is {number}."),
        (f"Remember the number {number}.", "What was the number?", f"The number is {number}."),
        (f"Remember the word {word}.", "What was the word?", f"The word is {word}."),
        (f"The secret word is {word}.", "What is the secret word?", f"The secret word is {word}."),
    ])
    turns.insert(0, (said, rng.choice(["Good, I will remember that.", "That is good to know."]), ()))
    turns.append((asked, answer, ()))


AGAIN = ["Say that again.", "Can you repeat that?", "Repeat that, please.", "Once more, please.",
         "What did you say?", "Pardon?", "Again?"]
SURE = ["Are you sure?", "Really?", "Is that true?", "Is that right?"]
ANOTHER_COUNTRY = ["And of {c}?", "And {c}?", "And what about {c}?", "What about {c}?",
                   "And the one of {c}?", "and {c}", "{c}?", "How about {c}?", "And for {c}?"]
ITS_CONTINENT = ["On which continent is it?", "Which continent is that on?", "Where is that country?"]
ITS_CAPITAL = ["And what is its capital?", "What is its capital?",
               "What is the capital of that country?", "And the capital?", "What's the capital there?"]
TIMES = ["And times {k}?", "Multiply that by {k}.", "times {k}", "Now times {k}."]
PLUS = ["And plus {k}?", "Add {k}.", "Now add {k}.", "plus {k}", "And {k} more?", "Plus {k}?",
        "and plus {k}"]
MINUS = ["And minus {k}?", "Subtract {k}.", "Now take away {k}.", "minus {k}"]


def country_called(name):
    return next((row for row in places.COUNTRIES if name == row[0] or name in row[3]), None)


def follow_up(rng, topic, last):
    """A turn that means something only after the one before it, or None."""
    if rng.random() < 0.12:
        return rng.choice(AGAIN), last, topic
    if rng.random() < 0.08 and topic:
        return rng.choice(SURE), "Yes, I think so. " + last, topic
    subject = topic[0] if topic else None
    if subject == "capital":
        return follow_capital(rng, topic)
    if subject == "country":
        row = country_called(topic[1])
        if row:
            return (rng.choice(ITS_CAPITAL), skills.capital_answer(topic[1], row[1]),
                    ("capital", topic[1]))
    if subject == "number":
        return follow_number(rng, topic[1])
    return None


def follow_capital(rng, topic):
    row, asked = skills.country(rng)
    question = rng.choice(ANOTHER_COUNTRY).format(c=asked)
    if rng.random() < 0.25:
        row = country_called(topic[1])
        return rng.choice(ITS_CONTINENT), skills.continent_answer(topic[1], row[2]), topic
    return question, skills.capital_answer(asked, row[1]), ("capital", asked)


def follow_number(rng, n):
    k = rng.randint(1, 20)
    if rng.random() < 0.15 and n <= 20 and k <= 12:
        return rng.choice(TIMES).format(k=k), f"{n} times {k} is {n * k}.", ("number", n * k)
    if rng.random() < 0.5 or n < k:
        if skills.held_out_sum(n, k) or n > 200:
            return None
        return rng.choice(PLUS).format(k=k), f"{n} plus {k} is {n + k}.", ("number", n + k)
    if skills.held_out_sum(n, k):
        return None
    return rng.choice(MINUS).format(k=k), f"{n} minus {k} is {n - k}.", ("number", n - k)


def chat(rng, turn_count):
    """A chat of about `turn_count` turns as messages."""
    setting = Setting(rng)
    turns = []
    topic, last = (), None
    while len(turns) < turn_count:
        turn = None
        if last is not None and rng.random() < 0.45:
            turn = follow_up(rng, topic, last)
            if turn:
                turn = (vary(rng, turn[0]),) + turn[1:]
        if turn is None and not setting.short:
            if setting.role and rng.random() < 0.45:
                turn = identity_turn(rng, setting)
            elif turn_count > 1 and rng.random() < 0.06:
                turn = stories.request_and_story(rng) + ((),)
        if turn is None:
            turn = plain_turn(rng, setting)
        turns.append(turn)
        topic, last = turn[2], turn[1]
    if not setting.short:
        if setting.user or (turn_count > 1 and rng.random() < 0.12):
            name_turns(rng, setting, turns)
        elif turn_count > 1 and rng.random() < 0.10:
            memory_turns(rng, turns)
        elif turn_count == 1 and rng.random() < 0.01:
            turns = [("What is my name?", "I do not know your name, because you have not told me.", ())]
        elif turn_count == 1 and rng.random() < 0.01:
            turns = []
            name_turns(rng, setting, turns)
            turns.pop()
    messages = [{"role": "system", "content": setting.system}] if setting.system else []
    for question, answer, _ in turns:
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": answer})
    return messages


# --- plain text -------------------------------------------------------------------------------

def raw_text(rng):
    """Text without roles, for completion: a story, facts in a row, or questions and answers."""
    kind = rng.random()
    if kind < 0.5:
        return stories.raw_story(rng)
    items = []
    while len(items) < rng.randint(1, 6):
        item = skills.draw(rng)
        if not item.exact and item.short:
            items.append(item)
    if kind < 0.8:
        return " ".join(i.answer for i in items)
    q, a = rng.choice([("Question: ", "Answer: "), ("Q: ", "A: ")])
    return "\n".join(f"{q}{i.question}\n{a}{i.answer}" for i in items)


def document(rng):
    kind = rng.random()
    if kind < 0.60:
        return chat(rng, 1)
    if kind < 0.80:
        return chat(rng, rng.choice([2, 2, 3, 3, 4, 5, 6]))
    if kind < 0.81:
        return chat(rng, rng.randint(8, 24))
    if kind < 0.93:
        setting = Setting(rng)
        messages = ([{"role": "system", "content": setting.system}]
                    if setting.system and not setting.short else [])
        request, story = stories.request_and_story(rng)
        return messages + [{"role": "user", "content": request}, {"role": "assistant", "content": story}]
    return raw_text(rng)


def documents(seed, count):
    """`count` documents of one seed."""
    rng = random.Random(seed)
    for _ in range(count):
        yield document(rng)


def main():
    parser = argparse.ArgumentParser(description="print samples of the training text")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20)
    args = parser.parse_args()
    for d in documents(args.seed, args.count):
        print(render(d))
        print()


if __name__ == "__main__":
    main()
