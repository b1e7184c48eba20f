"""Short stories from a grammar: a hero, a want, trouble, help, an end.

A story is one of a few plots. A plot is a function that fills its beats from the cast, so that who
is lost in the second sentence is also found in the last. Nothing here is taken from a book.
"""

import random

import facts
from phrasing import a_or_an, made_up_word, sentence, vary

CREATURES = ["dragon", "fox", "bear", "rabbit", "mouse", "owl", "hedgehog", "wolf", "lion", "tiger",
             "elephant", "frog", "turtle", "duck", "goose", "gosling", "cat", "kitten", "dog",
             "puppy", "horse", "pony", "cow", "pig", "sheep", "goat", "donkey", "squirrel",
             "badger", "mole", "deer", "penguin", "whale", "dolphin", "seal", "crab", "octopus",
             "snail", "bee", "butterfly", "ant", "ladybird", "spider", "parrot", "crow", "swan",
             "robin", "bat", "monkey", "giraffe", "zebra", "camel", "kangaroo", "koala", "panda",
             "unicorn", "giant", "troll", "ghost", "monster", "robot", "snowman", "dinosaur",
             "crocodile", "snake", "fish", "shark", "hamster", "chicken", "rooster", "otter",
             "beaver", "moose", "lizard", "worm", "caterpillar", "elf", "gnome"]
PEOPLE = [("girl", "she"), ("boy", "he"), ("king", "he"), ("queen", "she"), ("princess", "she"),
          ("prince", "he"), ("wizard", "he"), ("witch", "she"), ("knight", "he"), ("pirate", "he"),
          ("baker", "she"), ("farmer", "he"), ("sailor", "she"), ("teacher", "she"),
          ("painter", "he"), ("gardener", "she"), ("astronaut", "she"), ("doctor", "she"),
          ("fairy", "she"), ("mermaid", "she"), ("grandmother", "she"), ("shepherd", "he"),
          ("cook", "he"), ("postman", "he"), ("musician", "she"), ("child", "she")]
THINGS = ["train", "boat", "car", "tractor", "cloud", "star", "tree", "lamp", "kettle", "teapot",
          "clock", "kite", "shoe", "umbrella", "bus", "ship", "balloon", "toy", "computer", "moon",
          "pumpkin", "potato", "flower", "leaf", "lighthouse", "snowflake", "raindrop", "spoon"]

ADJECTIVES = ["little", "small", "young", "old", "brave", "shy", "curious", "clever", "kind", "sleepy",
              "cheerful", "hungry", "lonely", "proud", "quiet", "tiny", "gentle", "friendly",
              "grumpy", "lazy", "happy", "sad", "red", "blue", "green", "golden", "big"]
STORY_NAMES = ["Pip", "Bo", "Tilly", "Rusty", "Poppy", "Finn", "Lulu", "Otto", "Daisy", "Milo",
               "Ruby", "Toby", "Bramble", "Hazel", "Nutmeg", "Pebble", "Biscuit", "Willow", "Sunny",
               "Dot", "Ziggy", "Coco", "Juno", "Basil", "Clover", "Fern", "Maple", "Rolo", "Skip",
               "Tuck"]
GIRL_NAMES = set(facts.GIRL_NAMES) | {"Tilly", "Poppy", "Lulu", "Daisy", "Ruby", "Hazel", "Willow",
                                      "Dot", "Coco", "Juno", "Clover", "Fern", "Maple"}
BOY_NAMES = set(facts.BOY_NAMES) | {"Bo", "Rusty", "Finn", "Otto", "Milo", "Toby", "Basil", "Rolo"}

HOMES = ["in a small house at the edge of a forest", "on a hill above a quiet village",
         "near a wide river", "in a village by the sea", "in a green valley between two mountains",
         "under the roots of an old oak", "beside a lake as clear as glass",
         "at the end of a long road", "in a garden full of roses", "in a tower of grey stone",
         "on an island in a warm sea", "behind the old mill", "in a meadow full of flowers"]
PLACES = ["under the bridge", "behind the mill", "in the tall grass", "beside the pond",
          "in the barn", "at the market", "under the old oak", "on the beach", "in the cave",
          "at the top of the hill", "in the empty nest", "near the well"]
TREASURES = ["red scarf", "silver bell", "blue hat", "wooden flute", "golden key", "little drum",
             "lucky stone", "yellow kite", "glass marble", "warm blanket", "shiny button",
             "paper boat", "green lantern", "soft pillow", "music box"]
