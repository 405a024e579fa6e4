"""Games with a hidden item: wordle, twenty questions, guess my city; their tables, their players, exact optima."""

from __future__ import annotations

from itertools import combinations

import pytest

from llmrl.envs.guess_city import GuessCity, mentioned
from llmrl.envs.twenty_questions import TwentyQuestions, meaning
from llmrl.envs.wordle import Wordle, feedback
from llmrl.games.cities import CITIES
from llmrl.games.hidden import GuessingGame, optimal_total
from llmrl.games.objects import ATTRIBUTES, OBJECTS
from llmrl.games.words import WORDS

GAMES = [
    Wordle(),
    Wordle(rule="standard"),
    TwentyQuestions(),
    TwentyQuestions(objects="small"),
    GuessCity(),
    GuessCity(answers="yes_no"),
]


def returns(game: GuessingGame) -> list[float]:
    """Return of the expert for each hidden item."""
    totals = []
    for item in game.starts():
        state, total = game.begin(item), 0.0
        while True:
            move = game.play(state, game.best(state))
            state, total = move.state, total + move.reward
            if move.end is not None:
                assert move.end == "won", (game, item)
                break
        totals.append(total)
    return totals


# Tables


def test_words_are_words() -> None:
    assert len(WORDS) == len(set(WORDS)) >= 200
    assert all(len(word) == 5 and word.isascii() and word.isalpha() and word.islower() for word in WORDS)


def test_objects_and_attributes_are_many_and_every_pair_differs() -> None:
    assert len(OBJECTS) >= 40
    assert len(ATTRIBUTES) >= 40
    for question, things in ATTRIBUTES.items():
        assert things <= set(OBJECTS), question
        assert meaning(question) == question
    rows = {thing: tuple(thing in things for things in ATTRIBUTES.values()) for thing in OBJECTS}
    assert not [pair for pair in combinations(rows, 2) if rows[pair[0]] == rows[pair[1]]]


@pytest.mark.parametrize("answers", ["free", "yes_no"])
def test_every_pair_of_cities_differs_in_a_fact(answers: str) -> None:
    game = GuessCity(answers=answers)  # type: ignore[arg-type]
    facts = [question for question in game.questions() if not mentioned(question)]
    rows = {city: tuple(game.answer(question, city) for question in facts) for city in CITIES}
    assert not [pair for pair in combinations(rows, 2) if rows[pair[0]] == rows[pair[1]]]
    assert all("can't" not in rows[city][i] for city in CITIES for i in range(len(facts)) if facts[i][:2] == "Is")


@pytest.mark.parametrize("game", GAMES, ids=str)
def test_every_item_can_be_named_and_nothing_else_is_meant(game: GuessingGame) -> None:
    named = [[item for item in game.starts() if game.names(question, item)] for question in game.questions()]
    assert all(len(items) <= 1 for items in named)
    assert sorted(item for items in named for item in items) == sorted(game.starts())


# Wordle


def test_feedback_by_both_rules() -> None:
    pairs = [("eerie", "crane"), ("crane", "crane"), ("slate", "crane"), ("speed", "abide"), ("allee", "apple")]
    assert [feedback(*pair, "lmrl") for pair in pairs] == [
        "y y y b g",
        "g g g g g",
        "b b g b g",
        "b b y y y",
        "g y y y g",
    ]
    assert [feedback(*pair, "standard") for pair in pairs] == [
        "b b y b g",
        "g g g g g",
        "b b g b g",
        "b b y b y",
        "g y b b g",
    ]


def test_a_game_of_wordle() -> None:
    game = Wordle(instructions=False)
    state = game.begin("crane")
    assert game.opening(state) == "Wordle:\n"
    first = game.play(state, "s l a t e")
    assert (first.reply, first.reward, first.end) == ("b b g b g\n", -1.0, None)
    second = game.play(first.state, "xxxxx")  # no word: an empty line, and a try
    assert (second.reply, second.reward, second.legal, second.state.turns) == ("\n", -1.0, False, 2)
    third = game.play(second.state, "CRANE")
    assert (third.reply, third.reward, third.end) == ("g g g g g\n", 0.0, "won")


def test_six_tries_are_the_task_itself() -> None:
    game = Wordle()
    state = game.begin("crane")
    for number in range(6):
        move = game.play(state, "slate")
        assert move.end == ("lost" if number == 5 else None)
        state = move.state


# Twenty questions


@pytest.mark.parametrize(("k", "expected"), [(1, 0.0), (7, -6.0), (20, -19.0), (None, -20.0)])
def test_returns_of_twenty_questions(k: int | None, expected: float) -> None:
    game = TwentyQuestions()
    state, total = game.begin("dog"), 0.0
    for turn in range(1, 21):
        move = game.play(state, "Is it a dog?" if turn == k else "Is it alive?")
        state, total = move.state, total + move.reward
        if move.end is not None:
            break
    assert (total, move.end, turn) == (expected, "lost" if k is None else "won", k or 20)


