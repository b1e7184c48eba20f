"""What the bundled model is taught: plain tables, no phrasing.

Every list is written out here, so that a wrong answer of the model can be traced to a row or to
training. Order matters: the corpus draws from these lists by index, so inserting a row changes
the corpus of a given seed.
"""

# (animal, plural, sound, young, legs, home, what kind of animal)
ANIMALS = [
    ("cow", "cows", "moo", "calf", 4, "on a farm", "mammal"),
    ("dog", "dogs", "woof", "puppy", 4, "in a house", "mammal"),
    ("cat", "cats", "meow", "kitten", 4, "in a house", "mammal"),
    ("sheep", "sheep", "baa", "lamb", 4, "on a farm", "mammal"),
    ("pig", "pigs", "oink", "piglet", 4, "on a farm", "mammal"),
    ("horse", "horses", "neigh", "foal", 4, "in a stable", "mammal"),
    ("donkey", "donkeys", "hee-haw", "foal", 4, "on a farm", "mammal"),
    ("goat", "goats", "maa", "kid", 4, "on a farm", "mammal"),
    ("duck", "ducks", "quack", "duckling", 2, "on a pond", "bird"),
    ("goose", "geese", "honk", "gosling", 2, "near the water", "bird"),
    ("chicken", "chickens", "cluck", "chick", 2, "on a farm", "bird"),
    ("owl", "owls", "hoot", "owlet", 2, "in the forest", "bird"),
    ("crow", "crows", "caw", "chick", 2, "in the trees", "bird"),
    ("penguin", "penguins", None, "chick", 2, "on the ice", "bird"),
    ("eagle", "eagles", "screech", "eaglet", 2, "in the mountains", "bird"),
    ("swan", "swans", None, "cygnet", 2, "on a lake", "bird"),
    ("lion", "lions", "roar", "cub", 4, "in the savanna", "mammal"),
    ("tiger", "tigers", "roar", "cub", 4, "in the jungle", "mammal"),
    ("bear", "bears", "growl", "cub", 4, "in the forest", "mammal"),
    ("wolf", "wolves", "howl", "pup", 4, "in the forest", "mammal"),
    ("fox", "foxes", "yip", "cub", 4, "in a den", "mammal"),
    ("rabbit", "rabbits", None, "kit", 4, "in a burrow", "mammal"),
    ("mouse", "mice", "squeak", "pup", 4, "in a hole", "mammal"),
    ("elephant", "elephants", "trumpet", "calf", 4, "in the savanna", "mammal"),
    ("giraffe", "giraffes", None, "calf", 4, "in the savanna", "mammal"),
    ("zebra", "zebras", None, "foal", 4, "in the savanna", "mammal"),
    ("monkey", "monkeys", "chatter", "infant", 2, "in the jungle", "mammal"),
    ("kangaroo", "kangaroos", None, "joey", 2, "in Australia", "mammal"),
    ("deer", "deer", None, "fawn", 4, "in the forest", "mammal"),
    ("squirrel", "squirrels", None, "kit", 4, "in a tree", "mammal"),
    ("bat", "bats", "squeak", "pup", 2, "in a cave", "mammal"),
    ("whale", "whales", None, "calf", 0, "in the sea", "mammal"),
    ("dolphin", "dolphins", "click", "calf", 0, "in the sea", "mammal"),
    ("shark", "sharks", None, "pup", 0, "in the sea", "fish"),
    ("salmon", "salmon", None, "fry", 0, "in rivers and in the sea", "fish"),
    ("goldfish", "goldfish", None, "fry", 0, "in a pond", "fish"),
    ("frog", "frogs", "croak", "tadpole", 4, "near a pond", "amphibian"),
    ("snake", "snakes", "hiss", "snakelet", 0, "in the grass", "reptile"),
    ("crocodile", "crocodiles", None, "hatchling", 4, "in rivers", "reptile"),
    ("turtle", "turtles", None, "hatchling", 4, "in the sea", "reptile"),
    ("lizard", "lizards", None, "hatchling", 4, "on warm stones", "reptile"),
    ("bee", "bees", "buzz", "larva", 6, "in a hive", "insect"),
    ("ant", "ants", None, "larva", 6, "in an anthill", "insect"),
    ("butterfly", "butterflies", None, "caterpillar", 6, "among flowers", "insect"),
    ("beetle", "beetles", None, "larva", 6, "in the garden", "insect"),
    ("fly", "flies", "buzz", "maggot", 6, "almost everywhere", "insect"),
    ("spider", "spiders", None, "spiderling", 8, "in a web", "arachnid"),
    ("octopus", "octopuses", None, "larva", None, "in the sea", "mollusc"),
]

