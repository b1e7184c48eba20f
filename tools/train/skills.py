"""Single questions with their answers: each skill draws one Item.

Answers are nearly fixed for a question, so that greedy decoding is sharp: variety belongs to the
question. Whole sentences everywhere; `short` is the answer to "in one word".
"""

from dataclasses import dataclass, field

import facts
import places
import talk
from phrasing import a_or_an, made_up_word, sentence


@dataclass
class Item:
    question: str
    answer: str
    short: str = ""      # where the answer has a core of a word or two
    exact: bool = False  # the question's spelling matters
    topic: tuple = field(default=())  # what a follow-up can refer to


def held_out_sum(a, b):
    """Pairs that training never shows, so that check.py can measure what was learned rather than
    memorised; one in sixteen."""
    return (a * 131 + b * 17 + 7) % 16 == 0


# --- places -----------------------------------------------------------------------------------

CAPITAL_QUESTIONS = [
    "What is the capital of {c}?", "What is the capital of {c}?", "What is the capital of {c}?",
    "What is the capital city of {c}?", "Capital of {c}?", "Capital of {c}?", "{c} capital?",
    "Which city is the capital of {c}?", "Tell me the capital of {c}.", "Name the capital of {c}.",
    "What city is the capital of {c}?", "Do you know the capital of {c}?",
    "Can you tell me the capital of {c}?", "What is the name of the capital of {c}?",
    "The capital of {c} is", "The capital of {c} is what?", "What is {p} capital?",
    "I want to know the capital of {c}.", "capital {c}", "What do they call the capital of {c}?",
    "Give me the capital of {c}.", "{c}: what is its capital?", "What's the capital of {c}?",
    "Which city is the capital city of {c}?", "I forgot the capital of {c}. What is it?",
    "Say what the capital of {c} is.", "Please name the capital city of {c}.",
]


def country(rng):
    """A row of the table and the name it is asked by."""
    if rng.random() < 0.3:
        wanted = rng.choice(places.WELL_KNOWN)
        row = next(r for r in places.COUNTRIES if r[0] == wanted)
    else:
        row = rng.choice(places.COUNTRIES)
    asked = rng.choice(row[3]) if row[3] and rng.random() < 0.5 else row[0]
    return row, asked


def possessive(name):
    return name + ("'" if name.endswith("s") else "'s")


def capital_answer(asked, capital):
    return sentence(f"The capital of {asked} is {capital}")


def capital(rng):
    row, asked = country(rng)
    typed = asked
    if typed.startswith("the ") and rng.random() < 0.3:
        typed = typed[4:]
    question = rng.choice(CAPITAL_QUESTIONS).format(c=typed, p=possessive(typed))
    return Item(sentence_start(question), capital_answer(asked, row[1]), row[1],
                topic=("capital", asked))


def sentence_start(text):
    return text[0].upper() + text[1:]


def capital_reverse(rng):
    row, _ = country(rng)
    name, city = row[0], row[1]
    if city in ("London", "Luxembourg", "Monaco", "San Marino", "Singapore", "Djibouti"):
        return capital(rng)
    question = rng.choice(["{k} is the capital of which country?", "Which country has the capital {k}?",
                           "Of which country is {k} the capital?", "In which country is {k}?",
                           "Where is {k}?", "What country is {k} in?",
                           "What country has {k} as its capital?"]).format(k=city)
    if question.startswith(("In which", "Where", "What country is")):
        return Item(question, sentence(f"{city} is in {name}"), name, topic=("country", name))
    return Item(question, sentence(f"{city} is the capital of {name}"), name, topic=("country", name))


def capital_yes_no(rng):
    row, asked = country(rng)
    if rng.random() < 0.5:
        return Item(f"Is {row[1]} the capital of {asked}?",
                    sentence(f"Yes, {row[1]} is the capital of {asked}"), "Yes")
    other = rng.choice(places.COUNTRIES)[1]
    if other == row[1]:
        return capital(rng)
    return Item(f"Is {other} the capital of {asked}?",
                sentence(f"No, the capital of {asked} is {row[1]}"), "No", topic=("capital", asked))