FOODS = ["a basket of berries", "a warm loaf of bread", "a bag of nuts", "a large apple pie",
         "a pot of honey", "a ripe melon", "a plate of pancakes", "a bowl of cherries",
         "a round cheese", "a jar of plum jam"]
FEARS = [("the dark", "one night the lamp went out"),
         ("thunder", "one evening a storm came over the hills"),
         ("deep water", "one morning the river rose over its banks"),
         ("high places", "one day a cry came from the top of a tall tree"),
         ("the forest", "one afternoon somebody called for help among the trees")]
SKILLS = [("swim", "the pond", "swam from one side to the other"),
          ("sing", "the old oak", "sang a song from its first note to its last"),
          ("dance", "the meadow", "danced without one wrong step"),
          ("paint", "the garden wall", "painted a picture of the whole village"),
          ("bake", "the kitchen", "baked a cake that was light and sweet"),
          ("read", "the library", "read a whole page aloud"),
          ("whistle", "the gate", "whistled a tune that everybody knew"),
          ("juggle", "the market square", "kept three apples in the air"),
          ("skate", "the frozen lake", "skated in a wide circle"),
          ("fly a kite", "the hill", "flew a kite higher than the church tower")]
GOALS = [("the sea", "The water went on and on, and it shone like silver"),
         ("the highest mountain", "From the top the whole world looked small and still"),
         ("the end of the rainbow", "There was no gold, but a meadow with flowers of every colour"),
         ("the city", "There were more lights than stars, and music in every street"),
         ("the great waterfall", "It roared like a lion and filled the air with tiny drops"),
         ("the old castle", "Its towers were covered with ivy, and a hundred birds lived there"),
         ("the moon on the lake", "It lay on the water like a round white plate"),
         ("the big forest", "The trees were so tall that their tops were lost in the mist")]
BREAKABLES = [("vase", "the window"), ("blue cup", "the shelf"), ("lantern", "the door"),
              ("clay pot", "the wall"), ("mirror", "the stairs"), ("flower pot", "the gate")]
BUILDS = [("a boat", "sailed it across the lake"), ("a house in a tree", "slept in it that night"),
          ("a kite", "flew it until the sun went down"), ("a bridge", "walked over it together"),
          ("a snow fort", "drank hot cocoa inside it"), ("a cart", "rode it down the hill")]
MORALS = {
    "lost": ["What is lost is often closer than we think.",
             "It is easier to search when a friend helps."],
    "fear": ["To be brave is to be afraid and to go on all the same.",
             "A fear grows small when somebody needs us."],
    "friend": ["A friend can be found where nobody looks.",
               "Two who are lonely need only one word to be friends."],
    "share": ["What is shared tastes better.", "A full heart is worth more than a full plate."],
    "journey": ["The longest way begins with one step.",
                "It is good to go far, and it is good to come home."],
    "rescue": ["Even the smallest can help when it matters.", "Help comes to those who have helped."],
    "learn": ["Nobody can do a thing the first time.", "Those who try again learn in the end."],
    "truth": ["The truth is hard to say, but it makes the heart light.",
              "It is better to tell the truth than to hide."],
    "build": ["Many hands find the better way.", "Together we can do what none can do alone."],
    "map": ["Some treasures cannot be put into a pocket.", "The best treasure is one for everybody."],
}


PLURALS = {row[0]: row[1] for row in facts.ANIMALS} | dict(facts.IRREGULAR_PLURALS)


