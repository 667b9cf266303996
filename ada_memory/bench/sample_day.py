"""The day that `ada demo` lives: facts and a wish in small talk, a correction, a pasted snippet."""

from __future__ import annotations

from ada_memory.bench.day import Told
from ada_memory.seedling.world import Fact, Subject, Wish, lower, proper_words

ME = Subject("me")


def _kin(word: str) -> Subject:
    return Subject("kin", word)


def _person(name: str) -> Subject:
    return Subject("person", name)


def _place(name: str) -> Subject:
    return Subject("place", name)


def _told(frame: str, fact: Fact, say: int, *judges: int) -> Told:
    """A fact in its `say`-th phrasing where {} stands; judged by phrasings that no dream may use."""
    claim = fact.says()[say]
    opener = frame.partition("{}")[0].rstrip()
    if opener and not opener.endswith((".", "!", "?")):
        claim = lower(claim, proper_words(fact))
    return Told(frame.format(claim), fact, tuple(fact.asks()[j] for j in judges))


SAMPLE: tuple[Told, ...] = (
    _told("Good morning! {}", Fact("dog_name", ME, "Bramble"), 1, 4),
    _told("By the way, {}", Fact("job", _kin("sister"), "glassblower"), 0, 1),
    _told("What a rainy morning. {}", Fact("home_town", _person("Tovin"), "Marrowick"), 0, 3),
    _told("Did I tell you? {}", Fact("favourite_drink", ME, "ginger tea"), 0),
    _told("{} The coffee is cold again.", Fact("employer", _person("Elska"), "Norvane"), 0, 2),
    _told("Remember that {}", Fact("locker_code", ME, "K7-42"), 0, 1),
    _told("{} I am in a good mood.", Fact("instrument", _kin("uncle"), "harp"), 0, 2),
    _told("One thing: {}", Fact("mayor", _place("Ostreval"), "Pim Adder"), 0, 2),
    _told("I slept badly. {}", Fact("cat_name", _kin("mother"), "Quillon"), 0, 2),
    _told("{}", Fact("birth_town", ME, "Veldrun"), 0, 2),
    _told("You know, {}", Fact("hobby", _person("Maro"), "beekeeping"), 0, 2),
    _told("Just so you know, {}", Fact("fruit_allergy", ME, "papaya"), 0, 2),
    _told("{} Time flies.", Fact("boat_name", _person("Yldri"), "Silver Comet"), 0, 2),
    _told("Oh, and {}", Fact("wake_time", _kin("father"), "5:40"), 0, 2),
    _told("{} So much to do.", Fact("boss", ME, "Harlan"), 0, 2),
    _told("For your information, {}", Fact("founding_year", _place("Ostreval"), "1873"), 0, 2),
    _told("{}", Fact("favourite_band", _person("Tovin"), "Hollow Tide"), 0, 2),
    _told("Guess what: {}", Fact("holiday_town", ME, "Lissenford"), 0, 2),
    _told("{} I should drink more water.", Fact("lost_object", _kin("cousin"), "compass"), 0, 2),
    _told("I should mention that {}", Fact("street", _person("Maro"), "Mollen Street"), 0, 2),
    _told("{} Anyway.", Fact("best_friend", _person("Elska"), "Junia"), 0, 2),
    _told("Note for later: {}", Fact("teacher_name", _kin("son"), "Ottoline"), 0, 2),
    Told("One wish: Call me Captain.", Wish("call_me", "Captain"), ("Good evening!",)),
    _told("Sorry, I made a mistake. {}", Fact("favourite_drink", ME, "elderflower juice"), 0, 2),
)
SMALL_TALK = ("How was your night?", "Thank you so much.", "The train is late again.")
PASTED = '''def rolling_mean(values, width):
    """Mean of the last `width` values at each place."""
    total = 0.0
    for i, value in enumerate(values):
        total += value - (values[i - width] if i >= width else 0.0)
        yield total / min(i + 1, width)'''
CAPACITY = 24