@pytest.mark.parametrize(
    ("question", "item", "reply"),
    [
        ("Is it living?", "dog", "Yes.\n"),
        ("is the object an ANIMAL", "dog", "Yes.\n"),
        ("Does it have wheels?", "dog", "No.\n"),
        ("Can it be eaten?", "apple", "Yes.\n"),
        ("Are they trousers?", "pants", "Yes.\n"),
        ("Is it a pair of scissors?", "scissors", "Yes.\n"),
        ("Is it a plane?", "airplane", "Yes.\n"),
        ("Is it a cat?", "dog", "I can't answer that.\n"),
        ("Is it not alive?", "dog", "I can't answer that.\n"),
        ("Is it a dog or a truck?", "dog", "I can't answer that.\n"),
        ("What is it?", "dog", "No.\n"),
        ("", "dog", "No.\n"),
        ("Is " + "very " * 39 + "red?", "apple", "No.\n"),  # 41 words
        ("Is it " + "very " * 37 + "red?", "apple", "Yes.\n"),  # 40 words
    ],
)
def test_replies(question: str, item: str, reply: str) -> None:
    game = TwentyQuestions()
    move = game.play(game.begin(item), question)
    assert move.reply == reply
    assert move.state.turns == 1


def test_a_list_of_objects_is_no_guess() -> None:
    game = TwentyQuestions()
    assert game.play(game.begin("dog"), "Is it a dog, a truck, a piano?").end is None


def test_the_small_game_has_the_ten_objects_of_the_paper() -> None:
    expected = ["football", "dog", "banana", "truck", "pants", "computer", "piano", "chair", "pen", "scissors"]
    assert list(TwentyQuestions(objects="small").starts()) == expected


# Guess my city


@pytest.mark.parametrize(
    ("question", "item", "reply"),
    [
        ("Is it in Europe?", "Paris", "Yes.\n"),
        ("What continent is it on?", "Lima", "South America.\n"),
        ("Is it in America?", "Lima", "I can't answer that.\n"),
        ("Do more than 10 million people live there?", "Paris", "Yes.\n"),
        ("Are there over 20,000,000 people?", "Paris", "No.\n"),
        ("Which language is spoken there?", "Vienna", "German.\n"),
        ("What country is it in?", "Singapore", "I can't answer that.\n"),  # it would name the city
        ("What country is it in?", "Mexico City", "Mexico.\n"),
        ("Has it hosted the Olympics?", "Munich", "Yes.\n"),
        ("Is it south of the equator?", "Nairobi", "Yes.\n"),
        ("Is it north of the equator?", "Nairobi", "No.\n"),
        ("Tell me its name", "Paris", "I can't answer that.\n"),
        ("Is it Paris or London?", "Paris", "I can't answer that.\n"),
        ("Is it Lyon?", "Paris", "I can't answer that.\n"),
        ("Is it London?", "Paris", "No.\n"),
        ("More than ١٠ million?", "Paris", "I can't answer that.\n"),
        ("Are there over 1.2.3 people?", "Paris", "I can't answer that.\n"),
    ],
)
def test_replies_about_cities(question: str, item: str, reply: str) -> None:
    game = GuessCity()
    assert game.play(game.begin(item), question).reply == reply


def test_a_list_of_cities_is_no_guess() -> None:
    game = GuessCity()
    move = game.play(game.begin("Paris"), "Paris, London, Rome")
    assert (move.end, move.reward, move.reply) == (None, -1.0, "I can't answer that.\n")


@pytest.mark.parametrize("guess", ["Is it São Paulo?", "sao paulo", "I think of Sao Paulo!"])
def test_the_name_in_a_text_wins(guess: str) -> None:
    game = GuessCity()
    move = game.play(game.begin("Sao Paulo"), guess)
    assert (move.end, move.reward, move.reply) == ("won", 0.0, "Yes.\n")


def test_open_questions_are_refused_where_answers_are_yes_and_no() -> None:
    game = GuessCity(answers="yes_no")
    assert game.play(game.begin("Lima"), "What continent is it on?").reply == "I can't answer that.\n"


# Players


@pytest.mark.parametrize("game", GAMES, ids=str)
def test_the_expert_wins_without_looking(game: GuessingGame) -> None:
    """Its action depends on what is left, so two items that the answers have not told apart get the same one."""
    totals = returns(game)
    assert min(totals) > -game.limit
    first = {game.best(game.begin(item)) for item in game.starts()}
    assert len(first) == 1


def test_splitting_is_the_optimum_for_ten_objects() -> None:
    game = TwentyQuestions(objects="small")
    best = optimal_total(game, frozenset(game.starts()))
    assert sum(returns(game)) <= best
    assert sum(returns(game)) >= best - 1


def test_the_exact_solver_on_four_items_by_hand() -> None:
    """Four words that tell each other apart at once: the first is right once, then each is known: 0 - 1 - 1 - 1."""
    game = Wordle(vocabulary=4)
    words = list(game.starts())
    assert all(len({feedback(guess, word, "lmrl") for word in words}) == 4 for guess in words[:1])
    assert optimal_total(game, frozenset(words)) == -3.0
    assert sum(returns(game)) == -3.0


@pytest.mark.parametrize("rule", ["lmrl", "standard"])
def test_splitting_is_close_to_the_optimum_of_a_short_wordle(rule: str) -> None:
    game = Wordle(rule=rule, vocabulary=12)  # type: ignore[arg-type]
    best = optimal_total(game, frozenset(game.starts()))
    assert best - 1 <= sum(returns(game)) <= best


def test_an_unknown_item_is_no_start() -> None:
    with pytest.raises(ValueError, match="expected one of 51 items such as football"):
        TwentyQuestions().begin("cat")
    with pytest.raises(ValueError, match="vocabulary 1: expected 2 to"):
        Wordle(vocabulary=1)