def capital_unknown(rng):
    kind = rng.random()
    if kind < 0.05:
        name = rng.choice(["Europe", "Asia", "Africa"])
    elif kind < 0.7:
        name = rng.choice(places.OTHER_PLACES)
    else:
        name = sentence_start(made_up_word(rng)) + rng.choice(["", "", "ia", "land", "stan"])
    if name in ("Europe", "Asia", "Africa"):
        return Item(f"What is the capital of {name}?",
                    f"{name} is a continent, so it has no capital.")
    question = rng.choice(CAPITAL_QUESTIONS[:10]).format(c=name, p=possessive(name))
    return Item(sentence_start(question), sentence(f"I do not know the capital of {name}"),
                exact=name not in places.OTHER_PLACES)


def capital_two(rng):
    (one, asked_one), (two, asked_two) = country(rng), country(rng)
    question = rng.choice(["What are the capitals of {a} and {b}?", "What is the capital of {a} and {b}?",
                           "Name the capitals of {a} and {b}.", "Capitals of {a} and {b}?",
                           "Tell me the capitals of {a} and {b}."]).format(a=asked_one, b=asked_two)
    return Item(question, sentence(f"The capital of {asked_one} is {one[1]}, and the capital of "
                                   f"{asked_two} is {two[1]}"), topic=("capital", asked_two))


def continent_answer(asked, where):
    verb = "are" if asked in ("the Bahamas", "the Maldives", "the Philippines", "the Seychelles",
                              "the Comoros", "the Solomon Islands") else "is"
    return sentence(f"{asked} {verb} in {where}")


def continent(rng):
    row, asked = country(rng)
    question = rng.choice(["On which continent is {c}?", "Which continent is {c} on?",
                           "What continent is {c} in?", "In which continent is {c}?",
                           "In what part of the world is {c}?", "Where is {c}?",
                           "Where in the world is {c}?"]).format(c=asked)
    return Item(question, continent_answer(asked, row[2]), row[2], topic=("country", asked))


def spoken(rng):
    place, language = rng.choice(places.SPOKEN)
    question = rng.choice(["What language do people speak in {c}?", "Which language is spoken in {c}?",
                           "What language is spoken in {c}?", "What is the language of {c}?",
                           "What do they speak in {c}?"]).format(c=place)
    return Item(question, f"People in {place} speak {language}.", language, topic=("country", place))


def translate(rng):
    if rng.random() < 0.15:
        english = rng.choice(facts.WORDS)
        language = rng.choice(["Chinese", "Japanese", "Russian", "Latin", "Greek", "Finnish"] +
                              list(places.LANGUAGES))
        question = rng.choice(["How do you say {e} in {l}?", "What is {e} in {l}?",
                               "Translate {e} into {l}."]).format(e=english, l=language)
        return Item(question, f"I do not know the {language} word for {english}.")
    language, words = rng.choice(list(places.LANGUAGES.items()))
    english, foreign = rng.choice(list(words.items()))
    question = rng.choice(["How do you say {e} in {l}?", "How do I say {e} in {l}?",
                           "What is {e} in {l}?", "Say {e} in {l}.", "Translate {e} into {l}.", "Translate {e} to {l}.",
                           'Translate "{e}" to {l}.',
                           'What is the {l} word for "{e}"?', 'How do you say "{e}" in {l}?',
                           "{e} in {l}?"]).format(e=english, l=language)
    word = sentence_start(english)
    return Item(sentence_start(question), f'{word} is "{foreign}" in {language}.', foreign)


# --- numbers ----------------------------------------------------------------------------------

def operands(rng, a_max, b_max):
    while True:
        small = rng.random() < 0.3
        a = rng.randint(0, 10 if small else a_max)
        b = rng.randint(0, 10 if small else b_max)
        if not held_out_sum(a, b):
            return a, b


def number(rng, n):
    """`n` in digits, sometimes in words where it is small."""
    return facts.NUMBER_WORDS[n] if n <= 20 and rng.random() < 0.15 else str(n)


SUM_QUESTIONS = ["What is {a} {o} {b}?", "What is {a} {o} {b}?", "{a} {o} {b}", "{a} {o} {b} = ?",
                 "{a} {o} {b} =", "{a} {o} {b}?", "How much is {a} {o} {b}?", "Calculate {a} {o} {b}.",
                 "Compute {a} {o} {b}.", "Work out {a} {o} {b}.", "What does {a} {o} {b} make?",
                 "Tell me {a} {o} {b}.", "Can you tell me what {a} {o} {b} is?", "Solve {a} {o} {b}."]


