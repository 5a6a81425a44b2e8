"""Prompts that read like a visitor's, from templates: thirty topics with Zipf weights, and three never seen."""

import numpy as np

KNOWN = {
    "portrait": ("an old fisherman", "a young violinist", "a freckled girl", "a tired nurse", "a smiling baker"),
    "mountain": ("a snowy peak", "an alpine valley", "a granite ridge", "a glacier lake", "a mountain hut"),
    "sea": ("a stormy sea", "a coral reef", "a lighthouse on the cliff", "a quiet harbour", "breaking waves"),
    "city": ("a neon street", "a rainy crossing", "a skyline of towers", "a tram stop", "a narrow alley"),
    "cat": ("a tabby kitten", "a black cat", "a cat in a box", "a sleeping persian cat", "a cat at the window"),
    "dog": ("a corgi puppy", "a wet retriever", "a sledge dog", "a dachshund in a coat", "a running greyhound"),
    "bird": ("a kingfisher", "an owl at dusk", "a flock of starlings", "a parrot", "a heron in the reeds"),
    "forest": ("a birch forest", "a mossy path", "an autumn wood", "a fallen oak", "mushrooms under pines"),
    "food": ("a bowl of ramen", "a stack of pancakes", "fresh bread", "a market stall of fruit", "a cheese board"),
    "cake": ("a wedding cake", "cupcakes with icing", "a chocolate tart", "a birthday cake", "macarons"),
    "car": ("a vintage roadster", "a racing car", "a rusty pickup", "a taxi at night", "an electric sedan"),
    "train": ("a steam locomotive", "a night train", "a railway bridge", "an old station", "a mountain railway"),
    "robot": ("a rusty robot", "a robot gardener", "an android painter", "a tiny drone", "a robot with a lamp"),
    "space": ("a spiral nebula", "a lone astronaut", "a ringed planet", "a moon base", "a comet over hills"),
    "dragon": ("a green dragon", "a dragon's egg", "a dragon over a castle", "a sleeping wyvern", "a fire drake"),
    "castle": ("a ruined castle", "a fortress in fog", "a throne room", "a moat at dawn", "a watchtower"),
    "flower": ("a field of tulips", "a single rose", "wild poppies", "a vase of peonies", "a lotus pond"),
    "fashion": ("a silk evening dress", "a wool coat", "a model on a runway", "embroidered boots", "a straw hat"),
    "sport": ("a football match", "a climber on a wall", "a marathon runner", "a surfer", "a boxing ring"),
    "music": ("a jazz trio", "a grand piano", "a street drummer", "an electric guitar", "a choir in a church"),
    "library": ("a library of old books", "a reading nook", "a ladder of shelves", "an open atlas", "a scribe"),
    "kitchen": ("a copper kitchen", "a chef with a knife", "a tiled stove", "a pantry shelf", "a tea kettle"),
    "interior": ("a loft with brick walls", "a velvet armchair", "a scandinavian bedroom", "a spiral stair", "a desk"),
    "logo": ("a fox logo", "a minimal coffee logo", "a letter mark", "a badge for a brewery", "a leaf emblem"),
    "map": ("a fantasy map", "a treasure map", "a subway map", "an island chart", "a star chart"),
    "winter": ("a frozen pond", "a snowman", "skiers at dusk", "a cabin in snow", "icicles on a roof"),
    "desert": ("a dune at sunset", "a camel caravan", "a cactus valley", "an oasis", "a dry salt lake"),
    "baby": ("a newborn in a blanket", "a toddler with blocks", "a crib mobile", "tiny shoes", "a baby's first steps"),
    "ghost": ("a haunted house", "a ghost bride", "a graveyard in mist", "a cursed doll", "a headless rider"),
    "farm": ("a red barn", "a tractor in wheat", "a goat on a fence", "a hen house", "a milk maid"),
}
UNSEEN = {
    "cloth": ("indigo cloth with rings", "a batik scarf", "a tie-dyed curtain", "a woven kente strip", "a sari border"),
    "circuit": ("a circuit board", "a soldered amplifier", "a schematic of a radio", "a chip under glass", "wiring"),
    "anatomy": ("a diagram of the heart", "a skull in profile", "a cell in section", "a map of veins", "a spine"),
}
FORMS = (
    "{thing}, {style}",
    "{style} of {thing} {light}",
    "please draw {thing} {light}",
    "{thing} {light}, {style}, {detail}",
    "I would like a picture of {thing}, {detail}",
    "{detail} {style}, {thing}",
    "can you make {thing} {light}?",
    "{thing} for my {use}, {style}",
)
STYLES = (
    "oil painting",
    "watercolour",
    "film photograph",
    "pencil sketch",
    "vector art",
    "pixel art",
    "linocut",
    "3d render",
)
LIGHTS = ("at golden hour", "by candle light", "in the fog", "at night", "in soft light", "under a red sky", "at noon")
DETAILS = (
    "highly detailed",
    "very simple",
    "wide angle",
    "close up",
    "muted colours",
    "bold colours",
    "grainy",
    "square",
)
USES = ("bedroom wall", "book cover", "phone background", "sister's birthday", "band poster", "website", "t-shirt")


def prompts(n: int, rng: np.random.Generator, new: float = 0.0) -> list[str]:
    """Prompts of which exactly round(new * n), in no order, are of an unseen topic."""
    weights = 1 / np.arange(1, len(KNOWN) + 1)
    topics = [str(topic) for topic in rng.choice(list(KNOWN), n, p=weights / weights.sum())]
    for place in rng.permutation(n)[: round(new * n)]:
        topics[place] = str(rng.choice(list(UNSEEN)))
    return [_prompt(topic, rng) for topic in topics]


def _prompt(topic: str, rng: np.random.Generator) -> str:
    slots = {"thing": (KNOWN | UNSEEN)[topic], "style": STYLES, "light": LIGHTS, "detail": DETAILS, "use": USES}
    return str(rng.choice(FORMS)).format(**{name: rng.choice(words) for name, words in slots.items()})
