"""What sentences are made of: where they end, and which words say nothing that lasts.

Text enters; stretches, tokens and word classes leave. A *light* word is one that tells nobody anything
tomorrow: function words, courtesies, judgements, states that pass, and the small change of a day (coffee,
the bus, a nap). A sentence that holds another word, a name or a number is about something. So the lists
can only be too short, and then a remark is kept; what they do not hold is never lost.
"""

from __future__ import annotations

import re
from functools import cache

WORD = re.compile(r"[^\W\d_]+")
END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]+|\n+")
ABBREVIATION = re.compile(
    r"(?:\b(?:dr|mrs?|ms|prof|st|sr|jr|mme|sra?|sig|hr|fr|no|nr|vs|ca|bzw|etc|inc|ltd|approx|dept|tel|str)"
    r"|\be\.g|\bi\.e|\bz\.b|\bd\.h|\b[A-Z]|\b[ap]\.m)\.$",
    re.IGNORECASE,
)
MONTHS = (
    "january february april june july august september october november december januar februar märz "
    "mai juni juli oktober dezember janvier février avril juin juillet août septembre octobre novembre "
    "décembre enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre "
    "gennaio febbraio aprile maggio giugno luglio settembre ottobre dicembre"
)
WEEKDAYS = (
    "monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays "
    "fridays saturdays sundays montag dienstag mittwoch donnerstag freitag samstag sonntag lundi mardi "
    "mercredi jeudi vendredi samedi dimanche lunes martes miércoles jueves viernes sábado domingo "
    "lunedì martedì mercoledì giovedì venerdì sabato domenica"
)
DATES = frozenset(f"{MONTHS} {WEEKDAYS} tomorrow morgen demain mañana domani".split())


def sentences(text: str) -> list[tuple[int, int]]:
    """Where each sentence begins and ends: slices that leave out nothing but white space between them."""
    found: list[tuple[int, int]] = []
    start = 0
    for mark in END.finditer(text):
        if mark[0][0] == "." and _goes_on(text, start, mark.start() + 1):
            continue
        if text[start : mark.end()].strip():
            found.append((start, mark.end()))
            start = mark.end()
    if text[start:].strip():
        found.append((start, len(text)))
    return [_trimmed(text, *ends) for ends in found]


def _goes_on(text: str, start: int, end: int) -> bool:
    """Whether the full stop before `end` belongs to an abbreviation or to an ordinal (14. Juni)."""
    if ABBREVIATION.search(text, max(start, end - 8), end):
        return True
    following = WORD.match(text, end + 1)
    return bool(re.search(r"\b\d{1,2}\.$", text[start:end])) and (
        following is not None and following[0].lower() in DATES
    )


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())


# ---- word classes -----------------------------------------------------------------------------