def arithmetic(rng):
    kind = rng.random()
    if kind < 0.45:
        a, b = operands(rng, 100, 100)
        if rng.random() < 0.2:
            a, b = operands(rng, 999, 999)
        result, word, signs, tight = a + b, "plus", ["plus", "+", "+"], "+"
        extra = ["Add {a} and {b}.", "What is the sum of {a} and {b}?"]
    elif kind < 0.75:
        a, b = operands(rng, 999, 999) if rng.random() < 0.1 else operands(rng, 100, 100)
        if a < b:
            a, b = b, a
        if held_out_sum(a, b):
            return arithmetic(rng)
        result, word, signs, tight = a - b, "minus", ["minus", "-", "-"], "-"
        extra = ["Subtract {b} from {a}.", "What is {a} take away {b}?"]
    elif kind < 0.93:
        size = rng.choice([10, 12, 12, 20])
        a, b = rng.randint(0, size), rng.randint(0, size)
        if rng.random() < 0.1:
            a, b = rng.choice([(a, 10), (a, 100), (10, b), (100, b)])
        result, word, signs, tight = a * b, "times", ["times", "*", "x", "multiplied by"], "*"
        extra = ["Multiply {a} by {b}.", "What is the product of {a} and {b}?"]
    else:
        b, result = rng.randint(1, 12), rng.randint(0, 12)
        rest = rng.randrange(b) if rng.random() < 0.3 else 0
        a = b * result + rest
        word, signs, tight = "divided by", ["divided by", "/"], "/"
        extra = ["Divide {a} by {b}."]
    sign = rng.choice(signs)
    question = rng.choice(SUM_QUESTIONS + extra).format(a=number(rng, a), b=number(rng, b), o=sign)
    if sign == tight and rng.random() < 0.35:
        question = question.replace(f" {sign} ", sign)
    answer = f"{a} {word} {b} is {result}."
    if word == "divided by" and rest:
        return Item(sentence_start(question), f"{a} divided by {b} is {result}, and {rest} is left over.")
    return Item(sentence_start(question), answer, str(result),
                topic=("number", result))


def large_arithmetic(rng):
    a = rng.randint(1000, 10 ** rng.randint(4, 12))
    b = rng.randint(13, 10 ** rng.randint(2, 12))
    sign = rng.choice(["+", "-", "*", "/", "plus", "minus", "times", "divided by"])
    question = rng.choice(SUM_QUESTIONS).format(a=a, b=b, o=sign)
    return Item(question, "Those numbers are too large for me. I only know sums with small numbers.")


def word_problem(rng):
    name = rng.choice(facts.NAMES)
    thing = rng.choice(["apple", "pear", "book", "coin", "marble", "ball", "egg", "flower", "pencil",
                        "cookie", "stone", "button", "ticket", "orange"])
    who, has, had = rng.choice([("I", "have", "do I"), (name, "has", f"does {name}")])
    subject = "You have" if who == "I" else f"{name} has"
    a, b = operands(rng, 20, 20)
    count = lambda n: f"{n} {thing}" + ("" if n == 1 else "s")
    if rng.random() < 0.5:
        event = rng.choice([f"gets {b} more", f"finds {b} more", f"buys {b} more"])
        result = a + b
    else:
        a, b = max(a, b), min(a, b)
        event = rng.choice([f"gives away {b}", f"loses {b}", f"sells {b}"])
        result = a - b
    if who == "I":
        verb, rest = event.split(" ", 1)
        event = verb.removesuffix("s") + " " + rest
        if verb == "loses":
            event = "lose " + rest
    question = rng.choice([f"{who} {has} {count(a)} and {who} {event}. How many {thing}s {had} have?",
                           f"If {who} {has} {count(a)} and {event}, how many {thing}s {had} have?",
                           f"{who} {has} {count(a)} and {event}. How many are left?"
                           if result < a else
                           f"{who} {has} {count(a)} and {event}. How many is that?"])
    return Item(question, f"{subject} {count(result)}.", str(result))


