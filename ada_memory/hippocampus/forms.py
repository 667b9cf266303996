"""The forms that sentences take: a wish, a question, a request, a greeting, a remark. Patterns, nothing else.

Sentences are looked at in lower case and without the courtesies around them, unless a pattern says otherwise.
"""

from __future__ import annotations

import re

IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def _any(*groups: str) -> str:
    return rf"(?:{'|'.join(groups)})"


NUMBER = re.compile(
    r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|hundred|thousand)\b"
)
SPAN = re.compile(
    r"\b(?:\d+|an?|one|two|three|five|ten|twenty)[ -](?:more )?(?:minutes?|mins?|seconds?|hours?)\b"
)
WISH = re.compile(  # counts in a question too: "could you call me Jo?"
    r"\b"
    + _any(
        "from now on|don't forget|do not forget|call me(?! (?:back|later|when|a|tomorrow)\\b)|in future"
        "|keep in mind",
        "(?<!do you )(?<!did you )remember (?:that|this|my|i)|i(?:'d| would) like (?:you )?to be (?:called"
        "|addressed)",
        "(?:keep|be|make|stay) (?:it |them |everything |more |less )?"
        "(?:short|brief|simple|formal|polite|concise)",
        "please (?:answer|reply|respond|speak|talk|address|use|keep|be|avoid|always|never)",
        "(?:answer|reply|respond|speak|talk|address) (?:me|to me|only|briefly|in|with|like|as)",
        "write (?:to me |only |always |everything )?(?:only |briefly|in [A-Z]?\\w+(?: |$)|like |with )",
        "(?:give me|keep|make|want|like|prefer) (?:\\w+ ){0,3}(?:answers|replies|responses)",
        "merke? dir|ab jetzt|nenne? mich|vergiss nicht|antworte|rappelle-toi|souviens-toi|appelle-moi"
        "|désormais",
        "réponds|recuerda|llámame|a partir de ahora|responde|ricorda|chiamami|d'ora in poi|rispondi",
    )
    + r"(?![\w'])"
)
HABIT = re.compile(  # holds in a statement only, and only about something
    r"\b(?:remember|always|never(?! mind)|prefer|whenever)\b|^(?:when|if) i (?:say|ask|tell|write|leave"
    r"|greet|am)\b"
    r"|^(?:please |and )?(?:(?:say|use|avoid|greet|stop \w+ing|no more)\b|(?:don't|do not) (?!worry|mention"
    r"|be\b|know)"
    r"|keep (?:it|your|the|every|all|to)|(?:end|start|begin|finish|sign|close) (?:every|each|all|your"
    r"|with))\b"
)
REGULARLY = re.compile(
    r"\b(?:every|each) \w+|\b(?:daily|weekly|nightly|for (?:years|ages|months))\b|\bsince\b"
)
CUE = re.compile(r"^(?:when|whenever|if) i (?:say|ask|tell|write|leave|greet)\b")
EVERY = re.compile(r"\b(?:every|each|all|your)\b")
PLAN = re.compile(r"\b(?:remind me (?:to|about|that|on)|don't let me forget|note to self|note for later)\b")
OWN = frozenset(
    "my mine our ours myself ourselves mein meine meinen meiner meinem unser unsere mon ma mes notre nos mi "
    "mis nuestro nuestra mio mia nostro nostra meu minha nosso nossa мой моя моё наш".split()
)
SELF = frozenset("i we me us ich wir mir mich je j nous yo nosotros io noi eu я мы".split())
VOCATIVE = re.compile(
    r"^(?:hey |hi |hello |ok |okay )?ada\s*[,!:–-]\s*|[,\s]+ada(?=\s*[.!?]*$)", re.IGNORECASE
)
OPENING = re.compile(
    "^"
    + _any(
        "thanks?|thank you|thx|cheers|hello|hi|hey|hiya|good (?:morning|afternoon|evening|night|day)|sorry",
        "bye|goodbye|see you|sounds good|got it|no worries|hallo|danke|bonjour|merci|salut|hola|gracias|ciao",
        "grazie|ok|okay|sure|yes|yeah|yep|no|nope|great|nice|cool|perfect|wow|well|right|fine|oh|ah|actually",
        "haha|lol|by the way|btw|anyway|so|and|but|also|you know|listen|look|please|fyi|just so you know",
    )
    + r"\b(?: \w+)?\s*[,;:!–-]+\s+",
    re.IGNORECASE,
)
GREETING = re.compile(
    r"\b(?:happy|merry) (?:birthday|christmas|easter|new year|holidays|anniversary|\w+day)\b|^(?:hello|hi"
    r"|hey|bye|goodbye"
    r"|good (?:morning|afternoon|evening|night|day)|thanks|thank you|see you|welcome|well done|good luck"
    r"|congratulations"
    r"|nice to|take care|have an?|enjoy|sleep well|my (?:bad|pleasure|god|goodness)|good (?:job|work|point"
    r"|idea)"
    r"|nice (?:job|work|one)|sorry|привет|спасибо|guten|gute|danke|bonjour|bonne|merci|hola|gracias|buen"
    r"|ciao)\b"
)
TAG = re.compile(
    r",\s*(?:(?:is|are|was|were|do|does|did|has|have|ca|wo)n't (?:i|you|he|she|it|we|they)|is (?:he|she|it)"
    r"|right|ok|okay|eh"
    r"|you know(?: (?:how it is|what i mean))?|oder|nicht wahr|n'est-ce pas|verdad"
    r"|vero)\s*[?.!]*$",
    re.IGNORECASE,
)
TOLD = re.compile(
    r"^(?:did (?:you know|i (?:tell you|mention))|have i (?:told you|mentioned)|(?:do|can|could|will"
    r"|would) you "
    r"(?:know|remember|note)(?= that)|i (?:should|must|wanted to|want to|have to) (?:mention|tell you|add)"
    r"|can you believe|guess what)\b[:,]?(?: that)?\s+(?=\S+ \S+)",
    re.IGNORECASE,
)
ASKS = re.compile(
    r"^(?:and |so |but |ok |hey )?(?:(?:what|where|who|why|how|which|whose)(?:'s|s| is| are| was| were| do"
    r"| does| did| can"
    r"| could| should| would| will| has| have| much| many| long| far| old| often| time| about| come| kind"
    r"| to\b)"
    r"|when(?:'s| is| are| do| does| did| was| were| will| can| should)\b"
    r"|(?:can|could|will|would|do|did|does|have|are|were|should|shall|may) (?:you|u|i|we|it|he|she|they)\b"
    r"|(?:is|was|does|did|has) (?:it|this|that|there|he|she|my|the)\b|any (?:idea|chance|news)|what if\b)"
)
REQUEST = re.compile(
    r"^(?:please |now |then |and |just |(?:can|could|would|will) you (?:please )?|i(?:'d"
    r"| would) like you to |i (?:want|need) "
    r"you to )*(?:(?:explain|translate|summari[sz]e|rewrite|rephrase|paraphrase|proofread|reformulate"
    r"|elaborate|google)\b"
    r"|(?:write|tell|give|show|list|find|search|look|make|create|generate|draw|draft|compose|help|fix|check"
    r"|compare"
    r"|calculate|compute|convert|count|describe|define|suggest|recommend|plan|correct|shorten|continue"
    r"|repeat|read|open"
    r"|play|stop|wait|try|go|sum|recap|teach|solve|imagine|pretend|analy[sz]e|review|add|remove|change|sort"
    r"|come up"
    r"|send|spell|pick|choose|turn|put|debug|refactor|improve|book|order|remind|let|do|ask|sing|quiz|test"
    r"|guess|roll|flip|rank|rate|simplify|expand|condense|finish|complete|outline|brainstorm|predict"
    r"|estimate|multiply|divide|subtract|round|name|identify|classify|extract|highlight|edit|polish|verify"
    r"|prove|derive|simulate|act|recite|decode|encode|shuffle|label|grade|interpret|critique|advise|guide"
    r"|walk|talk|be my)"
    r"(?: (?:me|us|it|this|that|these|those|them|the|an?|my|your|some|any|all|up|out|for|to|in|on|at|into"
    r"|by|about"
    r"|another|again|how|what|why|where|who|if|whether|please|with|through|one|two|three|four|five|ten|\d+"
    r"|more|here)\b"
    r"|[.!]*$)|let's|let us|let me)"
    r"|^(?:bitte )?(?:schreibe?|erzähle?|übersetze?|erkläre?|zeige?|gib|fasse?|hilf|such|sag) "
    r"|^(?:écri[st]|raconte|traduis|explique|montre|donne|résume|aide|fais|trouve|dis|cherche)(?:-| |z\b)"
    r"|^(?:escribe|escríbe|cuenta|cuénta|tradu|explica|explíca|muéstra|da|resume|ayúda|haz|di|busca)(?:me"
    r"|ce)?\b"
    r"|^(?:scrivi|racconta|traduci|spiega|mostra|da|riassumi|aiuta|fam|dim|trova)(?:mi)?\b"
)
REMARK = re.compile(  # how something strikes the speaker, and of what only the moment knows
    r"^what an? |^how (?!to\b)\w+[!.]*$|^such an? |^so \w+(?: \w+)?[!.]*$"
    r"|^(?:it|that|this|these|those)(?:'s|'re| is| are| was| were| looks| sounds| seems| smells)"
    r"(?: (?:so|very|really|too|quite|pretty|not|all|just))* \w+[.!]*$"
    r"|^(?:the|this|that|these|those) (?:\w+ )?\w+ (?:is|are|was|were|looks|seems|feels|smells|tastes"
    r"|sounds) "
    r"(?:\w+ )?\w+ (?:again|today|tonight|right now|at the moment|already)[.!]*$"
)
CORRECTS = re.compile(
    r"\b(?:actually|correction|i meant|rather than|no longer|any ?more|scratch that|not \w+ but|instead)\b"
    r"|^(?:no|not), ?\w"
)
DEICTIC = re.compile(
    r"\b(?:today|tonight|right now|at the moment|again|currently|this (?:morning|evening|afternoon))\b"
)
HABITUAL = re.compile(
    r"\b(?:i|we)(?: (?:do not|don't|usually|often|mostly|rarely|only|always|never|sometimes|really"
    r"|also))* (\w+)(.*)"
)
SKILL = re.compile(r"\b(?:i|we) (?:can|can't|cannot) (?:swim|drive|cook|bake|ride|read|run|jog)\b")
JUST_NOW = re.compile(  # what somebody is doing as they write, unless it is what they do for long
    r"^(?:i|we)(?:'m|'re| am| are) (?!.*\b(?:liv|work|study|learn|train|writ|build|dat|sav|expect)ing\b)"
    r"(?:(?:just|still) \w+ing\b|\w+ing\b.*\b(?:right now|now|at the moment)[.!]*$)"
)
IS_A = re.compile(r"^(?!it\b|this\b|that\b|what\b|such\b).+\b(?:is|was|are) an? \w+[.!]*$")
POINTING = re.compile(r"^ (?:(?:it|this|that|these|those|them|you|him|her|the|your|one|to) ?)")
POINTS = re.compile(r"(?:it|that|this|these|those|you|they)\b")
COPULA = re.compile(r"\b(?:am|'m|are|'re|bin|suis|tengo|ho|soy|sono)\b")
IS = re.compile(r"\b(?:is|are|was|were)\b")
THERE = re.compile(
    r"^(?:i|we)(?:'m|'re| am| are| was| were)(?: \w+)? (?:in|at|on|by|off to|back (?:in|at|from)) "
)