ANIMALS_THAT_FLY = ["duck", "goose", "owl", "crow", "eagle", "swan", "bat", "bee", "butterfly", "fly"]
ANIMALS_THAT_DO_NOT_FLY = ["cow", "dog", "cat", "pig", "horse", "penguin", "lion", "elephant",
                           "snake", "whale", "frog", "fox", "bear", "rabbit", "turtle"]

# (thing with its article, plural verb?, colour)
COLOURED = [
    ("grass", False, "green"), ("the sky", False, "blue"), ("snow", False, "white"),
    ("the sun", False, "yellow"), ("coal", False, "black"), ("milk", False, "white"),
    ("a banana", False, "yellow"), ("a lemon", False, "yellow"), ("a carrot", False, "orange"),
    ("an orange", False, "orange"), ("a tomato", False, "red"), ("a strawberry", False, "red"),
    ("a cherry", False, "red"), ("blood", False, "red"), ("a fire engine", False, "red"),
    ("a frog", False, "green"), ("a cucumber", False, "green"), ("a leaf", False, "green"),
    ("chocolate", False, "brown"), ("coffee", False, "brown"), ("a tree trunk", False, "brown"),
    ("an elephant", False, "grey"), ("a mouse", False, "grey"), ("a raven", False, "black"),
    ("the night", False, "black"), ("a swan", False, "white"), ("salt", False, "white"),
    ("a polar bear", False, "white"), ("a flamingo", False, "pink"), ("a pig", False, "pink"),
    ("a plum", False, "purple"), ("lavender", False, "purple"), ("an aubergine", False, "purple"),
    ("the sea", False, "blue"), ("a pumpkin", False, "orange"), ("gold", False, "yellow"),
    ("silver", False, "grey"), ("sand", False, "yellow"), ("a goldfish", False, "orange"),
    ("peas", True, "green"), ("clouds", True, "white"), ("blueberries", True, "blue"),
    ("roses", True, "red"), ("sunflowers", True, "yellow"), ("raspberries", True, "red"),
]

COLOUR_MIXES = [
    ("blue", "yellow", "green"), ("red", "yellow", "orange"), ("red", "blue", "purple"),
    ("red", "white", "pink"), ("black", "white", "grey"), ("red", "green", "brown"),
]

COLOURS = ["red", "blue", "green", "yellow", "orange", "purple", "pink", "brown", "black", "white",
           "grey"]

OPPOSITES = [
    ("hot", "cold"), ("big", "small"), ("up", "down"), ("left", "right"), ("day", "night"),
    ("black", "white"), ("fast", "slow"), ("happy", "sad"), ("old", "new"), ("open", "closed"),
    ("full", "empty"), ("early", "late"), ("good", "bad"), ("high", "low"), ("light", "dark"),
    ("long", "short"), ("loud", "quiet"), ("near", "far"), ("rich", "poor"), ("soft", "hard"),
    ("strong", "weak"), ("tall", "short"), ("thick", "thin"), ("true", "false"), ("wet", "dry"),
    ("wide", "narrow"), ("win", "lose"), ("yes", "no"), ("young", "old"), ("clean", "dirty"),
    ("deep", "shallow"), ("easy", "difficult"), ("first", "last"), ("front", "back"),
    ("heavy", "light"), ("in", "out"), ("inside", "outside"), ("love", "hate"), ("many", "few"),
    ("on", "off"), ("over", "under"), ("push", "pull"), ("question", "answer"), ("rough", "smooth"),
    ("same", "different"), ("sharp", "blunt"), ("sweet", "sour"), ("top", "bottom"),
    ("war", "peace"), ("asleep", "awake"), ("begin", "end"), ("brave", "afraid"), ("buy", "sell"),
    ("cheap", "expensive"), ("give", "take"), ("laugh", "cry"), ("north", "south"),
    ("east", "west"), ("above", "below"), ("always", "never"), ("before", "after"),
    ("friend", "enemy"), ("summer", "winter"), ("safe", "dangerous"), ("simple", "complicated"),
    ("start", "stop"), ("right", "wrong"), ("lost", "found"), ("alive", "dead"),
    ("arrive", "leave"), ("morning", "evening"), ("polite", "rude"), ("noisy", "quiet"),
]
# Words that stand in the left column twice or mean two things are asked in one direction only.
OPPOSITES_ONE_WAY = {("young", "old"), ("tall", "short"), ("heavy", "light"), ("right", "wrong"),
                     ("noisy", "quiet"), ("left", "right")}

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [("January", 31), ("February", 28), ("March", 31), ("April", 30), ("May", 31),
          ("June", 30), ("July", 31), ("August", 31), ("September", 30), ("October", 31),
          ("November", 30), ("December", 31)]
ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
            "tenth", "eleventh", "twelfth"]