def number_facts(rng):
    n = rng.randint(0, 100)
    kind = rng.randrange(7)
    if kind == 0:
        return Item(rng.choice([f"What number comes after {n}?", f"Which number comes after {n}?",
                                f"What comes after {n}?"]), f"The number after {n} is {n + 1}.",
                    str(n + 1))
    if kind == 1:
        n += 1
        return Item(rng.choice([f"What number comes before {n}?", f"What comes before {n}?"]),
                    f"The number before {n} is {n - 1}.", str(n - 1))
    if kind == 2:
        word = "even" if n % 2 == 0 else "odd"
        return Item(rng.choice([f"Is {n} even or odd?", f"Is {n} odd or even?",
                                f"Is {n} an even number or an odd number?"]), f"{n} is {word}.", word)
    if kind == 3:
        m = rng.randint(0, 100)
        if m == n:
            m += 1
        bigger = rng.random() < 0.5
        word = rng.choice(["bigger", "larger", "greater", "more"]) if bigger else rng.choice(
            ["smaller", "less"])
        question = rng.choice([f"Which is {word}, {n} or {m}?", f"What is {word}: {n} or {m}?",
                               f"Which number is {word}, {n} or {m}?"])
        a, b = (max(n, m), min(n, m)) if bigger else (min(n, m), max(n, m))
        return Item(question, f"{a} is {'larger' if bigger else 'smaller'} than {b}.", str(a))
    if kind == 4:
        n %= 51
        return Item(rng.choice([f"What is double {n}?", f"What is twice {n}?", f"Double {n}."]),
                    f"Twice {n} is {2 * n}.", str(2 * n))
    if kind == 5:
        n %= 51
        return Item(rng.choice([f"What is half of {2 * n}?", f"What is one half of {2 * n}?"]),
                    f"Half of {2 * n} is {n}.", str(n))
    n %= 21
    word = facts.NUMBER_WORDS[n]
    if rng.random() < 0.5:
        return Item(rng.choice([f"How do you write {n} in words?", f"Write {n} as a word."]),
                    f'The number {n} is written "{word}".', word)
    return Item(rng.choice([f"How do you write {word} in digits?", f"Write {word} as a number."]),
                f'"{sentence_start(word)}" is written {n}.', str(n))


# --- the world --------------------------------------------------------------------------------

def animal(rng):
    name, plural, sound, young, legs, home, kind = rng.choice(facts.ANIMALS)
    one = a_or_an(name)
    choices = [
        Item(rng.choice([f"What do you call a baby {name}?", f"What is a young {name} called?",
                         f"What is a baby {name} called?"]),
             f"A young {name} is called {a_or_an(young)}.", young),
        Item(rng.choice([f"Where does {one} live?", f"Where do {plural} live?"]),
             sentence(f"{one} lives {home}"), home),
        Item(rng.choice([f"What kind of animal is {one}?", f"What sort of animal is {one}?",
                         f"What is {one}?"]), sentence(f"{one} is {a_or_an(kind)}"), kind),
    ]
    if sound:
        choices += [Item(q, sentence(f'{one} says "{sound}"'), sound)
                    for q in (f"What sound does {one} make?", f"What does {one} say?",
                              f"What noise does {one} make?")]
    if legs is not None:
        choices += [Item(q, sentence(f"{one} has {legs if legs else 'no'} legs"), str(legs))
                    for q in (f"How many legs does {one} have?", f"How many legs do {plural} have?")]
    if rng.random() < 0.15:
        other = rng.choice(["mammal", "bird", "fish", "insect", "reptile"])
        yes = f"Yes, {one} is {a_or_an(kind)}."
        return Item(f"Is {one} {a_or_an(other)}?",
                    yes if other == kind else f"No, {one} is {a_or_an(kind)}.",
                    "Yes" if other == kind else "No")
    return rng.choice(choices)


def flying(rng):
    can = rng.random() < 0.5
    name = rng.choice(facts.ANIMALS_THAT_FLY if can else facts.ANIMALS_THAT_DO_NOT_FLY)
    one = a_or_an(name)
    many = next(row[1] for row in facts.ANIMALS if row[0] == name)
    return Item(rng.choice([f"Can {one} fly?", f"Is {one} able to fly?", f"Can {many} fly?",
                            f"Do {many} fly?", f"Does {one} fly?"]),
                f"Yes, {one} can fly." if can else f"No, {one} cannot fly.", "Yes" if can else "No")


def colour(rng):
    spelling = rng.choice(["colour", "color"])
    if rng.random() < 0.25:
        a, b, mix = rng.choice(facts.COLOUR_MIXES)
        if rng.random() < 0.5:
            a, b = b, a
        question = rng.choice([f"What {spelling} do you get when you mix {a} and {b}?",
                               f"What do {a} and {b} make?", f"Mix {a} and {b}: what do you get?",
                               f"What {spelling} do {a} and {b} make?", f"{a} and {b} makes which {spelling}?"])
        return Item(sentence_start(question), sentence(f"{a} and {b} make {mix}"), mix)
    thing, plural, shade = rng.choice(facts.COLOURED)
    verb = "are" if plural else "is"
    question = rng.choice([f"What {spelling} {verb} {thing}?", f"What {spelling} {verb} {thing}?",
                           f"Which {spelling} {'do' if plural else 'does'} {thing} have?",
                           f"What is the {spelling} of {thing}?", f"Tell me the {spelling} of {thing}."])
    return Item(question, sentence(f"{thing} {verb} {shade}"), shade)


