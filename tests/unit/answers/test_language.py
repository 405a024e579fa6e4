from __future__ import annotations

import pytest

from llmrl.answers.language import language


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("What is the capital of France, and how old is it?", "en"),
        ("Was ist die Hauptstadt von Frankreich, und wie alt ist sie?", "de"),
        ("Quelle est la capitale de la France, et pour quand est-ce?", "fr"),
        ("¿Cuál es la capital de Francia y por qué no es Lyon?", "es"),
        ("Qual è la capitale della Francia, e quali sono le più grandi?", "it"),
        ("Qual é a capital de França e por que não é uma cidade do sul?", "pt"),
        ("Столица Франции", "ru"),
        ("法国的首都是哪里？", "zh"),
        ("フランスの首都はどこですか", "ja"),
        ("프랑스의 수도는 어디입니까", "ko"),
        ("Ποια είναι η πρωτεύουσα", "el"),
        ("ما هي عاصمة فرنسا", "ar"),
    ],
)
def test_plain_texts(text: str, name: str) -> None:
    assert language(text) == name


@pytest.mark.parametrize("text", ["", "12+34=46", "Paris", "Xyzzy plugh frobnicate", "Paris 法国 столица France"])
def test_what_is_not_plain_is_not_guessed(text: str) -> None:
    assert language(text) is None
