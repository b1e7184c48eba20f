"""How people type: one clean question becomes one of many spellings of it."""

OPENERS = ["Hi, ", "Hello, ", "Hey, ", "Please tell me: ", "Tell me: ", "Question: ", "So, ", "OK, ",
           "Can you tell me: ", "I wonder: ", "Quick question: ", "Now, ", "Hey Gosling, ",
           "Gosling, "]
CLOSERS = [" please", ", please", " Please.", " Thanks", " Thank you.", " thanks!"]

CONTRACTIONS = [("What is", "What's"), ("what is", "what's"), ("Who is", "Who's"),
                ("Where is", "Where's"), ("I am", "I'm"), ("do not", "don't"), ("When is", "When's"),
                ("is not", "isn't"), ("can not", "can't")]


def lower_first(text):
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] in " '" else text


def typo(rng, text):
    """Swap, drop or double one letter inside one of the longer words."""
    words = text.split(" ")
    long_words = [i for i, w in enumerate(words) if len(w) >= 5 and w.isalpha()]
    if not long_words:
        return text
    at = rng.choice(long_words)
    w = words[at]
    i = rng.randrange(1, len(w) - 2)
    kind = rng.randrange(3)
    if kind == 0:
        w = w[:i] + w[i + 1] + w[i] + w[i + 2:]
    elif kind == 1:
        w = w[:i] + w[i + 1:]
    else:
        w = w[:i] + w[i] + w[i:]
    words[at] = w
    return " ".join(words)


def vary(rng, text, exact=False):
    """One way of typing `text`.

    exact    the answer depends on how the words are spelled (repeat, spell, a name), so only what
             stands around them may change
    """
    if rng.random() < 0.30:
        return text
    if rng.random() < 0.35:
        for full, short in CONTRACTIONS:
            if full in text:
                text = text.replace(full, short, 1)
                break
    if rng.random() < 0.10:
        text = rng.choice(OPENERS) + lower_first(text)
    if exact:
        if rng.random() < 0.3:
            text = lower_first(text)
    else:
        if rng.random() < 0.35:
            text = text.rstrip("?.!")
        elif rng.random() < 0.05:
            text = text.rstrip("?.!") + rng.choice([" ?", "??", "?!", "!", "...", " ."])
        if rng.random() < 0.08:
            text = text + rng.choice(CLOSERS) if text[-1:] in "?.!" else (
                text + rng.choice([" please", ", please", " thanks", " pls"]))
        if rng.random() < 0.05:
            text = typo(rng, text)
        kind = rng.random()
        if kind < 0.35:
            text = text.lower()
        elif kind < 0.37:
            text = text.upper()
        elif kind < 0.45:
            text = lower_first(text)
        if rng.random() < 0.10:
            text = text.replace("'", "")
        if rng.random() < 0.02:
            text = text.replace(" ", "  ", 1)
    return text


def a_or_an(noun):
    """`noun` with its indefinite article."""
    return ("an " if noun[0].lower() in "aeio" or noun.startswith(("umb", "ugl")) else "a ") + noun


def sentence(text):
    """`text` with a capital at its start and one full stop at its end."""
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" or text[-2:] in ('."', '!"', '?"') else text + "."


def made_up_word(rng):
    """A word nobody knows, of one to three syllables."""
    syllables = rng.choice([1, 2, 2, 2, 3])
    word = ""
    for _ in range(syllables):
        word += rng.choice(["b", "bl", "br", "d", "dr", "f", "fl", "g", "gl", "gr", "h", "j", "k",
                            "kr", "l", "m", "n", "p", "pl", "qu", "r", "s", "sh", "sn", "t", "tr",
                            "v", "w", "z", "th"])
        word += rng.choice(["a", "e", "i", "o", "u", "a", "o", "oo", "ee"])
        if rng.random() < 0.4:
            word += rng.choice(["b", "d", "g", "k", "l", "m", "n", "p", "r", "rt", "st", "x", "zz"])
    return word
