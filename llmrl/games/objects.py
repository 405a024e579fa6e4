"""Objects of twenty questions with their attributes, written down for this project."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAMES = """
football
dog
banana
truck
pants;pant;pair of pants;trousers
computer
piano
chair
pen
scissors;pair of scissors
tennis racket;racket
helmet
elephant
rabbit
apple
watermelon
airplane;plane;aeroplane
boat
shoes;shoe;pair of shoes
scarf
refrigerator;fridge
camera
violin
drum;drums
bed
pillow
paper;piece of paper;sheet of paper
carrot
tomato
onion
painting
paintbrush
sculpture;statue
knife
spoon
cup
tree
mountain
river
kite
doll
puzzle;jigsaw puzzle
ring
necklace
watch;wristwatch
shovel
gloves;glove;pair of gloves
lawn mower;lawnmower
hammer
saw
drill
"""
OBJECTS: Mapping[str, tuple[str, ...]] = {
    line.split(";")[0]: tuple(line.split(";")) for line in _NAMES.splitlines() if line
}
"""Names, and the other names by which each is recognised. The first ten are the subset of LMRL-Gym's ArCHer tasks."""
SMALL = 10

_TABLE = """
Is it alive? | alive|living | dog, elephant, rabbit, tree
Is it an animal? | animals?|mammals? | dog, elephant, rabbit
Is it a pet? | pets? | dog, rabbit
Does it bark? | barks? | dog
Does it have fur? | fur|furry | dog, rabbit
Does it have a trunk? | trunk | elephant, tree
Does it have legs? | legs? | dog, elephant, rabbit, chair, bed, piano, doll
Does it grow on a plant? | grows?|plants? | banana, apple, watermelon, carrot, tomato, onion, tree
Is it edible? | edible|eat it|eaten|food | banana, apple, watermelon, carrot, tomato, onion
Is it a fruit? | fruits? | banana, apple, watermelon
Is it a vegetable? | vegetables?|veggies? | carrot, tomato, onion
Is it sweet? | sweet | banana, apple, watermelon
Is it peeled before it is used? | peeled?|peel it | banana, onion
Does it lie below the ground? | below the ground|underground | carrot, onion
Is it natural? | natural|found in nature|nature | dog, elephant, rabbit, banana, apple, watermelon, \
carrot, tomato, onion, tree, mountain, river
Is it a vehicle? | vehicles?|transport|transportation | truck, airplane, boat
Can it fly? | fly|flies|flying | airplane, kite
Does it float on water? | floats?|sails? | boat
Does it have wheels? | wheels? | truck, airplane, lawn mower
Does it have an engine? | engines?|motors? | truck, airplane, lawn mower
Is it loud? | loud|noisy | truck, airplane, drum, drill, lawn mower
Is it clothing? | clothing|clothes|garments? | pants, shoes, scarf, gloves
Is it worn on the body? | worn|wear it|wear | pants, shoes, scarf, gloves, helmet, ring, necklace, watch
Is it worn on the feet? | feet|foot | shoes
Is it worn on the hand? | hands? | gloves, ring, watch
Is it worn around the neck? | neck | scarf, necklace
Does it protect the head? | head | helmet
Does it use electricity? | electric|electrical|electronic|electricity|plugged in | computer, refrigerator, camera, drill
Does it have a screen? | screen|display | computer, camera
Does it have keys? | keys?|keyboard | computer, piano
Does it keep food cold? | cold|cool | refrigerator
Does it take pictures? | takes? pictures?|takes? photos?|photographs? | camera
Is it a musical instrument? | musical|instruments?|music | piano, violin, drum
Does it have strings? | strings? | piano, violin, tennis racket, kite
Is it furniture? | furniture | chair, bed
Is it used for sleeping? | sleep|sleeping | bed, pillow
Can you sit on it? | sit|sitting | chair, bed
Is it an office supply? | office|stationery | pen, scissors, paper
Is it used for writing? | writing|write | pen, paper
Is it used for painting? | for painting|paint with|used to paint | paintbrush
Is it a work of art? | art|artwork | painting, sculpture
Is it sharp? | sharp | scissors, knife, saw
Can it cut something? | cuts?|cutting | scissors, knife, saw, lawn mower
Is it found in a kitchen? | kitchens? | refrigerator, knife, spoon, cup
Is it used at meals? | meals?|eating|eat with | knife, spoon, cup
Can you drink from it? | drinks?|drinking | cup
Is it a toy? | toys? | kite, doll, puzzle
Does it look like a person? | look like a person|human|person shape | doll
Is it jewelry? | jewelry|jewellery | ring, necklace, watch
Does it tell the time? | time | watch
Is it used in a garden? | garden|gardening|yard | shovel, gloves, lawn mower
Is it a tool? | tools? | shovel, hammer, saw, drill
Does it drive nails? | nails? | hammer
Can it make holes? | holes? | drill, shovel
Is it used in sports? | sports?|games? | football, tennis racket, helmet
Is it round? | round|spherical | football, apple, watermelon, tomato, onion, drum, ring
Is it red? | red | apple, tomato
Is it yellow? | yellow | banana
Is it orange? | orange | carrot
Is it made of metal? | metal|steel|iron | truck, airplane, refrigerator, scissors, knife, spoon, \
ring, necklace, watch, shovel, lawn mower, hammer, saw, drill
Is it made of wood? | wood|wooden | piano, violin, drum, chair, bed, tree, paintbrush
Is it made of fabric? | fabric|cloth | pants, scarf, gloves, pillow, kite, doll
Is it made of stone? | stone|rock | mountain, sculpture
Does it contain water? | (?:contains?|full of|filled with) water | river, watermelon
Is it larger than a house? | (?:larger|bigger) than a (?:house|building) | airplane, mountain, river
Is it larger than a car? | (?:larger|bigger) than a car | truck, airplane, boat, tree, mountain, river
Is it larger than a person? | (?:larger|bigger) than (?:a person|a human|me|you) | elephant, truck, airplane, boat, \
piano, bed, refrigerator, tree, mountain, river
Does it fit in a pocket? | pockets? | pen, ring, necklace, watch, gloves, spoon
"""
_ROWS = [tuple(map(str.strip, line.split(" | "))) for line in _TABLE.splitlines() if line]
ATTRIBUTES: Mapping[str, frozenset[str]] = {question: frozenset(names.split(", ")) for question, _, names in _ROWS}
"""Questions, and the objects for which the answer is yes."""
INTENTS = tuple((re.compile(rf"\b(?:{words})\b"), question) for question, words, _ in reversed(_ROWS))
"""Patterns of questions in other words, and the question that each means; the first that fits counts."""