NUMBER_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
                "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen",
                "seventeen", "eighteen", "nineteen", "twenty"]

# (questions that mean the same, answer)
GENERAL = [
    (["How many days are in a week?", "How many days does a week have?"], "A week has 7 days."),
    (["How many hours are in a day?", "How many hours does a day have?"], "A day has 24 hours."),
    (["How many minutes are in an hour?", "How many minutes does an hour have?"],
     "An hour has 60 minutes."),
    (["How many seconds are in a minute?", "How many seconds does a minute have?"],
     "A minute has 60 seconds."),
    (["How many months are in a year?", "How many months does a year have?"],
     "A year has 12 months."),
    (["How many days are in a year?", "How many days does a year have?"],
     "A year has 365 days, and a leap year has 366."),
    (["How many weeks are in a year?"], "A year has 52 weeks."),
    (["How many seasons are there?", "How many seasons does a year have?"],
     "There are 4 seasons: spring, summer, autumn and winter."),
    (["How many letters are in the alphabet?", "How many letters does the English alphabet have?"],
     "The English alphabet has 26 letters."),
    (["What is the first letter of the alphabet?"], "The first letter of the alphabet is A."),
    (["What is the last letter of the alphabet?"], "The last letter of the alphabet is Z."),
    (["Which letters are vowels?", "What are the vowels?"], "The vowels are A, E, I, O and U."),
    (["How many sides does a triangle have?", "How many corners does a triangle have?"],
     "A triangle has 3 sides and 3 corners."),
    (["How many sides does a square have?", "How many corners does a square have?"],
     "A square has 4 sides and 4 corners."),
    (["How many sides does a hexagon have?"], "A hexagon has 6 sides."),
    (["How many sides does a pentagon have?"], "A pentagon has 5 sides."),
    (["What shape is a ball?", "What shape is a wheel?"], "It is round."),
    (["How many fingers does a hand have?", "How many fingers are on one hand?"],
     "A hand has 5 fingers."),
    (["How many eyes do people have?", "How many eyes does a person have?"], "People have 2 eyes."),
    (["How many wheels does a car have?"], "A car has 4 wheels."),
    (["How many wheels does a bicycle have?", "How many wheels does a bike have?"],
     "A bicycle has 2 wheels."),
    (["How many planets are there?", "How many planets are in the solar system?"],
     "There are 8 planets in the solar system."),
    (["Which planet do we live on?", "What planet do we live on?"], "We live on the planet Earth."),
    (["What is the largest planet?", "Which planet is the biggest?"],
     "Jupiter is the largest planet of the solar system."),
    (["Which planet is closest to the sun?", "What is the planet nearest to the sun?"],
     "Mercury is the planet closest to the sun."),
    (["Which planet is red?", "What is the red planet called?"], "Mars is called the red planet."),
    (["What is the sun?", "Is the sun a star?"], "The sun is a star."),
    (["What is the moon?"], "The moon is a ball of rock that circles the Earth."),
    (["What is a star?"], "A star is a huge ball of hot gas that shines."),
    (["What is the Earth?"], "The Earth is the planet that we live on."),
    (["What does the Earth go around?", "What does the Earth circle?"],
     "The Earth goes around the sun."),
    (["How many continents are there?", "How many continents does the Earth have?"],
     "There are 7 continents."),
    (["What are the continents?", "Name the continents.", "List the continents."],
     "The continents are Africa, Antarctica, Asia, Australia, Europe, North America and South America."),
    (["What is the largest ocean?", "Which ocean is the biggest?"],
     "The Pacific Ocean is the largest ocean."),
    (["What is the highest mountain?", "What is the tallest mountain in the world?"],
     "Mount Everest is the highest mountain on Earth."),
    (["What is the largest country?", "Which country is the biggest?"],
     "Russia is the largest country by area."),
    (["What is the smallest country?", "Which country is the smallest?"],
     "Vatican City is the smallest country."),
    (["What is the largest animal?", "Which animal is the biggest?"],
     "The blue whale is the largest animal."),
    (["What is the tallest animal?", "Which animal is the tallest?"],
     "The giraffe is the tallest animal."),
    (["What is the fastest animal on land?", "Which land animal is the fastest?"],
     "The cheetah is the fastest animal on land."),
    (["What is water made of?"], "Water is made of hydrogen and oxygen."),
    (["What is ice?", "What does water become when it freezes?"], "Ice is frozen water."),
    (["When does water boil?", "At what temperature does water boil?",
      "What is the boiling point of water?"], "Water boils at 100 degrees Celsius."),
    (["When does water freeze?", "At what temperature does water freeze?",
      "What is the freezing point of water?"], "Water freezes at 0 degrees Celsius."),
    (["What do bees make?"], "Bees make honey."),
    (["What do cows give us?", "Where does milk come from?"], "Cows give us milk."),
    (["Where do eggs come from?"], "Most of the eggs that we eat come from chickens."),
    (["What is bread made of?", "What is bread made from?"],
     "Bread is made of flour, water and yeast."),
    (["What is cheese made of?", "What is cheese made from?"], "Cheese is made of milk."),
    (["What do plants need?", "What do plants need to grow?"],
     "Plants need light, water and air to grow."),
    (["What do we see with?", "What do we use to see?"], "We see with our eyes."),
    (["What do we hear with?", "What do we use to hear?"], "We hear with our ears."),
    (["What do we smell with?", "What do we use to smell?"], "We smell with our nose."),
    (["Where does the sun rise?"], "The sun rises in the east."),
    (["Where does the sun set?"], "The sun sets in the west."),
    (["What comes after winter?", "Which season comes after winter?"],
     "Spring comes after winter."),
    (["What comes after summer?", "Which season comes after summer?"],
     "Autumn comes after summer."),
    (["Which season is the coldest?", "What is the coldest season?"],
     "Winter is the coldest season."),
    (["Which season is the warmest?", "What is the hottest season?"],
     "Summer is the warmest season."),
    (["What is a rainbow?"], "A rainbow is a bow of colours that we see when the sun shines on rain."),
    (["What is a computer?"], "A computer is a machine that follows instructions and works with numbers."),
    (["What is a GPU?"], "A GPU is a chip that does very many simple sums at the same time."),
    (["What is a CPU?"], "A CPU is the chip that runs the programs of a computer."),
    (["What is a token?"], "A token is a small piece of text, such as a word or a part of one."),
    (["What is a language model?"],
     "A language model is a program that guesses which piece of text comes next."),
    (["What is a planet?"], "A planet is a large ball that goes around a star."),
    (["What is the ocean?", "What is an ocean?"], "An ocean is a very large body of salt water."),
    (["What is the sea?"], "The sea is salt water that covers most of the Earth."),
    (["What is a lake?"], "A lake is water with land all around it."),
    (["What is a mountain?"], "A mountain is land that rises high above the rest."),
    (["What is a city?"], "A city is a place where very many people live."),
    (["What is a village?"], "A village is a small place where some people live."),
    (["What is a country?"], "A country is a land with its own people and laws."),
    (["What is a capital?"], "A capital is the city from which a country is governed."),
    (["What is a continent?"], "A continent is one of the large pieces of land on Earth."),
    (["What is love?"], "Love is a strong and warm feeling for somebody."),
    (["What is a friend?"], "A friend is somebody whom you like and trust."),
    (["What is a story?"], "A story tells what happens to somebody from a beginning to an end."),
    (["What is a book?"], "A book is many pages with words or pictures."),
    (["What is a word?"], "A word is a group of letters that means something."),
    (["What is a letter?"], "A letter is a sign for a sound, or a text that you send to somebody."),
    (["What is a number?"], "A number says how many there are of something."),
    (["What is a year?"], "A year is the time in which the Earth goes around the sun once."),
    (["What is a week?"], "A week is seven days."),
    (["What is a school?"], "A school is a place where people learn."),
    (["What is a doctor?"], "A doctor is somebody who helps people who are ill."),
    (["What is a program?"], "A program is a list of instructions for a computer."),
    (["What is the alphabet?"], "The alphabet is the list of all letters from A to Z."),
    (["What is rain?"], "Rain is water that falls from the clouds."),
    (["What is snow?"], "Snow is frozen water that falls from the clouds."),
    (["What is wind?"], "Wind is moving air."),
    (["What is fire?"], "Fire is hot and bright, and it comes from things that burn."),
    (["What is a cloud?"], "A cloud is many tiny drops of water in the air."),
    (["What is an animal?"], "An animal is a living thing that can move and must eat."),
    (["What is a bird?"], "A bird is an animal with feathers and two wings."),
    (["What is a fish?"], "A fish is an animal that lives in water and has fins."),
    (["What is a mammal?"], "A mammal is an animal that feeds its young with milk."),
    (["What is an insect?"], "An insect is a small animal with six legs."),
    (["What is a colour?", "What is a color?"], "A colour is what our eyes see when light falls on things."),
    (["What is music?"], "Music is sounds that people put in order because they like to hear them."),
    (["What is honey?"], "Honey is sweet food that bees make."),
    (["What is a server?"], "A server is a program or a computer that answers requests."),
    (["What is an island?"], "An island is land with water all around it."),
    (["What is a river?"], "A river is water that flows over the land to a lake or to the sea."),
    (["What is a forest?"], "A forest is a large place with many trees."),
    (["What is a desert?"], "A desert is a very dry place where few plants grow."),
    (["What is a volcano?"], "A volcano is a mountain from which hot molten rock can come."),
    (["What is a dragon?"], "A dragon is a creature from stories that has wings and breathes fire."),
    (["What is a unicorn?"], "A unicorn is a horse from stories that has one horn."),
    (["What is a robot?"], "A robot is a machine that can move and do work by itself."),
    (["What is a goose?"], "A goose is a large bird that lives near the water and can honk loudly."),
    (["What is a gosling?"], "A gosling is a young goose."),
    (["What is a gaggle?"], "A gaggle is a group of geese."),
    (["What do you call a group of geese?"], "A group of geese is called a gaggle."),
    (["What do you call a group of wolves?"], "A group of wolves is called a pack."),
    (["What do you call a group of fish?"], "A group of fish is called a school."),
    (["What do you call a group of sheep?"], "A group of sheep is called a flock."),
    (["What do you call a group of cows?"], "A group of cows is called a herd."),
    (["What do doctors do?", "What does a doctor do?"], "A doctor helps people who are ill."),
    (["What does a teacher do?"], "A teacher helps people to learn."),
    (["What does a baker do?"], "A baker makes bread and cakes."),
    (["What does a farmer do?"], "A farmer grows plants and keeps animals."),
    (["What does a pilot do?"], "A pilot flies planes."),
    (["What is an umbrella for?"], "An umbrella keeps you dry in the rain."),
    (["What is a clock for?"], "A clock shows what time it is."),
    (["What is a key for?"], "A key opens and closes a lock."),
]

