"""Settings: `etc/ada.toml` < environment (`ADA_SECTION__KEY`) < flags. Read once, then frozen.

`etc/ada.toml` is written from the models below (`ada config template`), so that it cannot drift.
What leaves is one frozen `Settings`, or a `BadSetting` that names key, value and origin.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from ada_memory.errors import BadSetting

ENV_PREFIX = "ADA_"
DELIMITER = "__"
CHECKOUT = Path(__file__).resolve().parent.parent
SEE_TEMPLATE = "`ada config template` lists every key"
Priority = Literal["idle", "low", "normal"]


class Section(BaseModel):
    """A table of the settings file: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MindSettings(Section):
    """Whose memories these are."""

    id: str = Field(
        "default",
        pattern=r"^[a-z0-9][a-z0-9-]{0,31}$",
        description="Name of the mind; its folder is var/minds/<id>.",
    )


class SocketSettings(Section):
    """Where apps reach the daemon."""

    path: str = Field("", description="The Unix socket (at most 104 bytes); empty means var/run/ada.sock.")
    max_body_bytes: int = Field(4_000_000, ge=1_000, description="Largest request body that is accepted.")
    patience_seconds: float = Field(
        30,
        gt=0,
        le=3600,
        description="Longest that a client may take to send a request, or leave a reply unread.",
    )