FUNCTION = {
    "en": """
        a an the i me my mine myself we us our ours you your yours yourself he him his she her hers it
        its they them their one ones this that these those here there who what which where when why how
        am is are was were be been being do does did done doing have has had having will would shall
        should can could may might must and or but so if then than as of at by for from in into on off
        out up down over under about around with without to too very really quite rather pretty much
        many more most lot lots bit little few some any all both each every no not nor none nothing
        something anything everything someone everyone nobody just only still already yet again now
        right today tonight yesterday soon later once ever almost always sometimes maybe perhaps anyway
        also even back away s t m re ve ll d don doesn didn isn aren wasn weren won couldn wouldn
        shouldn haven hasn hadn ain ok okay yes yeah yep yup nope sure well oh ah hey hi hm hmm mm uh um
        ha haha hehe lol please let lets get gets got getting gotten go goes going gone went gonna gotta
        come comes came coming through after before until till while since because like such same other
        another else thing things stuff way kind sort time times moment minute minutes second seconds
        hour hours day days week weeks weekend night nights morning mornings afternoon evening evenings
        noon midnight cannot let's though however whatever enough least finally suddenly currently
        probably certainly home outside inside indoors outdoors last u r k kk yo nah yea uhuh mhm phew
        ugh meh yikes whoops whoopsie jeez geez omg idk tbh imo nvm jk btw fyi cya ttyl np brb gn gm
        rofl lmao xd alright righto roger aye aha eh guys folks everybody mate buddy pal dude bro man
        dear ahead along aside together apart instead either neither whole own self half hundred""",
    "de": """
        ich mich mir mein meine meinen meinem du dich dir dein deine er ihn ihm sie ihr es wir uns unser
        man der die das den dem des ein eine einen einem einer und oder aber doch so zu sehr ganz schon
        noch nur auch mal eben halt ja nein nicht kein keine nichts etwas alles bin bist ist sind seid
        war waren habe hast hat haben hatte hatten werde wird werden wurde kann kannst muss müssen will
        soll möchte in im an am auf aus bei mit nach von vom zum zur für über unter um vor wie was wo
        wer wann warum gerade jetzt heute gestern gleich wieder immer hier da dort tag tage nacht morgen
        abend woche stunde minute zeit mach macht geht gehe gehen ging gegangen komm komme kommt lass
        bitte okay ok na ach oh gut""",
    "fr": """
        je j me m moi mon ma mes tu te t toi ton ta tes il elle on nous vous ils elles le la les l un
        une des du de d et ou mais donc si très trop bien peu plus encore déjà juste aussi ne n pas rien
        tout toute suis es est sommes êtes sont étais était été ai as a avons avez ont avais avait va
        vais allez allons vont à au aux en dans sur sous avec sans pour par chez ce c cet cette ces ça
        cela qui que qu quoi où quand comment pourquoi maintenant hier soir matin nuit jour journée
        heure heures minute temps y oui non merci s se fait envie accord""",
    "es": """
        yo me mi mis mí tú te tu tus él ella nosotros nos ustedes ellos lo la los las le les el un una
        unos unas y o pero pues si sí no muy más menos poco mucho mucha muchas muchos tan ya aún todavía
        solo también nada algo todo soy eres es somos son estoy estás está estamos están era estaba he
        has ha hemos han había voy vas va vamos van a al de del en con sin por para sobre qué que quién
        cómo dónde cuándo ahora hoy ayer noche día tarde hora horas minuto tiempo tengo tienes tiene
        aquí ahí eso esto este esta bien hace acuerdo""",
    "it": """
        io mi me mio mia miei mie tu ti te tuo tua lui lei noi ci voi vi loro lo la gli le il i un uno
        una e o ma però se sì no non molto molta più meno poco tanto tanta così già ancora solo anche
        niente nulla qualcosa tutto sono sei è siamo siete era ero ho hai ha abbiamo avete hanno avevo
        vado vai va andiamo vanno a al di del della da in nel con per su che chi cosa come dove quando
        perché adesso ora oggi ieri sera notte giorno mattina ore minuto tempo qui qua questo questa
        quello bene giornata fa""",
}
COURTESIES = """
    hello hallo hi hey hiya greetings welcome thanks thank thx ty cheers sorry pardon excuse apologies
    bye goodbye farewell congrats congratulations bravo happy merry luck bless pleasure meet talk see
    care appreciate danke vielen schön schöne schönen guten guter gute tschüss entschuldigung gern gerne
    dank servus moin bonjour bonsoir salut merci beaucoup revoir bonne plaît désolé hola buenos buenas
    gracias muchas adiós vale perdón hasta luego pronto saludos ciao buongiorno buonasera grazie mille
    prego scusa arrivederci salve olá obrigado obrigada tchau привет спасибо пока здравствуйте howdy
    aloha ta tysm yw obliged appreciated apologise apologize apology regards kudos hooray hurray woohoo
    yippee bingo touché voilà chapeau compliments wishes wish enjoy fun greeting mahlzeit feierabend
    coucou bisous holi besos ciaociao"""
JUDGEMENTS = """
    good better best bad worse worst nice great cool perfect fine lovely awesome wonderful amazing
    fantastic brilliant excellent superb terrible horrible awful strange weird odd funny hilarious
    boring interesting useful helpful clever smart sweet cute kind rude silly crazy mad insane wild
    beautiful ugly gorgeous delicious tasty yummy disgusting gross true right wrong correct fair exactly
    absolutely definitely totally completely indeed of course obviously seriously honestly literally
    unbelievable incredible impressive disappointing annoying frustrating exciting sad glad proud
    impossible possible easy hard difficult tough big small long short loud quiet slow fast quick
    special normal usual sense deal shame pity joke jokes fun mess nonsense rubbish goodness god gosh
    wow yay ouch oops damn heck hell idea clue worries worry problem problems trouble doubt reason point
    fault life try guess hope hopefully sounds sound looks look seems seem feels smells smell tastes
    such gut super toll klasse prima schlecht schlimm komisch lustig langweilig vrai génial parfait
    drôle dommage bon bonne mal mauvais genial perfecto divertido claro malo bueno buena mala bello
    bella perfetto divertente certo male buono buona news answer answers question questions reply
    response helped helps works worked matters mattered genius legend star hero lifesaver champion rock
    rocks awkward dull pointless fabulous splendid marvellous marvelous neat decent solid lousy pathetic
    ridiculous absurd hideous nasty scary spooky creepy adorable precious fancy classy ace sweetie
    believable reasonable sensible odds surprise surprising refreshing relaxing tiring exhausting
    stressful painful hectic busy quietly peaceful cosy cozy nailed blast blown spot"""
