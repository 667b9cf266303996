"""Open-vocabulary names: made of subwords, so that no list of them can be learned by heart."""

from __future__ import annotations

import hashlib
from random import Random

_ONSETS = (
    "b bl br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p ph pl pr qu r s sch sh sk sl sm sn st str t th tr"
    " v w y z"
).split() + [""] * 4
_VOWELS = "a e i o u a e i o y ai ea ee ei ia ie io oa oo ou au".split()
_CODAS = (
    "b ck d f g k l ll ld lm m n n nd ng nn nt p r r rd rk rn rt s s ss st sk t tt th v x z".split()
    + [""] * 12
)
_ENDINGS = "a a e i o us is en an in on el ar er or ix ia ea".split()

_REAL_PEOPLE = (
    "Alice Anna Amir Ben Bruno Carla Chen Clara Daniel David Dora Elena Emil Emma Erik Eva Felix Finn Fatima George"
    " Grace Hana Hugo Ida Ivan Jack James Jana John Jonas Julia Kai Karim Kate Lara Lena Leo Liam Lina Lisa Lucas Lucy"
    " Maria Marta Max Mia Mohamed Nadia Nina Nora Olga Oliver Omar Oscar Paul Peter Priya Rosa Robert Ruth Sam Sara"
    " Sofia Stefan Susan Tara Thomas Tim Tom Uma Victor Vera William Yara Yuki Zoe Tobias Ingrid Helga Martin Pablo"
    " Diego Carmen Ravi Anika Bjorn Sven Astrid Freya Mateo Camila Noah Ella Henry Arthur Edith Walter Otto Greta"
).split()
_REAL_TOWNS = (
    "Berlin Paris London Madrid Rome Vienna Prague Oslo Lisbon Dublin Boston Chicago Denver Austin Seattle Toronto"
    " Montreal Sydney Perth Auckland Kyoto Osaka Seoul Mumbai Delhi Cairo Lagos Nairobi Lima Bogota Hamburg Munich"
    " Leipzig Porto Seville Turin Naples Lyon Nice Bristol Leeds York Cork Bergen Malmo Gdansk Krakow Split Graz"
).split()
_REAL_PETS = (
    "Rex Bella Luna Max Charlie Milo Rocky Daisy Coco Buddy Shadow Felix Simba Oreo Pepper Ginger Bruno Socks Biscuit"
    " Waffles Mittens Rusty Sparky Snowy Nemo Fluffy Pickles Mochi Toffee Cookie"
).split()


_TOWN_FRAMES = ("New {}", "Port {}", "Saint {}", "{} Hill", "{} Bay", "Upper {}", "{} Falls")


_UNSEEN_ONSETS = (
    "zh gw vr kn ts dw mb bw fn gn hj kv mn nj pf pt rh shl shm shr skr squ tv vl wr zl zw zv thw scr dj mj tw"
).split()
"""How names begin that growth cannot make: exams and benchmarks are about these."""


_LETTERS = "aeiouylnrstmdgbkphcfvwzjxq"
_OFTEN = [8] * 5 + [3] + [6] * 6 + [4] * 7 + [3] * 3 + [2] * 2 + [1] * 2


def held_out(text: str) -> bool:
    """True for a fixed tenth of all texts."""
    return hashlib.sha256(text.encode()).digest()[0] < 26


def unseen_name(name: str) -> bool:
    """Whether growth cannot have made this name, whole or as one of its words."""
    return name.lower().startswith(tuple(_UNSEEN_ONSETS))


def word(rng: Random) -> str:
    """A pronounceable lower-case word of one to four syllables that is in no dictionary."""
    count = rng.choices((1, 2, 3), (3, 7, 2))[0]
    parts = [rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(count)]
    made = "".join(parts)
    if count == 1 or rng.random() < 0.4:
        made = made.rstrip("aeiouy") + rng.choice(_ENDINGS)
    return made if 3 <= len(made) <= 12 else word(rng)


def _fresh(rng: Random, unseen: bool | None) -> str:
    if unseen:
        coda = rng.choice(_CODAS) + (word(rng) if rng.random() < 0.4 else rng.choice(_ENDINGS))
        return (rng.choice(_UNSEEN_ONSETS) + rng.choice(_VOWELS) + coda).capitalize()[:12]
    return (_odd(rng) if rng.random() < 0.1 else word(rng)).capitalize()


def _odd(rng: Random) -> str:
    """Letters that follow no rule: what is copied may be spelled in any way."""
    made = "".join(rng.choices(_LETTERS, _OFTEN, k=rng.randint(4, 10)))
    return _odd(rng) if unseen_name(made) else made


def person(rng: Random, unseen: bool | None = None) -> str:
    """A name; `unseen` draws one that growth cannot have made."""
    if not unseen and rng.random() < 0.15:
        return rng.choice(_REAL_PEOPLE)
    first = _fresh(rng, unseen)
    return f"{first} {_fresh(rng, unseen)}" if rng.random() < 0.08 else first


def town(rng: Random, unseen: bool | None = None) -> str:
    """A town."""
    if not unseen and rng.random() < 0.15:
        return rng.choice(_REAL_TOWNS)
    drawn = _fresh(rng, unseen)
    return rng.choice(_TOWN_FRAMES).replace("{}", drawn) if rng.random() < 0.08 else drawn


def pet(rng: Random, unseen: bool | None = None) -> str:
    """A pet's name."""
    return rng.choice(_REAL_PETS) if not unseen and rng.random() < 0.15 else _fresh(rng, unseen)


def name(rng: Random, unseen: bool | None = None) -> str:
    """Any other proper name: a surname, a company, a ship."""
    return _fresh(rng, unseen)