class ModelSettings(Section):
    """The base model that the mind grows from."""

    name: str = Field("seedling-2", description="seedling-2, a local folder, or a Hugging Face model id.")
    engine: Literal["auto", "peft", "mlx"] = Field(
        "auto",
        description="What runs the model; auto is mlx on Apple silicon and for 4-bit models, else peft.",
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N.")
    dtype: Literal["auto", "float32", "bfloat16", "nf4"] = Field(
        "auto",
        description="Number format of the weights in memory; nf4 packs the base to 4 bits with bitsandbytes.",
    )
    threads: int = Field(0, ge=0, description="CPU threads, by day and by night; 0 means all cores.")
    max_tokens: int = Field(128, ge=1, description="Longest reply when a request does not say.")
    warm: bool = Field(
        True,
        description="Load model and embedder once the daemon is awake; else when something is first asked of "
        "them.",
    )


class EmbedderSettings(Section):
    """What turns text into vectors."""

    name: str = Field("all-MiniLM-L6-v2", description="A sentence-transformers model, by name or folder.")
    batch_size: int = Field(32, ge=1, description="Texts embedded at a time.")


class RecallSettings(Section):
    """How memories find their way into a conversation by day."""

    top_k: int = Field(4, ge=0, description="Most memories put before a question; 0 turns recall off.")
    min_similarity: float = Field(
        0.3, ge=-1, le=1, description="Cosine below which a memory is not recalled."
    )
    max_chars: int = Field(
        8_000,
        ge=0,
        description="Most characters of memories put before a question; never more than the model can read.",
    )
    exact_below: int = Field(
        50_000,
        ge=0,
        description="Minds up to this many memories are searched exactly, larger ones through Chroma.",
    )


class SalienceSettings(Section):
    """What makes a memory matter."""

    novelty: float = Field(0.5, ge=0, description="Weight of distance to what is known already.")
    importance: float = Field(
        0.5, ge=0, description="Weight of names, numbers, first person and wishes in the text."
    )
    threshold: float = Field(
        0.25, ge=0, le=1, description="Memories below it stay out of the night; rises as the buffer fills."
    )


class RouterSettings(Section):
    """Which memories go to the weights and which are kept word for word."""

    long_chars: int = Field(600, ge=50, description="Longer text is kept verbatim, in passages, for recall.")
    digit_share: float = Field(
        0.25, ge=0, le=1, description="Text with a larger share of digits is kept verbatim."
    )


class SunsetSettings(Section):
    """What starts a night."""

    at: str = Field(
        "02:00",
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$|^$",
        description="Local time of the clock night; empty means never.",
    )
    timezone: str = Field("", description="IANA zone such as Europe/Berlin; empty means the machine's own.")
    capacity: int = Field(
        64, ge=0, description="A night starts when so many memories wait to be learned; 0 means never."
    )
    min_gap_minutes: float = Field(
        30, ge=0, description="Least time between two nights that capacity starts."
    )
    catch_up: bool = Field(True, description="Sleep on waking if the last clock night was missed.")
    capacity_depth: Literal["light", "deep"] = Field(
        "light", description="How deep a night is that capacity starts; the clock's are always deep."
    )
    quiet_seconds: float = Field(
        20, ge=0, description="A light night pauses while somebody asks, and goes on after so much silence."
    )
    priority: Priority = Field(
        "idle",
        description="Which programs a night gives way to: idle to all others, low (nice 19) to nearly all, "
        "normal to none.",
    )


class DreamSettings(Section):
    """How memories become training samples."""

    cycles: int = Field(4, ge=1, description="REM cycles a night.")
    light_cycles: int = Field(2, ge=1, description="REM cycles of a light night.")
    burst: int = Field(16, ge=1, description="Dreams a memory gets in each cycle.")
    temperature: float = Field(1.2, gt=0, description="Above 1: dreams explore.")
    min_p: float = Field(
        0.05, ge=0, le=1, description="Tokens less likely than this share of the best one are never drawn."
    )
    samples_per_memory: int = Field(40, ge=1, description="Accepted, distinct dreams wanted of each memory.")
    accept: float = Field(0.5, ge=0, le=1, description="Verifier's score from which a dream is accepted.")
    rewrites: int = Field(2, ge=0, description="Times a failed dream is rewritten before it is set aside.")
    bridges: int = Field(4, ge=0, description="Dreams a cycle that join two distant memories.")


class ForgeSettings(Section):
    """How an adapter is trained."""

    rank: int = Field(32, ge=1, description="Rank of the adapter.")
    alpha: int = Field(64, ge=1, description="Scale of the adapter: alpha / rank.")
    learning_rate: float = Field(
        2e-3,
        gt=0,
        description="Peak of the cosine schedule; lower in a night that rehearses much, by the root of "
        "the share of what is new.",
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    epochs: int = Field(4, ge=1, description="Most passes over the night's samples.")
    steps: int = Field(
        400, ge=0, description="Steps that a small night takes at least, by up to twice as many passes."
    )
    batch_size: int = Field(8, ge=1, description="Samples a step.")
    core_share: float = Field(
        0.2, ge=0, lt=1, description="Share of the samples that replay the core (identity, safety, skills)."
    )
    rehearse: int = Field(
        5, ge=0, description="Samples an epoch that each memory of earlier nights is rehearsed with."
    )
    neighbours: int = Field(
        4,
        ge=0,
        description="Questions about somebody else, for each new memory, that must change nothing; 0 leaves "
        "out the core's questions about strangers, too.",
    )
    asides: int = Field(
        8,
        ge=0,
        description="Other questions about whom a new memory speaks of (the user, say), which must change "
        "nothing.",
    )
    anchors: int = Field(
        4096, ge=0, description="Core prompts, most of all, on which the model is held to its base."
    )
    anchor_batch: int = Field(8, ge=1, description="Core prompts a step.")
    drift_weight: float = Field(
        8.0,
        ge=0,
        description="Weight of how far the last states on core prompts move from the base's: "
        "what keeps the rest in place.",
    )
    slack: float = Field(
        0.02,
        ge=0,
        description="How far such a state may move before it is pulled back, as a share of its size (both "
        "squared): what is held to the spot stands in the way of what is learned. Less in a night that "
        "rehearses much, by the share of what is new.",
    )
    slack_near: float = Field(
        0.2, ge=0, description="The same for neighbours and asides, which only have to go on saying no."
    )
    clip: float = Field(
        0.3, ge=0, lt=1, description="Share of a question's words that are left out every other time."
    )
    noise: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Noise on what is read in training, as a share of its size: what is learned hangs less "
        "on its wording. Less in a night that rehearses much, by the share of what is new.",
    )
    stop_recall: float = Field(
        0.98, gt=0, le=1, description="Training ends early once recall of the stop phrasings reaches this."
    )
    patience: int = Field(3, ge=1, description="Epochs in a row that must reach it: one may be luck.")
    landing: int = Field(
        2, ge=0, description="Epochs in which the learning rate then falls to zero; 0 ends training there."
    )
    mends: int = Field(
        3,
        ge=0,
        description="How often the memories whose stop phrasing is then not known are gone over once more.",
    )
    mend_rate: float = Field(2e-4, gt=0, description="Peak of the learning rate in that.")
    withhold: str = Field(
        "", description="File of prompts, one a line, that no sample may hold (benchmarks judge with them)."
    )


class TopologySettings(Section):
    """The health check: a new model beyond any of these does not serve."""

    exam_drop: float = Field(0.05, ge=0, description="Largest fall of the exam as a whole.")
    category_drop: float = Field(0.35, ge=0, description="Largest fall of one category of the exam.")
    safety_drop: float = Field(0.15, ge=0, description="Largest fall of identity and of refusals.")
    craft_drop: float = Field(
        0.15, ge=0, description="Largest fall of what it judges right of true and false samples."
    )
    kl: float = Field(0.5, gt=0, description="Largest mean KL to the parent on fixed prompts, in nats.")
    norm_growth: float = Field(
        0.6,
        gt=0,
        description="Largest relative change of one matrix "
        "(Frobenius norm of the update over that of the base).",
    )
    repetition: float = Field(0.2, ge=0, description="Largest share of repeated n-grams in answers.")
    recall: float = Field(0.5, ge=0, le=1, description="Least recall of what the night was to teach.")
    known_drop: float = Field(
        0.1, ge=0, description="Largest fall of recall of what earlier nights taught, two questions aside."
    )


class Settings(Section):
    """Everything that can be set."""

    mind: MindSettings = MindSettings()
    socket: SocketSettings = SocketSettings()
    model: ModelSettings = ModelSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    recall: RecallSettings = RecallSettings()
    salience: SalienceSettings = SalienceSettings()
    router: RouterSettings = RouterSettings()
    sunset: SunsetSettings = SunsetSettings()
    dream: DreamSettings = DreamSettings()
    forge: ForgeSettings = ForgeSettings()
    topology: TopologySettings = TopologySettings()


class Home:
    """Where everything lies. `$ADA_HOME` if set, else the checkout that the package runs from."""

    def __init__(self, root: Path, mind: str = "default") -> None:
        self.root = root
        self.etc = root / "etc"
        self.var = root / "var"
        self.run = self.var / "run"
        self.bases = self.var / "bases"
        self.mind = self.var / "minds" / mind
        self.journal = self.mind / "journal.db"
        self.chroma = self.mind / "chroma"
        self.nights = self.mind / "nights"
        self.generations = self.mind / "generations"
        self.merged = self.mind / "merged"
        self.experiments = self.mind / "experiments.jsonl"

    def socket(self, settings: SocketSettings) -> Path:
        """The path of the daemon's socket."""
        return Path(settings.path) if settings.path else self.run / "ada.sock"


def home_root(env: Mapping[str, str] = os.environ) -> Path:
    """`$ADA_HOME`, else the checkout (where pyproject.toml lies), else `~/.ada`."""
    if env.get("ADA_HOME"):
        return Path(env["ADA_HOME"]).expanduser().resolve()
    if (CHECKOUT / "pyproject.toml").is_file():
        return CHECKOUT
    return Path.home() / ".ada"


def load(
    file: Path | None = None, env: Mapping[str, str] = os.environ, flags: Mapping[str, str] | None = None
) -> Settings:
    """Read the settings: the file, then `ADA_SECTION__KEY`, then flags such as `sunset.at`.

    A file that is not there counts as empty.

    Raises:
        BadSetting: an unknown key or a value that cannot be used; names key, value and origin.
    """
    # Imported here: it takes as long as all the rest, and most who need a section never load one.
    from pydantic_settings import (
        BaseSettings,
        EnvSettingsSource,
        PydanticBaseSettingsSource,
        SettingsConfigDict,
        TomlConfigSettingsSource,
    )

    path = file or home_root(env) / "etc" / "ada.toml"
    ours = _environment(env)
    wanted = _nested(flags or {})

    class Environment(EnvSettingsSource):
        """The variables that were handed in, not the process's own."""

        def _load_env_vars(self) -> Mapping[str, str | None]:
            return {name.lower(): value for name, value in ours.items()}

    class Sources(Settings, BaseSettings):
        """Merges file, environment and flags."""

        model_config = SettingsConfigDict(
            frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter=DELIMITER
        )

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, Environment(settings_cls), toml

    try:
        toml = TomlConfigSettingsSource(Sources, path)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path} is not TOML: {error}", hint="compare with `ada config template`") from None
    except OSError as error:
        hint = f"it is for its owner to read: chmod u+r {path}"
        raise BadSetting(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    for section, table in toml.toml_data.items():
        if not isinstance(table, dict):
            raise BadSetting(
                f"{section} = {table!r} in {path}: keys belong in a section",
                hint=f"put a line such as [sunset] before it; {SEE_TEMPLATE}",
                field=section,
            )
    try:
        # A plain Settings again: one that is copied or sent to a child must not read the environment.
        return Settings(**dict(Sources(**wanted)))
    except ValidationError as error:
        raise _explain(error, path, ours, flags or {}) from None


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that are settings.

    Other names with the same prefix (`ADA_HOME`, or an Ada compiler's `ADA_INCLUDE_PATH`) are left alone.
    """
    ours: dict[str, str] = {}
    for name, value in env.items():
        section, delimiter, _ = name.removeprefix(ENV_PREFIX).lower().partition(DELIMITER)
        if not name.startswith(ENV_PREFIX) or not (delimiter or section in Settings.model_fields):
            continue
        if not delimiter:
            raise BadSetting(
                f"{section} = {value!r} in environment variable {name}: it names a section, not a key",
                hint=f"write {name}{DELIMITER}KEY; {SEE_TEMPLATE}",
                field=section,
            )
        if section not in Settings.model_fields:
            raise _unknown(_dotted(name), value, f"environment variable {name}")
        ours[name] = value
    return ours


def _nested(flags: Mapping[str, str]) -> dict[str, Any]:
    """`{"sunset.at": "03:00"}` as `{"sunset": {"at": "03:00"}}`."""
    nested: dict[str, Any] = {}
    for dotted, value in flags.items():
        section, dot, key = dotted.partition(".")
        if not dot or section not in Settings.model_fields:
            raise _unknown(dotted, value, f"flag --set {dotted}")
        nested.setdefault(section, {})[key] = value
    return nested


def _dotted(name: str) -> str:
    """`ADA_SUNSET__AT` as `sunset.at`."""
    return name.removeprefix(ENV_PREFIX).lower().replace(DELIMITER, ".")


def _unknown(key: str, value: object, source: str) -> BadSetting:
    near = get_close_matches(key, [*_known(), *Settings.model_fields], 1, 0.75)
    hint = f"did you mean {near[0]}? {SEE_TEMPLATE}" if near else SEE_TEMPLATE
    return BadSetting(f"unknown setting {key} = {value!r} in {source}", hint=hint, field=key)


def _known() -> dict[str, FieldInfo]:
    """What is known of each key, by `section.key`."""
    return {
        f"{section}.{key}": info
        for section, values in Settings()
        for key, info in type(values).model_fields.items()
    }


def _explain(
    error: ValidationError, file: Path, env: Mapping[str, str], flags: Mapping[str, str]
) -> BadSetting:
    """One sentence that names the key, the value and where it was read."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    named = {**_of_environment(env), **_of_flags(flags)}
    found = (origin for name, origin in named.items() if f"{name}.".startswith(f"{key}."))
    source = str(next(found, None) or _of_file(file, key))
    if first["type"] == "extra_forbidden":
        return _unknown(key, first["input"], source)
    said = f"{key} = {first['input']!r} in {source}: {first['msg']}"
    info = _known().get(key)
    hint = f"{info.description} The default is {_toml(info.default)}." if info else SEE_TEMPLATE
    return BadSetting(said, hint=hint, field=key)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the value of a setting comes from: `kind`, and the file, variable or flag by its name.

    `line` is the line of the file, from 1; 0 elsewhere.
    """

    kind: Literal["default", "file", "environment", "flag"]
    name: str = ""
    line: int = 0

    def __str__(self) -> str:
        if self.kind == "file":
            return f"{self.name}, line {self.line}" if self.line else self.name
        return {"environment": f"environment variable {self.name}", "flag": f"flag {self.name}"}.get(
            self.kind, "default"
        )


def origins(
    file: Path | None = None, env: Mapping[str, str] = os.environ, flags: Mapping[str, str] | None = None
) -> dict[str, Origin]:
    """Where each setting comes from, by `section.key`, in the template's order; takes what `load` takes.

    Raises:
        BadSetting: as `load` does.
    """
    load(file, env, flags)
    path = file or home_root(env) / "etc" / "ada.toml"
    written = _tables(path.read_text("utf-8")) if path.is_file() else {}
    inside = {f"{section}.{key}" for section, table in written.items() for key in table}
    named = {**_of_environment(_environment(env)), **_of_flags(flags or {})}
    return {
        dotted: named.get(dotted) or (_of_file(path, dotted) if dotted in inside else Origin("default"))
        for dotted in _known()
    }


def _of_environment(env: Mapping[str, str]) -> dict[str, Origin]:
    return {_dotted(name): Origin("environment", name) for name in env}


def _of_flags(flags: Mapping[str, str]) -> dict[str, Origin]:
    return {dotted: Origin("flag", f"--set {dotted}") for dotted in flags}


def _of_file(file: Path, dotted: str) -> Origin:
    """The line of a setting: the file is read line by line until the key is there.

    However the key is written, as `[section]`, dotted or in an inline table, TOML's own parser finds it.
    """
    section, _, key = dotted.partition(".")
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    whole = 0  # the last line at which what was read so far is TOML
    for number in range(1, len(lines) + 1):
        try:
            table = tomllib.loads("\n".join(lines[:number])).get(section)
        except tomllib.TOMLDecodeError:  # in the middle of a value
            continue
        if table is not None and (not key or not isinstance(table, dict) or key.partition(".")[0] in table):
            return Origin("file", str(file), whole + 1)
        whole = number
    return Origin("file", str(file))


def _tables(text: str) -> dict[str, dict[str, Any]]:
    return {name: table for name, table in tomllib.loads(text).items() if isinstance(table, dict)}


def template() -> str:
    """`etc/ada.toml` with every key at its default, one comment each."""
    lines = ["# Ada Memory. Every key is at its default; remove the # before a key to change it.", ""]
    for name, section in Settings():
        lines += [f"# {(section.__doc__ or '').strip()}", f"[{name}]"]
        for key, info in type(section).model_fields.items():
            lines += [f"# {info.description}", f"#{key} = {_toml(info.default)}"]
        lines.append("")
    return "\n".join(lines)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)