STATES = """
    tired sleepy exhausted knackered wiped beat drained weary awake hungry starving starved thirsty full
    stuffed bored sick ill dizzy unwell sore stiff cold hot warm freezing sweaty wet dry busy free late
    early ready done finished stuck confused puzzled surprised shocked stressed tense nervous anxious
    worried excited thrilled upset angry annoyed grumpy cranky happy unhappy relaxed calm rested
    refreshed lazy drunk hungover lonely sad glad grateful thankful relieved impressed speechless
    curious sure certain afraid open closed empty dead down mood hurry rush headache stomachache fever
    cramp cough müde kaputt hungrig durstig hunger durst krank langweilig gelangweilt langeweile traurig
    froh glücklich gestresst wach fertig kalt heiß spät fatigué fatiguée crevé crevée faim soif sommeil
    malade froid chaud triste content contente heureux heureuse ennuie stressé prêt prête retard cansado
    cansada hambre sed sueño enfermo enferma frío calor contento contenta feliz aburrido aburrida listo
    lista ocupado ocupada agotado agotada stanco stanca fame sete sonno malato malata freddo caldo
    felice annoiato annoiata pronto pronta asleep holiday holidays vacation death drowsy groggy wrecked
    shattered pooped peckish famished ravenous parched nauseous queasy feverish chilly toasty clueless
    restless frustrated irritated furious mad jealous embarrassed ashamed guilty overwhelmed swamped
    behind distracted motivated hyped pumped stoked delighted amused astonished baffled bewildered numb
    itchy congested breathless hoarse wobbly shaky jittery emotional moody homesick nostalgic alive
    dressed soaked drenched breath hiccups flu cramps"""
SMALL_CHANGE = """
    weather rain raining rained rainy rains drizzle snow snowing snowed snowy sun sunny shining shines
    sky cloud clouds cloudy wind windy storm stormy fog foggy grey gray dark bright heat degrees humid
    chilly frost icy thunder coffee tea espresso cappuccino cocoa water juice beer wine drink drinks cup
    snack breakfast lunch dinner supper brunch soup sandwich meal food break breaks pause nap naps rest
    sleep bed shower bath walk stroll run jog swim ride drive hug bus train tram metro taxi traffic
    queue line kettle printer phone internet wifi radio heating battery signal connection screen
    computer laptop window head neck back feet foot legs stomach throat eyes hurts hurt aches ache
    aching hurting killing spinning rumbling mind brain energy stone log wetter regen regnet schnee
    schneit sonne scheint kaffee tee mittagessen frühstück abendessen bett kopf kopfschmerzen weh tut
    temps pluie pleut neige soleil café thé déjeuner dîner tête lit tiempo llueve lluvia nieva sol té
    almuerzo cena desayuno cama cabeza dolor duele tempo piove pioggia nevica sole caffè tè pranzo
    colazione letto testa tv glass bottle mug downpour pouring pours poured howling sunshine breeze
    breezy hail sleet slush muggy mild drizzly blizzard thunderstorm lightning gusty overcast sunset
    sunrise puddles temperature tummy belly shoulder shoulders knee knees arm arms hand hands finger
    fingers tooth teeth ear ears nose voice throbbing growling pounding burning itching toast bread
    butter egg eggs cake cookie cookies biscuit biscuits chocolate pizza pasta rice salad cereal fruit
    dessert snacks tap alarm commute toilet loo fire"""
