"""Where a memory goes: into the weights, word for word into recall, or nowhere. Text enters, a route leaves.

By form alone. What must come back letter by letter (code, commands, addresses, paths, data, logs, keys, long
or number-heavy text) is kept verbatim. A tool's output is data, not something the owner said: verbatim at
most. The model's own words never become memories that train it.
"""

from __future__ import annotations

import json
import re

from ada_memory.records import Kind, Role, Route
from ada_memory.settings import RouterSettings

LOOKED_AT = 6_000  # characters of a piece: its form shows by then, and no pattern is run over more
_TOP = "com|org|net|io|dev|app|gov|edu|info|example|de|fr|es|uk|eu|ch|nl|pl|se|dk|jp|xyz|cloud|local|lan|test"
ADDRESS = re.compile(
    r"(?:\b[a-z][a-z0-9+.-]{0,20}://|\bwww\.|\bmailto:)\S"
    r"|[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}\b"
    rf"|(?<![\w@.-])(?:[a-z0-9-]{{1,63}}\.){{1,4}}(?:(?:{_TOP})\b(?!\()|[a-z]{{2,6}}/\w)"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b|\b(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}\b|\blocalhost:\d",
    re.IGNORECASE,
)
_TYPES = (
    "py|js|ts|tsx|jsx|rs|go|java|cpp|hpp|cs|rb|php|sh|md|txt|pdf|docx?|xlsx?|pptx?|csv|json|ya?ml|toml|ini"
    "|conf|cfg|log"
    "|sql|html?|css|png|jpe?g|gif|svg|mp[34]|wav|mkv|mov|zip|tar|gz|tgz|bak|ipynb|tex|epub|service|desktop"
    "|plist|iso"
)
PATH = re.compile(
    r"(?<![\w/:.])(?:~|\.{1,2})/[\w.@+-]|(?<![\w/:.<])/[\w.@+-]{2,60}/[\w.@+-]"
    rf"|\b[A-Za-z]:\\[\w.]|\\\\\w{{1,60}}\\\w"
    rf"|(?<![\w.])[\w-]{{1,80}}(?:\.[\w-]{{1,20}}){{0,3}}\.(?:{_TYPES})\b"
)
_SHELL = (
    "sudo|git|docker|docker-compose|podman|kubectl|npm|npx|pnpm|pip3?|pipx|rustup|ssh|scp|rsync|sftp|curl"
    "|wget|systemctl"
    "|journalctl|apt-get|dnf|pacman|flatpak|terraform|psql|mysql|sqlite3|redis-cli|ffmpeg|openssl|certbot"
    "|crontab|tmux|chmod"
    "|chown|mkdir|grep|sed|awk|gcc|javac|mvn|gradle|dotnet|pytest|unzip|lsblk|nmap|ifconfig|gcloud|aws|pandoc"
)
_ALSO_WORDS = (  # names that are English too: only with what is nothing but a command
    "(?:brew|apt|yum|snap|yarn|cargo|go|poetry|conda|helm|uv|bundle|gem|composer|rails|make|just) "
    "(?:install|update|upgrade|remove|add|run|build|test|get|mod|sync|shell|create|activate|tap|clean|serve"
    "|server|exec|-\\w)\\b"
    "|(?:cat|cd|cp|mv|rm|ls|less|source|python3?|node|bash|sh|echo|export|tar|kill|find|ln|ping|dig|vim"
    "|nano) "
    '(?:-\\w|["$~.]|\\w*[./*=]\\w)'
)
COMMAND = re.compile(
    r"(?:^|\s)--[a-z][\w-]+(?:[=\s.,;)`]|$)"
    rf"|(?:^[ \t]*(?:[$%>#] )?|[:`$] ?|&& )(?:(?:{_ALSO_WORDS})|(?:{_SHELL}) (?!(?:is|was|are|were|has|does"
    rf"|can|will|and|or|for"
    r"|with|to|the|my|a|in|on|at|that|this|because|from|it|me|us|your|our|some|into)\b)[\w./~@:$\"'-])"
    r"|^[ \t]*[$%] [a-z./]|\w \| (?:grep|sort|head|tail|wc|xargs|less|awk|sed|jq|tee|uniq|cut)\b|\s&& [a-z]"
    r"|2>&1|>/dev/null",
    re.MULTILINE,
)
LOG = re.compile(
    r"^Traceback \(most recent|^[ \t]+at [\w.$<>/]+ ?\(|^[ \t]*File \"[^\"\n]+\", line \d"
    r"|^(?:[\w.]{0,60}\.)?[A-Z]\w{0,60}(?:Error|Exception): "
    r"|^\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d|^\[?\d\d:\d\d:\d\d[\],. ]|^\[?(?:ERROR|WARN|WARNING|INFO|DEBUG"
    r"|FATAL|E|W)[\]:]\s"
    r"|\bpanicked at\b|^Segmentation fault|^panic: |^error(?:\[\w+\])?: |^fatal: |^npm ERR!"
    r"|^[A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \w",
    re.MULTILINE,
)
CODE = re.compile(
    "|".join(
        (
            r"^[ \t]*(?:async )?(?:def \w+ ?[(:]|class [A-Z]\w*\s*[(:{]|(?:pub )?fn \w+[(<]"
            r"|func (?:\([^)\n]*\) )?\w+\()",
            r"^[ \t]*(?:export |default |async )*function ?\w*\(|^#!/|<!DOCTYPE|<\?(?:php|xml)",
            r"^[ \t]*import [\w.]+(?: as \w+|, ?[\w.]+)*;?\s*$|^[ \t]*from [\w.]+ import \w"
            r"|^[ \t]*import .{1,80} from ['\"]",
            r"^[ \t]*(?:export )?(?:const|let|var|val) [\w{\[][\w, }\]:]* ?=|^[ \t]*(?:public|private"
            r"|protected) [\w<>]+ \w",
            r"^[ \t]*(?:#include|using namespace|package \w+;?$|use \w+::|require ['\"(]|local \w+ ?=)",
            r"\bSELECT\b.{1,400}\bFROM\b|\bINSERT INTO\b|\bCREATE (?:TABLE|INDEX|VIEW)\b|\bDELETE FROM\b",
            r"\bUPDATE \w+ SET\b|\bselect .{1,200} from \w+.{0,200}(?:\bwhere\b|\border by\b|\bgroup by\b|;)",
            r"^[ \t]*</?[A-Za-z][\w-]*(?: [^<>\n]*)?/?>|<(\w+)[^<>\n]*>[^<\n]*</\1>",
            r"\b(?:for|while|if|switch) ?\([^\n]{0,200}\) ?\{|^[ \t]*(?:for \w+ in|while|if|else|elif|try"
            r"|with)\b[^\n]*:[ ]*\n[ \t]+\S",
            r"\bfor \w+(?:, ?\w+)? in \w+\([^)\n]*\):|[{}][;,)]*[ \t]*$|\w\)?;[ \t]*(?:\n|$)|\w\([^)\n]*\);"
            r"|=> ?[{(\w]",
            r"\b\w{1,60}\.\w{1,60}\([^)\n]*\)|\b[a-z][a-z0-9]{0,30}(?:_[a-z0-9]{1,30}){1,6}\([^)\n]*\)",
            r"\w ?(?:==|!=|\+=|-=|:=|\|\||&&) ?\w|\w ?(?:===|!==) ?\S"
            r"|^[ \t]*[\w.]{1,60}(?:\[[^\]\n]*\])? ?(?:="
            r"|<-) ?[\w\"'({\[\\$-]",
            r"^[ \t]*\w{1,60}(?:[ \w()\[\]:,]{0,80})? = (?:\[|\w+ ?\[|\\|\()|^[ \t]*\w+ :: |\w <- \w"
            r"|\bdo \|\w+"
            r"|\blambda \w+:|\w->\w+\(?",
            r"^[ \t]*\w{1,60}\([^)\n]*\)\s*$|\$\{?[A-Za-z_]\w*\}?|^[ \t]*\((?:def\w*|let|lambda|setq) "
            r"|\\(?:begin"
            r"|frac|section|textbf)\{",
            r"^[ \t]*(?:if \[{1,2} |(?:fi|done|esac|end);?$)|; then$",
            r"^(?:FROM|RUN|COPY|ENTRYPOINT|CMD|WORKDIR|EXPOSE) \S|^(?:---|\+\+\+) [ab]/|^@@ -\d"
            r"|^=[A-Z]{2,}\(",
            r"^(?:[\d*/,-]+ ){5}\S|^@(?:daily|reboot|hourly|weekly|\w+\()|^[ \t]*[.#]?[\w-]+ ?\{"
            r"|^[ \t]*[\w-]+: [^\n;]{1,80};$",
        )
    ),
    re.MULTILINE | re.DOTALL,
)
INLINE = re.compile(r"```|~~~|`[^`\n]{2,}`")
KEY = re.compile(
    r"(?<![\w-])(?=[\w-]{8,})(?=[\w-]*[A-Za-z])(?=(?:[\w-]*?\d){3})(?!\d+(?:st|nd|rd|th"
    r"|s)?-[a-z]+(?:-[a-z]+)*\b)"
    r"(?!(?:19|20)\d\d)[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*(?![\w-])"
    r"|(?<!\S)(?=\S*\d)(?=\S*[A-Za-z])(?=\S*[@#$%^&*])[^\s,.]{8,80}(?!\S)|#[0-9A-Fa-f]{6}\b"
    r"|\b[A-Z]{2}\d\d(?: ?\w{4}){3,}"
)
MOMENTS = re.compile(
    r"\b\d{1,2}[:.]\d\d(?::\d\d)?\b|\b\d{4}-\d\d-\d\d\b|\b\d{1,2}[./]\d{1,2}[./](?:\d{4}|\d\d)\b"
    r"|\b(?:1[5-9]|20)\d\d(?: ?[-–/] ?(?:(?:1[5-9]|20)\d\d|\d\d))?\b"
)
PHONE = re.compile(r"\+\d[\d ()/.-]{6,}\d|\b\d(?:[ ()/-]{0,2}\d){7,}|\b\d{3}-\d{4}\b|\b0\d{2,5}[ /-]\d{3,}\b")
SHORTEST = 16  # characters: "I'm 44." is short, not number-heavy