# (members asked for, plural word people use)
CATEGORIES = {
    "animals": ["a cat", "a dog", "a horse", "a cow", "a fox", "a bear", "a lion", "a mouse",
                "an elephant", "a whale"],
    "colours": ["red", "blue", "green", "yellow", "orange", "purple", "pink", "brown", "black",
                "white"],
    "fruits": ["apples", "pears", "bananas", "cherries", "grapes", "oranges", "plums", "peaches",
               "melons", "lemons"],
    "vegetables": ["carrots", "peas", "onions", "cabbage", "spinach", "potatoes", "beans",
                   "pumpkin", "leeks", "beetroot"],
    "birds": ["owls", "ducks", "geese", "swans", "eagles", "crows", "robins", "sparrows",
              "penguins", "storks"],
    "insects": ["ants", "bees", "flies", "beetles", "butterflies", "wasps", "moths", "crickets",
                "ladybirds", "dragonflies"],
    "countries": ["France", "Germany", "Spain", "Italy", "Japan", "Brazil", "Canada", "Egypt",
                  "India", "Kenya"],
    "cities": ["Paris", "London", "Rome", "Berlin", "Madrid", "Tokyo", "Cairo", "Lima", "Oslo",
               "Vienna"],
    "farm animals": ["a cow", "a pig", "a sheep", "a goat", "a horse", "a chicken", "a duck",
                     "a donkey"],
    "sea animals": ["a whale", "a shark", "a dolphin", "an octopus", "a crab", "a seal",
                    "a turtle", "a salmon"],
    "animals that live in the sea": ["a whale", "a shark", "a dolphin", "an octopus", "a crab",
                                     "a seal", "a turtle", "a salmon"],
    "animals that can fly": ["a duck", "an owl", "a bat", "an eagle", "a bee", "a butterfly",
                             "a crow", "a swan"],
    "wild animals": ["a lion", "a tiger", "a wolf", "a bear", "an elephant", "a giraffe",
                     "a zebra", "a fox"],
    "pets": ["a dog", "a cat", "a hamster", "a rabbit", "a goldfish", "a parrot", "a turtle",
             "a guinea pig"],
    "countries in Europe": ["France", "Germany", "Spain", "Italy", "Poland", "Sweden", "Greece",
                            "Portugal"],
    "countries in Asia": ["Japan", "China", "India", "Vietnam", "Thailand", "Nepal", "Iran",
                          "Mongolia"],
    "countries in Africa": ["Egypt", "Kenya", "Ghana", "Morocco", "Nigeria", "Mali", "Angola",
                            "Chad"],
    "countries in South America": ["Brazil", "Peru", "Chile", "Argentina", "Bolivia", "Ecuador",
                                   "Colombia", "Uruguay"],
    "capitals": ["Paris", "London", "Rome", "Berlin", "Madrid", "Tokyo", "Cairo", "Lima"],
    "languages": ["English", "French", "Spanish", "German", "Italian", "Chinese", "Arabic",
                  "Polish"],
    "names": ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry"],
    "things in a kitchen": ["a kettle", "a pan", "a spoon", "a fork", "a knife", "a cup",
                            "a plate", "an oven"],
    "vehicles": ["a car", "a bus", "a train", "a bicycle", "a truck", "a tram", "a boat",
                 "a plane"],
    "clothes": ["a coat", "a hat", "a shirt", "a jacket", "a skirt", "a scarf", "socks", "gloves"],
    "shapes": ["a circle", "a square", "a triangle", "a star", "a cube", "a ball", "a cone",
               "a hexagon"],
    "planets": ["Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune"],
    "months": [m for m, _ in MONTHS],
    "days": DAYS,
    "trees": ["oaks", "beeches", "birches", "pines", "maples", "willows", "limes", "ashes",
              "elms", "firs"],
    "flowers": ["roses", "tulips", "lilies", "daisies", "sunflowers", "violets", "poppies",
                "irises", "snowdrops", "bluebells"],
    "drinks": ["water", "milk", "tea", "coffee", "apple juice", "lemonade", "cocoa",
               "orange juice", "tomato juice", "mint tea"],
    "tools": ["a hammer", "a saw", "a screwdriver", "a spade", "a drill", "a rake", "a file",
              "an axe", "a brush", "a ladder"],
    "sports": ["football", "tennis", "swimming", "running", "rowing", "skiing", "boxing",
               "cycling", "hockey", "judo"],
    "instruments": ["a piano", "a violin", "a guitar", "a flute", "a drum", "a trumpet", "a harp",
                    "a cello", "a tuba", "a banjo"],
}