MOMENTS = """
    slept sleeping overslept napped napping dreamt dreamed dreaming woke woken waking awoke yawned
    yawning ate eaten eating drank drunk drinking finished finishing sat sitting lay lying stood
    standing waited waiting walked walking jogged jogging strolled strolling ran running drove driving
    riding heading headed leaving left arrived arriving returned resting rested relaxing relaxed
    chilling hanging watching watched listening listened reading read scrolling browsing thinking
    thought wondering wondered trying tried testing tested test checking checked looking looked talking
    talked chatting chatted laughing laughed crying cried smiling complain complaining complained
    kidding joking joked freezing starving sweating struggling procrastinating cooking cooked baking
    washing washed showering showered cleaning cleaned tidying tidied ironing working worked saying said
    telling told asking asked feeling felt hoping hoped spent spending flies fly started starting
    geschlafen aufgewacht aufgestanden gegessen getrunken gewartet warte sitze liege esse trinke dormi
    mangé bu réveillé levé dors mange attends dormido comido despertado esperando comiendo durmiendo
    dormito mangiato svegliato aspettando mangiando aspetto spilled spilt spilling burned burnt dropped
    dropping missed missing tripped sneezed sneezing coughed coughing shaved shaving brushed brushing
    packing unpacking sweeping swept vacuuming vacuumed folding folded peeling peeled chopping chopped
    frying fried boiling boiled grilling snoozing snoozed dozed dozing nodded drifting dying melting
    shivering panting staring stared stretching stretched wandering wandered cycling cycled swimming
    swam hurrying rushed rushing queueing queuing parked parking shopping shopped scratching typing
    typed clicking daydreaming celebrating celebrated enjoying enjoyed suffering suffered whining
    ranting venting heard hear hearing saw seen seeing noticed meant"""
INTENTIONS = """
    need want wanna know think mean believe suppose wonder understand agree disagree remember forgot
    forget eat drink sleep hurry leave start stop wait rest stay keep take taking took make making made
    say tell ask help try use put turn call give feel stand bear be find found brauche weiß denke glaube
    meine verstehe hoffe finde liebe mag sais pense crois comprends espère aime besoin faut sé creo
    entiendo espero quiero necesito gusta encanta so penso credo capisco spero voglio devo bisogno piace
    concentrate focus care mind bother worry relax chill hang calm breathe pee vent rant celebrate
    listen watch read walk run talk chat imagine notice expect guess admit reckon figure deserve manage
    survive"""
HOUSEHOLD = """
    kitchen bathroom bedroom house flat apartment room sofa couch chair desk table floor garden balcony
    terrace porch office dishes laundry windows car bike movie film series show episode tv television
    music song podcast book magazine newspaper article door street park bench train station bus stop
    news shop supermarket store groceries shopping hallway stairs yard lawn pool beach café cafe pub bar
    restaurant cinema theatre gym library meeting call email emails inbox message messages plane airport
    hotel taxi platform crowd queue backyard bathtub tub hammock"""
ATTITUDES = frozenset("love loves like likes hate hates enjoy enjoys prefer adore dislike loathe".split())
ALONE = frozenset(  # verbs of the day in the simple present: a habit, not a moment
    "sleep eat drink walk run drive ride cook bake read work watch swim jog wash clean rest smoke".split()
)


@cache
def light(language: str) -> frozenset[str]:
    """The light words of a language; courtesies, judgements and states are looked for in all at once."""
    groups = (FUNCTION[language], FUNCTION["en"], COURTESIES, JUDGEMENTS, STATES, SMALL_CHANGE, MOMENTS)
    return frozenset(" ".join((*groups, INTENTIONS)).split()) | ATTITUDES | ALONE


REGULAR = frozenset("take make use go buy wear cycle travel commute".split())
COURTEOUS = frozenset(COURTESIES.split())
AT_HOME = frozenset(HOUSEHOLD.split())
FLEETING = frozenset(MOMENTS.split())
PASSING = frozenset(f"{JUDGEMENTS} {STATES}".split())
SMALL = frozenset(SMALL_CHANGE.split())
NOT_ADVERBS = frozenset("family belly jelly reply supply assembly butterfly bully holly anomaly".split())
_FUNCTION = {language: frozenset(words.split()) for language, words in FUNCTION.items()}


def guess(words: list[str]) -> str:
    """The language whose function words are most, English if in doubt; `words` in lower case."""
    counts = {language: sum(word in known for word in words) for language, known in _FUNCTION.items()}
    best = max(counts, key=lambda language: counts[language])
    return best if counts[best] > counts["en"] else "en"