def route(  # noqa: PLR0911 - a line a rule, the first that holds decides
    text: str, kind: Kind, role: Role, settings: RouterSettings
) -> tuple[Route, str]:
    """A route and the reason for it, a key of `reasons.VERBATIM` if verbatim; salience is the caller's."""
    if role == "assistant" and kind == "chat":
        return "ignored", "the model's own words"
    if not text.strip():
        return "ignored", "empty"
    if kind == "code":
        return "verbatim", "code"
    if reason := solid(text, settings):
        return "verbatim", reason
    if role in ("assistant", "tool"):
        return "verbatim", "document" if role == "assistant" else "tool"
    if len(text) > settings.long_chars:
        return "verbatim", "long"
    return "weights", "said in words"


def solid(text: str, settings: RouterSettings) -> str:
    """Why a text must be kept letter by letter, whatever its length; empty if it need not."""
    text = text[:LOOKED_AT]
    checks = (  # the first that holds is the reason; data before code, which it looks like
        ("code", lambda: "```" in text or "~~~" in text),
        ("log", lambda: LOG.search(text)),
        ("data", lambda: is_data(text)),
        ("address", lambda: ADDRESS.search(text) and not _mostly_code(text)),
        ("command", lambda: COMMAND.search(text)),
        ("code", lambda: CODE.search(text) or INLINE.search(text)),
        ("path", lambda: PATH.search(text)),
        ("key", lambda: KEY.search(text)),
        ("numbers", lambda: _figures(text, settings.digit_share)),
    )
    return next((reason for reason, holds in checks if holds()), "")