IRREGULAR_PLURALS = [
    ("mouse", "mice"), ("goose", "geese"), ("child", "children"), ("man", "men"),
    ("woman", "women"), ("foot", "feet"), ("tooth", "teeth"), ("sheep", "sheep"), ("fish", "fish"),
    ("wolf", "wolves"), ("leaf", "leaves"), ("knife", "knives"), ("person", "people"),
    ("city", "cities"), ("baby", "babies"), ("box", "boxes"), ("bus", "buses"), ("fox", "foxes"),
    ("dog", "dogs"), ("cat", "cats"), ("tree", "trees"), ("house", "houses"), ("book", "books"),
    ("apple", "apples"), ("story", "stories"), ("lady", "ladies"), ("dish", "dishes"),
    ("tomato", "tomatoes"), ("potato", "potatoes"), ("key", "keys"),
]

# Ordinary words for copying, spelling and word problems.
WORDS = """apple arrow autumn badge ball banana barn basket beach bell berry bird blanket boat book
boot bottle bowl box branch bread bridge brook broom brush bucket button cabin cake camel candle
carpet castle chair cheese cherry chest circle cliff clock cloud clover coat coin comb cookie copper
corn corner cotton cradle cream crown cup curtain daisy desk diamond dish door dream drum dust ear
egg elbow engine farm feather fence field finger fire flag flame flower flute forest fork fountain
frost garden gate glass glove grape grass ground hammer hand harbour hat hill honey hook horn house
island ivory jacket jar jelly jewel jungle kettle key kite kitten ladder lake lamp lantern leaf
lemon letter library light lily lion log lunch map marble market meadow melon milk mirror mitten
moon morning moss mountain music nail needle nest night north nut oak ocean olive onion orange oven
paint palace paper parrot path peach pear pebble pencil penny pepper piano picture pillow pine
planet plate plum pocket pond potato puddle pumpkin puppy puzzle queen quilt rabbit rain rainbow
ribbon ring river road robin rock roof room root rope rose saddle sail salt sand school seed shadow
shell ship shoe silk silver sky sleep snail snow soap sock song soup spoon spring star stone storm
story straw street string sugar summer sun table tail tea thread ticket tiger toast tower town toy
train tree trumpet tulip tunnel umbrella valley velvet village violin wagon walnut water wave whale
wheat wheel whistle wind window wing winter wolf wood wool yarn zebra""".split()