def opposite(rng):
    a, b = rng.choice(facts.OPPOSITES)
    if (a, b) not in facts.OPPOSITES_ONE_WAY and rng.random() < 0.5:
        a, b = b, a
        a, b = next(((x, y) for x, y in facts.OPPOSITES if x == a), (a, b))
    question = rng.choice(["What is the opposite of {a}?", "What is the opposite of {a}?",
                           "Opposite of {a}?", 'What is the opposite of "{a}"?',
                           "Tell me the opposite of {a}.", "Give me the opposite of {a}.",
                           "Which word is the opposite of {a}?", "What word means the opposite of {a}?",
                           "{a} is the opposite of what?"]).format(a=a)
    return Item(sentence_start(question), f"The opposite of {a} is {b}.", b)


def calendar(rng):
    kind = rng.randrange(8)
    if kind < 2:
        i = rng.randrange(7)
        after = rng.random() < 0.5
        answer = facts.DAYS[(i + (1 if after else -1)) % 7]
        word = "after" if after else "before"
        day = facts.DAYS[i]
        question = rng.choice([f"What day comes {word} {day}?", f"Which day comes {word} {day}?",
                               f"Which day is {word} {day}?", f"What comes {word} {day}?",
                               f"Today is {day}. What day {'will it be tomorrow' if after else 'was it yesterday'}?"])
        if question.startswith("Today"):
            text = f"Tomorrow will be {answer}." if after else f"Yesterday was {answer}."
        else:
            text = f"The day {word} {day} is {answer}."
        return Item(question, text, answer)
    if kind < 4:
        i = rng.randrange(12)
        after = rng.random() < 0.5
        answer = facts.MONTHS[(i + (1 if after else -1)) % 12][0]
        word = "after" if after else "before"
        month = facts.MONTHS[i][0]
        question = rng.choice([f"What month comes {word} {month}?", f"Which month comes {word} {month}?",
                               f"Which month is {word} {month}?", f"What comes {word} {month}?"])
        return Item(question, f"The month {word} {month} is {answer}.", answer)
    if kind == 4:
        month, days = rng.choice(facts.MONTHS)
        question = rng.choice([f"How many days are in {month}?", f"How many days does {month} have?",
                               f"How long is {month}?"])
        if month == "February":
            return Item(question, "February has 28 days, and 29 in a leap year.", "28")
        return Item(question, f"{month} has {days} days.", str(days))
    if kind == 5:
        i = rng.randrange(12)
        month, nth = facts.MONTHS[i][0], facts.ORDINALS[i]
        return Item(rng.choice([f"Which month is the {nth} of the year?", f"What is the {nth} month of the year?",
                                f"What is the {nth} month?", f"Which is month number {i + 1}?"]),
                    f"The {nth} month of the year is {month}.", month)
    if kind == 6:
        i = rng.randrange(7)
        day, nth = facts.DAYS[i], facts.ORDINALS[i]
        return Item(rng.choice([f"What is the {nth} day of the week?", f"Which day is the {nth} of the week?"]),
                    f"The {nth} day of the week is {day}.", day)
    if rng.random() < 0.5:
        return Item(rng.choice(["List the days of the week.", "What are the days of the week?",
                                "Name all days of the week.", "Say the days of the week."]),
                    "The days of the week are " + listing(facts.DAYS) + ".")
    return Item(rng.choice(["List the months of the year.", "What are the months of the year?",
                            "Name all the months.", "Say the months of the year."]),
                "The months of the year are " + listing([m for m, _ in facts.MONTHS]) + ".")