def _mostly_code(text: str) -> bool:
    """An address within code is part of the code."""
    return "\n" in text and len(CODE.findall(text)) > 1


def _figures(text: str, share: float) -> bool:
    bare = MOMENTS.sub(" ", text)
    if PHONE.search(bare):
        return True
    solid_ = [character for character in bare if not character.isspace()]
    digits = sum(character.isdigit() for character in solid_)
    return digits > share * max(len(solid_), SHORTEST)


# ---- data ---------------------------------------------------------------------------------------

_PAIR = re.compile(r"^[\w.\"-]+ ?= ?\S.*$")
_YAML = re.compile(r"^\s*(?:- )?[\w./\"'-]+:(?: .*)?$|^\s*- \S.*$")
_ENV = re.compile(r"^(?:export )?[A-Z][A-Z0-9_]{2,}=\S*$")


def is_data(text: str) -> bool:
    """Whether a text holds JSON, or is lines of a table, of YAML, TOML or settings."""
    if _holds_json(text):
        return True
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or all(_ENV.match(line) for line in lines):
        return bool(lines)
    return len(lines) > 1 and (_is_table(lines) or _is_yaml(lines) or _is_ini(lines))


def is_json(text: str) -> bool:
    """Whether a text is an object or an array of JSON and nothing else."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        return bool(json.loads(text))
    except (json.JSONDecodeError, RecursionError):
        return False


def _holds_json(text: str) -> bool:
    for start in (text.find("{"), text.find("[")):
        if start < 0 or re.search(r"(?:[=(]\s?|\w)$", text[max(start - 2, 0) : start]):  # a value in code
            continue
        try:
            value, _ = json.JSONDecoder().raw_decode(text[start:])
        except (json.JSONDecodeError, RecursionError):
            continue
        if isinstance(value, dict) or len(value) > 1:
            return True
    return False


def _is_table(lines: list[str]) -> bool:
    """Lines with the same separators, as many in each."""
    if sum(line.strip().startswith("|") and line.strip().endswith("|") for line in lines) > 1:
        return True
    for separator, least in (("\t", 1), (";", 1), (",", 1)):
        counts = {line.count(separator) for line in lines}
        if len(counts) == 1 and min(counts) >= least:
            cells = [cell.strip() for line in lines for cell in line.split(separator)]
            # Prose has commas too: cells of a table are short, and no line ends like a sentence.
            if separator == "\t" or (
                max(map(len, cells)) <= 40
                and (len(lines) > 2 or min(counts) > 1)
                and not any(line.rstrip().endswith((".", "!", "?", ",")) for line in lines)
                and (separator == ";" or not any(", " in line for line in lines))
            ):
                return True
    return False


def _is_yaml(lines: list[str]) -> bool:
    if not all(_YAML.match(line) for line in lines):
        return False
    keys = [line for line in lines if re.match(r"^\s*(?:- )?[\w./\"'-]+:(?: |$)", line)]
    nested = any(line.startswith((" ", "\t")) for line in lines[1:])
    nested = nested and any(key.rstrip().endswith(":") for key in keys)
    plain = len(keys) > 1 and all(re.match(r"^\s*(?:- )?[a-z][\w./-]*:", key) for key in keys)
    return bool(keys) and (nested or plain)


def _is_ini(lines: list[str]) -> bool:
    heads = [line for line in lines if re.fullmatch(r"\s*\[{1,2}[\w. \"-]+\]{1,2}\s*", line)]
    pairs = [line for line in lines if _PAIR.match(line)]
    return bool(pairs) and len(heads) + len(pairs) >= max(2, len(lines) * 2 // 3)