NAMES = """Anna Ben Clara David Emma Felix Grace Henry Ida Jack Kate Leo Mia Noah Olivia Paul Rosa
Sam Tina Victor Wanda Yara Zoe Adam Bella Carl Dora Eric Fiona George Hanna Ivan Julia Karim Laura
Max Nora Oscar Petra Ravi Sofia Tom Uma Vera Will Amir Lin Mei Kofi Aisha Diego Elena Hugo Lena
Marco Nina Omar Priya Sven Tara Yusuf Alice Bob Chen Maria John Peter Lucy Sarah Daniel Thomas
Michael James Emily Robert Linda Kenji Fatima Pedro Ingrid Olga Pavel""".split()
GIRL_NAMES = """Anna Clara Emma Grace Ida Kate Mia Olivia Rosa Tina Wanda Yara Zoe Bella Dora Fiona
Hanna Julia Laura Nora Petra Sofia Uma Vera Mei Aisha Elena Lena Nina Priya Tara Alice Maria Lucy
Sarah Emily Linda Fatima Ingrid Olga""".split()
BOY_NAMES = """Ben David Felix Henry Jack Leo Noah Paul Sam Victor Adam Carl Eric George Ivan Karim
Max Oscar Ravi Tom Will Amir Kofi Diego Hugo Marco Omar Sven Yusuf Bob Chen John Peter Daniel Thomas
Michael James Robert Kenji Pedro Pavel""".split()