def plural(noun):
    if noun in PLURALS:
        return PLURALS[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


class Cast:
    """Who a story is about: the hero, a friend, and the words that stand for them."""

    def __init__(self, rng, noun=None, adjective=None, name=None, friend=None, pronoun=None):
        if noun is None:
            kind = rng.random()
            if kind < 0.6:
                noun = rng.choice(CREATURES)
            elif kind < 0.85:
                noun, pronoun = rng.choice(PEOPLE)
            else:
                noun = rng.choice(THINGS)
        self.noun = noun
        self.adjective = adjective or rng.choice(ADJECTIVES)
        self.name = name or (rng.choice(STORY_NAMES) if rng.random() < 0.6 else None)
        self.she = pronoun or dict(PEOPLE).get(noun)
        if self.she is None:
            self.she = ("she" if self.name in GIRL_NAMES else
                        "he" if self.name in BOY_NAMES else rng.choice(["he", "she"]))
        self.her = "her" if self.she == "she" else "his"
        self.object = "her" if self.she == "she" else "him"
        if friend is None:
            friend = rng.choice([c for c in CREATURES if c != noun])
        self.friend = friend
        self.hero = self.name or "the " + noun
        self.home = rng.choice(HOMES)

    def opening(self, rng):
        hero = a_or_an(self.adjective + " " + self.noun)
        if self.name:
            return rng.choice([
                f"Once upon a time there was {hero} named {self.name}, who lived {self.home}.",
                f"There once was {hero} called {self.name}. {sentence(self.she)[:-1]} lived {self.home}.",
            ])
        return rng.choice([
            f"Once upon a time there was {hero} who lived {self.home}.",
            f"Long ago, {self.home}, there lived {hero}.",
        ])


def plot_lost(rng, c, thing=None):
    thing = thing or rng.choice(TREASURES)
    first, second, third = rng.sample(PLACES, 3)
    return [
        f"{c.hero} had a {thing} and loved it more than anything else.",
        rng.choice([f"One morning the {thing} was gone.", f"One day the {thing} could not be found."]),
        f"{c.hero} looked {first}, but it was not there.",
        f"{c.she} looked {second}, but it was not there either.",
        f"then {c.she} met {a_or_an(c.friend)} and told it everything.",
        rng.choice([f'"Let us look together," said the {c.friend}.',
                    f'"Do not be sad," said the {c.friend}. "I will help you."']),
        f"they searched until the evening, and {third} they saw something shine.",
        f"it was the {thing}!",
        f"{c.hero} thanked the {c.friend}, and the two walked home side by side.",
    ]


def plot_fear(rng, c, fear=None):
    fear, event = fear or rng.choice(FEARS)
    return [
        f"{c.hero} was afraid of {fear} and told nobody about it.",
        f"but {event}, and a small voice cried for help.",
        f"it was {a_or_an(c.friend)} who could not get home.",
        f"{c.hero} shook from head to toe.",
        rng.choice([f'"If I do not go, nobody will," {c.she} thought.',
                    f'"I am afraid, but I am coming," {c.she} called.']),
        f"step by step {c.she} went on, and {c.she} did not look back.",
        f"{c.she} found the {c.friend} and brought it home safely.",
        f"from that day on {c.hero} was no longer afraid of {fear}.",
    ]


def plot_friend(rng, c):
    busy = rng.choice([x for x in ["baker", "miller", "fisherman", "gardener"] if x != c.noun])
    game = rng.choice(["hide and seek", "ball", "a game with stones", "pirates", "a song with two voices"])
    place = rng.choice(PLACES)
    return [
        f"{c.hero} had a warm bed and enough to eat, but {c.she} had no friend.",
        f'"Will you play with me?" {c.she} asked the {busy}.',
        f'"I have no time today," said the {busy}.',
        f"so {c.hero} sat down {place} and sighed.",
        "somebody else sighed too.",
        f"it was {a_or_an(c.friend)}, all alone.",
        '"Will you play with me?" they both asked at once, and they had to laugh.',
        f"they played {game} until the stars came out.",
        "after that day neither of them was lonely again.",
    ]


def plot_share(rng, c):
    food = rng.choice(FOODS)
    short = food.split(" ", 1)[1]
    return [
        f"one day {c.hero} found {food} on the doorstep.",
        f'"This is all for me," {c.she} said, and {c.she} hid it at once.',
        "soon there was a knock at the door.",
        f"there stood {a_or_an(c.friend)}, cold and hungry.",
        f'"Do you have something to eat?" asked the {c.friend}.',
        f"{c.hero} looked at the floor and thought for a long time.",
        f"then {c.she} fetched the {short} and put it on the table.",
        "they ate together, and they talked and laughed until late.",
        f'"It never tasted so good," said {c.hero}.',
    ]


def plot_journey(rng, c, goal=None):
    goal, sight = goal or rng.choice(GOALS)
    trouble, answer = rng.choice([
        ("a river without a bridge", "carried {o} over it"),
        ("a wall that was far too high", "showed {o} a hidden gate"),
        ("a crossing with five roads", "knew which road was the right one"),
        ("a thick fog", "walked ahead with a lantern")])
    return [
        f"every night {c.hero} dreamed of {goal}.",
        rng.choice([f'"I want to see it with my own eyes," {c.she} said one morning.',
                    f'"Today I will go and see it," {c.she} said one day.']),
        f"{c.she} packed some bread and went on {c.her} way.",
        f"after three days {c.she} came to {trouble}.",
        f"there {c.she} met {a_or_an(c.friend)}, who {answer.format(o=c.object)}.",
        "together they went on, over hills and through fields, and at last they were there.",
        f"{sight}.",
        "they looked for a long time and did not say a word.",
        f"then {c.hero} went home and told everybody about it.",
    ]


def plot_rescue(rng, c):
    tool = rng.choice(["a rope", "a long branch", "a ladder", "a fishing net"])
    where = rng.choice(["in the river", "in a deep hole", "on a thin branch", "in the mud",
                        "on the roof of the barn"])
    return [
        f"the others often said that {c.hero} was not strong enough to be of use.",
        "one night a storm shook the whole land.",
        '"Help! Help!" somebody called.',
        f"it was {a_or_an(c.friend)}, stuck {where}.",
        "the others did not know what to do.",
        f"{c.hero} ran to get {tool} and held on with all {c.her} strength.",
        f'"Do not let go!" {c.she} shouted, and pulled and pulled.',
        f"at last the {c.friend} was safe.",
        f"nobody ever said again that {c.hero} was not strong enough.",
    ]


def plot_learn(rng, c, skill=None):
    skill, place, success = skill or rng.choice(SKILLS)
    return [
        f"{c.hero} wanted to learn to {skill}.",
        f"on the first day {c.she} went to {place} and tried, but it went wrong.",
        "on the second day it went wrong again, and some who watched began to laugh.",
        f'"I will never learn it," said {c.hero}.',
        rng.choice([f'"I needed a hundred tries," said {a_or_an(c.friend)}. "You have had two."',
                    f'"Try it slowly," said {a_or_an(c.friend)}, "and then try it again."']),
        f"so {c.hero} tried every morning, a little longer each time.",
        f"and one day {c.she} {success}.",
        f"everybody clapped, and the {c.friend} clapped the loudest.",
    ]


def plot_truth(rng, c):
    thing, place = rng.choice(BREAKABLES)
    return [
        f"one rainy day {c.hero} played with a ball inside the house.",
        f"the ball flew too far, hit the {thing} near {place}, and the {thing} broke.",
        f"{c.hero} hid the pieces under {c.her} bed.",
        f"at dinner {c.she} could not eat, and at night {c.she} could not sleep.",
        f'"Tell them what happened," whispered {a_or_an(c.friend)} at the window.',
        f"in the morning {c.hero} brought the pieces and told the truth.",
        f'"Thank you for telling us," said {c.her} family, and nobody was angry.',
        f"together they glued the {thing}, and it looked almost as good as new.",
    ]


def plot_build(rng, c, build=None):
    thing, use = build or rng.choice(BUILDS)
    third = rng.choice([x for x in CREATURES if x not in (c.noun, c.friend)])
    return [
        f"{c.hero} wanted to build {thing}, and {a_or_an(c.friend)} and {a_or_an(third)} came to help.",
        f'"It must be big," said the {c.friend}.',
        f'"It must be light," said the {third}.',
        "they argued until noon, and nothing was built at all.",
        f'"Let us each do what we do best," said {c.hero}.',
        f"the {c.friend} carried the wood, the {third} tied the knots, and {c.hero} drew the plan.",
        f"before evening {thing} stood in front of them.",
        f"they {use}, and all three of them were proud.",
    ]


def plot_map(rng, c):
    first, second = rng.sample(PLACES, 2)
    prize = rng.choice(["a tree full of ripe apples", "a spring with the clearest water",
                        "a library with a thousand books", "a garden that nobody had seen for years",
                        "a hall with a big piano"])
    return [
        f"one day {c.hero} found an old map {first}.",
        "on the map somebody had drawn a red cross and the words: a treasure for everybody.",
        f"{c.hero} showed it to {a_or_an(c.friend)}, and they set out at once.",
        f"they counted the steps, turned left {second}, and crept through a narrow gate.",
        rng.choice([f'"I hope it is gold," said the {c.friend}.',
                    f'"Perhaps there is nothing at all," said the {c.friend}.']),
        f"but behind the gate there was {prize}.",
        f'"This is too much for two," said {c.hero}.',
        "so they called everybody they knew, and there was enough for all.",
    ]


PLOTS = {"lost": plot_lost, "fear": plot_fear, "friend": plot_friend, "share": plot_share,
         "journey": plot_journey, "rescue": plot_rescue, "learn": plot_learn, "truth": plot_truth,
         "build": plot_build, "map": plot_map}


def tell(rng, cast, plot=None, **arguments):
    """The whole story as one text of one or two paragraphs."""
    key = plot or rng.choice(list(PLOTS))
    beats = [cast.opening(rng)] + [sentence(b) for b in PLOTS[key](rng, cast, **arguments)]
    ending = rng.choice(MORALS[key])
    middle = len(beats) // 2
    first = " ".join(beats[:middle])
    second = " ".join(beats[middle:] + [ending, "The end."])
    return first + "\n\n" + second


REQUESTS = ["Tell me a story about {x}.", "Tell me a story about {x}.", "Write a story about {x}.",
            "Tell me a short story about {x}.", "Can you tell me a story about {x}?",
            "Write a short story about {x}.", "I would like a story about {x}.",
            "Please tell me a story about {x}.", "Tell me a tale about {x}.",
            "Make up a story about {x}.", "Give me a story about {x}.", "A story about {x}, please.",
            "Could you write a little story about {x}?", "I want to hear a story about {x}.",
            "Tell my child a bedtime story about {x}.", "Story about {x}.", "Once more, a story about {x}."]
OPEN_REQUESTS = ["Tell me a story.", "Tell me a story.", "Write a story.", "Can you tell me a story?",
                 "Tell me a bedtime story.", "Tell me a short story.", "I want to hear a story.",
                 "Make up a story.", "Do you know a story?", "Write me a short story.",
                 "A story, please.", "Once upon a time", "Tell me another story.",
                 "Tell me something nice.", "Entertain me."]


def deed(rng):
    """(a clause that says what the story is about, the plot, its arguments)."""
    kind = rng.randrange(6)
    if kind == 0:
        thing = rng.choice(TREASURES + ["hat", "shoe", "ball", "key", "ring", "book", "toy", "scarf"])
        return f"who {rng.choice(['lost', 'loses', 'looks for'])} {rng.choice(['a', 'the', 'its'])} {thing}", \
            "lost", {"thing": thing}
    if kind == 1:
        fear = rng.choice(FEARS)
        return f"who is afraid of {fear[0]}", "fear", {"fear": fear}
    if kind == 2:
        goal = rng.choice(GOALS)
        return f"who {rng.choice(['wants to see', 'goes to', 'travels to', 'looks for'])} {goal[0]}", \
            "journey", {"goal": goal}
    if kind == 3:
        build = rng.choice(BUILDS)
        return f"who {rng.choice(['builds', 'wants to build'])} {build[0]}", "build", {"build": build}
    if kind == 4:
        return rng.choice([("who finds a map", "map", {}), ("who finds a treasure", "map", {}),
                           ("who has no friends", "friend", {}), ("who is looking for a friend", "friend", {}),
                           ("who learns to share", "share", {}), ("who tells the truth", "truth", {}),
                           ("and a storm", "rescue", {})])
    skill = rng.choice(SKILLS)
    return f"who {rng.choice(['learns to', 'wants to', 'cannot'])} {skill[0]}", "learn", {"skill": skill}


def request_and_story(rng):
    """(what the user asks, the story that answers it)."""
    if rng.random() < 0.15:
        return vary(rng, rng.choice(OPEN_REQUESTS)), tell(rng, Cast(rng))
    kind = rng.random()
    pronoun = None
    invented = False
    if kind < 0.50:
        noun = rng.choice(CREATURES)
    elif kind < 0.65:
        noun, pronoun = rng.choice(PEOPLE)
    elif kind < 0.77:
        noun = rng.choice(THINGS)
    elif kind < 0.92:
        noun = rng.choice(facts.WORDS)
    else:
        noun = made_up_word(rng)
        invented = True
    adjective = name = friend = None
    wish = a_or_an(noun)
    shape = rng.random()
    if shape < 0.15:
        adjective = rng.choice(ADJECTIVES)
        wish = a_or_an(adjective + " " + noun)
    elif shape < 0.27:
        name = rng.choice(STORY_NAMES + facts.NAMES)
        wish = f"{a_or_an(noun)} {rng.choice(['named', 'called', 'with the name'])} {name}"
    elif shape < 0.37:
        friend = rng.choice([c for c in CREATURES if c != noun])
        wish = f"{a_or_an(noun)} and {a_or_an(friend)}"
    elif shape < 0.42:
        wish = "the " + noun
    elif shape < 0.45:
        wish, friend = f"two {plural(noun)}", noun
    plot, arguments = None, {}
    if 0.45 <= shape < 0.65:
        clause, plot, arguments = deed(rng)
        wish += " " + clause
    request = vary(rng, rng.choice(REQUESTS).format(x=wish), exact=invented)
    # Half of the stories of a hero are one and the same, so that the likeliest story of a dragon is
    # another one than that of a mouse.
    if not invented and rng.random() < 0.5:
        rng = random.Random(noun)
    cast = Cast(rng, noun, adjective, name, friend, pronoun)
    return request, tell(rng, cast, plot, **arguments)


def raw_story(rng):
    """A story as plain text, for completion without a chat."""
    return tell(rng, Cast(rng))