def kind_of(rng):
    kind, words = rng.choice(list(facts.KINDS.items()))
    word = rng.choice(words)
    one = word if kind in facts.KINDS_WITHOUT_ARTICLE else a_or_an(word)
    if rng.random() < 0.4:
        other, others = rng.choice(list(facts.KINDS.items()))
        fits = word in others
        if other == "a plant" and kind == "a tree":
            fits = True
        question = f"Is {one} {other}?"
        return Item(question, f"Yes, {one} is {other}." if fits else f"No, {one} is {kind}.",
                    "Yes" if fits else "No")
    question = rng.choice([f"What is {one}?", f"What kind of thing is {one}?", f"What is {one}?"])
    return Item(question, sentence(f"{one} is {kind}"), kind)


def general(rng):
    questions, answer = rng.choice(facts.GENERAL)
    return Item(rng.choice(questions), answer)


# --- instructions -----------------------------------------------------------------------------

def listing(words):
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def counting(rng):
    kind = rng.random()
    if kind < 0.7:
        n = rng.randint(2, 30) if rng.random() < 0.9 else rng.randint(31, 60)
        question = rng.choice(["Count to {n}.", "Count to {n}.", "Count from 1 to {n}.",
                               "Can you count to {n}?", "Please count to {n}.", "Count up to {n}.",
                               "List the numbers from 1 to {n}."]).format(n=number(rng, n))
        return Item(question, ", ".join(str(i) for i in range(1, n + 1)) + ".")
    if kind < 0.85:
        a = rng.randint(0, 40)
        b = a + rng.randint(2, 15)
        return Item(rng.choice([f"Count from {a} to {b}.", f"List the numbers from {a} to {b}."]),
                    ", ".join(str(i) for i in range(a, b + 1)) + ".")
    n = rng.randint(3, 20)
    return Item(rng.choice([f"Count down from {n}.", f"Count backwards from {n}.", f"Count from {n} to 1.",
                            f"Count down from {n} to 1."]),
                ", ".join(str(i) for i in range(n, 0, -1)) + ".")


def category(rng):
    word, members = rng.choice(list(facts.CATEGORIES.items()))
    n = rng.randint(2, 6)
    chosen = members[:n]
    count = rng.choice([str(n), facts.NUMBER_WORDS[n]])
    question = rng.choice(["List {n} {w}.", "Name {n} {w}.", "Give me {n} {w}.", "Tell me {n} {w}.",
                           "Can you name {n} {w}?", "What are {n} {w}?", "Write down {n} {w}.",
                           "I need {n} {w}."]).format(n=count, w=word)
    return Item(question, f"Here are {facts.NUMBER_WORDS[n]} {word}: {listing(chosen)}.")