# Filler for copying exercises.
COMMON_WORDS = """hello yes no today never always very good bad big red the one two three blue sky we go
to see you all day long here there now then quick brown jumps over lazy runs under with from and
is are was my your his her our they this that what who when where why how little old new first last
please thanks world people time work play walk talk read write open close give take make come look
find know think want need like love hate help start stop again between after before because small
large green yellow black white happy sad hot cold fast slow high low left right up down""".split()

# What kind of thing a word names.
KINDS = {
    "a fruit": "apple pear banana cherry grape orange plum peach melon lemon mango fig",
    "a vegetable": "carrot onion cabbage potato leek turnip cucumber radish",
    "a tool": "hammer saw screwdriver spade drill rake axe ladder shovel",
    "a vehicle": "car bus train bicycle tram truck van tractor wagon",
    "a building": "house castle barn school palace church mill tower cabin",
    "a musical instrument": "piano violin guitar flute drum trumpet harp cello tuba",
    "a piece of clothing": "coat hat shirt jacket sock glove mitten skirt scarf",
    "a piece of furniture": "table chair desk bed shelf sofa bench cupboard",
    "a toy": "kite ball doll puzzle marble",
    "a plant": "tree flower rose tulip daisy fern clover",
    "a tree": "oak pine maple birch willow beech",
    "a metal": "iron gold silver copper tin lead",
    "a drink": "water milk tea coffee lemonade cocoa",
    "a sport": "football tennis rowing hockey skiing boxing",
    "a number": "five seven ten twelve twenty",
    "a day of the week": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "a month": "January March April June July August September October December",
    "a season": "spring summer autumn winter",
}
KINDS = {kind: words.split() for kind, words in KINDS.items()}
# These take no article: "iron is a metal".
KINDS_WITHOUT_ARTICLE = {"a metal", "a drink", "a sport", "a number", "a day of the week", "a month",
                         "a season"}
