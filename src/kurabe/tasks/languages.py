"""The language of a task's texts, and how a model is asked in it.

Languages are named by ISO 639-1 codes. English stands for all that are not known here.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from kurabe.tasks.spec import Kind, Prompt
from kurabe.tasks.template import literal

LOOKED_AT: Final = 20_000  # characters
_LEAST_WORDS: Final = 5  # of a language's commonest words, before texts count as written in it
_LEAST_DIFFERENT: Final = 3  # of those: a column of codes may repeat a single "e" or "da"
_LEAST_SHARE: Final = 0.2  # of the letters, for a script
_LISTED_LABELS: Final = 100

# The commonest words that few of the other languages here share.
_COMMON: Final = {
    "en": "the and of to is in that for with it was on are this be not have from by you or at an which",
    "de": "der die das und ist nicht ein eine mit von für auf den dem des zu im sich auch als wird sind oder bei",
    "fr": "le la les et est des une dans pour pas qui sur avec du au ce cette sont par plus nous vous il elle",
    "es": "el los las y es una del con para por que no su se como más pero esta este son fue muy lo",
    "pt": "o os as e é uma do da dos das com para não que em um se por mais como foi ao você são",
    "it": "il gli le e è una di che non per con del della sono un nel alla più come dei questo anche da",
}


class _Wording(NamedTuple):
    """How a language asks: `{name}` is the target, `{labels}` the labels; `comma` and `colon` as it writes them."""

    number: str
    label: str
    among: str
    text: str
    question: str
    comma: str = ", "
    colon: str = ":"


_WORDINGS: Final = {
    "de": _Wording(
        "Schätze den Wert von „{name}“. Antworte nur mit einer Zahl.",
        "Bestimme „{name}“. Antworte nur damit.",
        "Bestimme „{name}“. Antworte nur mit einem davon: {labels}",
        "Gib „{name}“ an und sonst nichts.",
        "Wie lautet „{name}“?",
    ),
    "fr": _Wording(
        "Estime la valeur de « {name} ». Réponds uniquement par un nombre.",
        "Détermine « {name} ». Réponds uniquement par cette valeur.",
        "Détermine « {name} ». Réponds uniquement par l'une de ces valeurs : {labels}",
        "Donne « {name} » et rien d'autre.",
        "Quelle est la valeur de « {name} » ?",
        colon=" :",
    ),
    "es": _Wording(
        "Estima el valor de «{name}». Responde solo con un número.",
        "Determina «{name}». Responde solo con ese valor.",
        "Determina «{name}». Responde solo con uno de estos valores: {labels}",
        "Da «{name}» y nada más.",
        "¿Cuál es el valor de «{name}»?",
    ),
    "pt": _Wording(
        "Estime o valor de “{name}”. Responda apenas com um número.",
        "Determine “{name}”. Responda apenas com esse valor.",
        "Determine “{name}”. Responda apenas com um destes valores: {labels}",
        "Dê “{name}” e nada mais.",
        "Qual é o valor de “{name}”?",
    ),
    "it": _Wording(
        "Stima il valore di «{name}». Rispondi solo con un numero.",
        "Determina «{name}». Rispondi solo con quel valore.",
        "Determina «{name}». Rispondi solo con uno di questi valori: {labels}",
        "Indica «{name}» e nient'altro.",
        "Qual è il valore di «{name}»?",
    ),
    "ja": _Wording(
        "{name}を推定してください。数字だけで答えてください。",
        "{name}を選んでください。それだけを答えてください。",
        "{name}を次の中から一つ選び、それだけを答えてください：{labels}",
        "{name}だけを答えてください。",
        "{name}は何ですか。",
        "、",
        "：",
    ),
    "zh": _Wording(
        "请估计{name}。只回答一个数字。",
        "请判断{name}。只回答结果。",
        "请判断{name}。只回答以下之一：{labels}",
        "只给出{name}，不要输出其他内容。",
        "{name}是什么？",
        "、",
        "：",
    ),
    "ko": _Wording(
        "{name}의 값을 추정하세요. 숫자로만 답하세요.",
        "{name}의 값을 고르세요. 그 값으로만 답하세요.",
        "{name}의 값을 다음 중 하나로 고르고 그것만 답하세요: {labels}",
        "{name}의 값만 답하세요.",
        "{name}의 값은 무엇입니까?",
    ),
}
LANGUAGES: Final = ("en", *_WORDINGS)


def language_of(texts: Iterable[str]) -> str:
    """The language that most of the texts are written in, from their first 20,000 characters.

    >>> language_of(["この商品はとても良いです"]), language_of(["Der Hund ist nicht im Haus, und die Katze auch."])
    ('ja', 'de')
    >>> language_of(["CPU 486 with 8 MB"]), language_of([])
    ('en', 'en')
    """
    text = _head(texts)
    letters = max(sum(map(str.isalpha, text)), 1)
    kana, han, hangul = (len(re.findall(script, text)) for script in ("[ぁ-ヿ]", "[一-鿿]", "[가-힣]"))
    if hangul / letters >= _LEAST_SHARE:
        return "ko"
    if (kana + han) / letters >= _LEAST_SHARE:
        return "ja" if kana / (kana + han) >= 0.1 else "zh"
    words = Counter(re.findall(r"\w+", text.lower()))
    counts = {code: sum(words[word] for word in common.split()) for code, common in _COMMON.items()}
    best = max(counts, key=lambda code: counts[code])
    different = sum(words[word] > 0 for word in _COMMON[best].split())
    written = counts[best] >= _LEAST_WORDS and different >= _LEAST_DIFFERENT
    return best if written and counts[best] > 1.5 * counts["en"] else "en"


def prompt_in(language: str, kind: Kind, target: str, labels: Sequence[str]) -> Prompt | None:
    """A prompt in one of the LANGUAGES for a task that states none; None for English, as contestants have their own."""
    if (wording := _WORDINGS.get(language)) is None:
        return None
    name = target.replace("_", " ")
    if kind == "label" and len(labels) <= _LISTED_LABELS:
        system = wording.among.format(name=name, labels=wording.comma.join(labels))
    else:
        system = {"number": wording.number, "label": wording.label, "text": wording.text}[kind].format(name=name)
    question = wording.question.format(name=name)
    return Prompt(
        system=system,
        user=f"{{{{ input }}}}\n\n{literal(question)}",
        prefill="" if kind == "text" else f"{name}{wording.colon}",
    )


def _head(texts: Iterable[str]) -> str:
    pieces, length = [], 0
    for text in texts:
        pieces.append(text[: LOOKED_AT - length])
        length += len(pieces[-1])
        if length >= LOOKED_AT:
            break
    return "\n".join(pieces)