def repeat(rng):
    n = rng.choice([1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    strange = rng.choice([0.0, 0.1, 0.5])
    words = [made_up_word(rng) if rng.random() < strange else
             rng.choice(rng.choice([facts.WORDS, facts.NAMES, facts.COMMON_WORDS])) for _ in range(n)]
    text = " ".join(words)
    if rng.random() < 0.15:
        text = str(rng.randint(0, 10 ** rng.randint(1, 8)))
    kind = rng.randrange(4)
    if kind == 0:
        question = rng.choice(["Repeat after me: {t}", "Say: {t}", "Repeat this: {t}", "Write: {t}",
                               "Repeat: {t}", "Echo: {t}"]).format(t=text)
    elif kind == 1:
        question = rng.choice(['Repeat "{t}".', 'Say "{t}".', 'Write "{t}".', 'Say "{t}"', 'Repeat "{t}"',
                               'Please say "{t}".']).format(t=text)
    elif kind == 2 and len(text) < 12:
        times = rng.randint(2, 5)
        how = {2: "twice", 3: "three times", 4: "four times", 5: "five times"}[times]
        question = rng.choice([f'Say {text} {how}.', f'Repeat "{text}" {how}.', f'Write {text} {how}.'])
        return Item(question, sentence(" ".join([text] * times)), exact=True)
    else:
        question = rng.choice(["Say {t}.", "Repeat the words {t}.", "Say the words {t}.",
                               "Repeat after me: {t}."]).format(t=text)
    return Item(question, sentence(text), exact=True)


def spelling(rng):
    word = rng.choice(rng.choice([facts.WORDS, facts.NAMES, facts.COMMON_WORDS,
                                  [row[0] for row in facts.ANIMALS], [made_up_word(rng)]]))
    kind = rng.randrange(4)
    if kind < 2:
        question = rng.choice([f"Spell {word}.", f'Spell "{word}".', f"How do you spell {word}?",
                               f"Spell the word {word}.", f"Can you spell {word}?"])
        return Item(question, f"{sentence_start(word)} is spelled {'-'.join(word.upper())}.", exact=True)
    if kind == 2:
        return Item(rng.choice([f"What is the first letter of {word}?", f"Which letter does {word} start with?",
                                f"What letter does {word} begin with?"]),
                    f"The first letter of {word} is {word[0].upper()}.", word[0].upper(), exact=True)
    return Item(rng.choice([f"What is the last letter of {word}?", f"Which letter does {word} end with?"]),
                f"The last letter of {word} is {word[-1].upper()}.", word[-1].upper(), exact=True)


def plural(rng):
    one, many = rng.choice(facts.IRREGULAR_PLURALS)
    return Item(rng.choice([f"What is the plural of {one}?", f"Plural of {one}?", f'What is the plural of "{one}"?',
                            f"What do you call more than one {one}?", f"How do you say more than one {one}?"]),
                f"The plural of {one} is {many}.", many)


# --- Gosling itself and small talk ------------------------------------------------------------

def small_talk(rng):
    questions, answer = rng.choice(talk.SMALL_TALK[:12] if rng.random() < 0.4 else talk.SMALL_TALK)
    return Item(rng.choice(questions), answer)


# --- what it does not know --------------------------------------------------------------------

def out_of_reach(rng):
    topic = rng.choice(talk.FAR_TOPICS)
    if rng.random() < 0.15:
        topic = made_up_word(rng) + rng.choice(["", "", " " + rng.choice(facts.WORDS)])
    word = rng.choice(facts.WORDS)
    noun = rng.choice(talk.FAR_NOUNS)
    if rng.random() < 0.3:
        noun = a_or_an(made_up_word(rng))
    question = rng.choice(talk.FAR_QUESTIONS).format(
        t=topic, w=word, a=a_or_an(word), x=noun, n=rng.choice(facts.NAMES), y=rng.randint(1200, 2030),
        c=rng.choice(places.COUNTRIES)[0])
    return Item(question, rng.choice(talk.UNKNOWN))


def nonsense(rng):
    """Keys pressed at random, or a word alone."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    text = rng.choice([
        "".join(rng.choice(letters) for _ in range(rng.randint(1, 8))),
        " ".join(made_up_word(rng) for _ in range(rng.randint(1, 4))),
        "".join(rng.choice(".,;:!?-_#*+/()[]{}<>$%&") for _ in range(rng.randint(1, 4))),
        str(rng.randint(0, 100000)), "".join(rng.choice("asdfghjkl") for _ in range(rng.randint(3, 7))),
        rng.choice(["???", "...", "hm", "uh", "foo", "bar", "lol", "a", "x", "blah blah", "abc", "qwerty"])])
    return Item(text, talk.NOT_UNDERSTOOD, exact=True)


def two_at_once(rng):
    """Two questions in one message, answered one after the other."""
    first, second = small_talk(rng) if rng.random() < 0.5 else draw(rng), draw(rng)
    if rng.random() < 0.4:
        (ask_one, answer_one), (ask_two, answer_two) = rng.sample(talk.SMALL_TALK[:20], 2)
        first, second = Item(rng.choice(ask_one), answer_one), Item(rng.choice(ask_two), answer_two)
    first.answer = first.answer.removesuffix(" What can I do for you?")
    ask = first.question
    if ask[-1] not in ".!?":
        ask += "."
    if rng.random() < 0.5 and ask[-1] in "?":
        question = f"{ask[:-1]} and {second.question[0].lower()}{second.question[1:]}"
    else:
        question = f"{ask} {second.question}"
    return Item(question, f"{first.answer} {second.answer}", exact=first.exact or second.exact)


# (how often, skill)
SKILLS = [(30, capital), (6, capital_reverse), (4, capital_yes_no), (5, capital_unknown), (2, capital_two),
          (6, continent), (3, spoken), (3, translate), (26, arithmetic), (3, large_arithmetic),
          (5, word_problem), (6, number_facts), (9, animal), (2, flying), (6, colour), (6, opposite),
          (7, calendar), (9, general), (5, kind_of), (5, counting), (5, category), (13, repeat), (8, spelling),
          (2, plural), (18, small_talk), (20, out_of_reach),
          (3, nonsense), (4, two_at_once)]
_WEIGHTS = [w for w, _ in SKILLS]
_FUNCTIONS = [f for _, f in SKILLS]


def draw(rng):
    return rng.choices(_FUNCTIONS, _WEIGHTS)[0](rng)
