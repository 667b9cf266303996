"""Checks of what is large: the embedder, the base, generations, the pointer, merged weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from shlex import quote

from ada_memory.errors import AdaError, NotFound
from ada_memory.service.checkup.finding import Case, Finding, fail, many, ok, size, skipped, warn, worst
from ada_memory.settings import Home, Settings
from ada_memory.sovereign import bases, generations, manifests, shelf
from ada_memory.sovereign.disk import files
from ada_memory.sovereign.manifests import ROOT


def embedder(case: Case) -> Finding:
    """Its weights are there, and those that ship are the official ones."""
    from ada_memory.hippocampus.embedder import DEFAULT, embedder_hash, resolve

    name = case.settings.embedder.name
    if not _is_local(name):
        return skipped(f"{name} comes from the hub: it is fetched when the daemon starts")
    folder = resolve(name)
    where = "as it ships" if folder.name == "model" and name.endswith(DEFAULT) else str(folder)
    return ok(f"{name} ({embedder_hash(folder)}), {where}")


def _is_local(name: str) -> bool:
    from ada_memory.hippocampus.embedder import DEFAULT

    return name.removeprefix("sentence-transformers/") == DEFAULT or Path(name).expanduser().is_dir()


def embedder_now(settings: Settings) -> str:
    """The hash under which vectors are made now; empty for one that is not on this machine."""
    from ada_memory.hippocampus.embedder import embedder_hash, resolve

    name = settings.embedder.name
    return embedder_hash(resolve(name)) if _is_local(name) else ""


def base_folder(home: Home, settings: Settings) -> Path:
    """Where the model lies that a night would load: the base of what serves, else what the settings name."""
    known = _base_hash(home)
    if known:
        return shelf.place(home, known)
    for entry in shelf.entries(home):
        if _names(settings.model.name, entry.hash, entry.sources):
            return shelf.place(home, entry.hash)
    return bases.PACKAGE / "model" if settings.model.name == bases.SEEDLING else Path(settings.model.name)


def _names(name: str, whole: str, known: Iterable[str]) -> bool:
    """Whether `model.name` means the base with this hash, which came by the names that are known."""
    folder = str(Path(name).expanduser().resolve())
    seedling = name.startswith("seedling-") and any(one.startswith("seedling-") for one in known)
    return seedling or name in known or folder in known or (len(name) == 12 and whole.startswith(name))


def _base_hash(home: Home) -> str:
    try:
        name = manifests.active(home)
        return "" if name == ROOT else manifests.base_of(home, name).get("hash", "")
    except AdaError:
        return ""


def folder_size(folder: Path) -> int:
    """Bytes of all its files; 0 if it is not there."""
    return sum(path.stat().st_size for path in files(folder)) if folder.is_dir() else 0


def base(case: Case) -> Finding:
    """The untouched model under the home is whole: by sizes and times, with --deep by every byte."""
    known, name = _base_hash(case.home), case.settings.model.name
    found = {entry.hash: entry for entry in shelf.entries(case.home)}
    meant = [entry for entry in found.values() if _names(name, entry.hash, entry.sources)]
    entry = found.get(known) if known else next(iter(meant), None)
    if entry is None:
        return _no_base(case, known)
    folder = shelf.place(case.home, entry.hash)
    said = f"{name} {entry.hash[:12]}, {size(folder_size(folder))}"
    if case.deep:
        shelf.verify(folder, entry.hash)
        return ok(f"{said}, every byte")
    now = {name: list(look) for name, look in shelf.looks(folder).items()}
    then = {name: list(row[:2]) for name, row in entry.files.items() if name not in shelf.DATA}
    if now != then:
        changed = sorted({name for name in {*now, *then} if now.get(name) != then.get(name)})
        said = f"{folder} does not look as it was put there: {', '.join(changed[:3])}"
        return warn(said, "$ ada doctor --deep   # says whether the bytes are the same")
    return ok(said)


def _no_base(case: Case, known: str) -> Finding:
    name = case.settings.model.name
    if known:
        said = f"{shelf.place(case.home, known)}, the base that the active generation was grown on, is gone"
        return fail(said, "restore that folder from a backup, or `ada reset` to start from the new base")
    folder = Path(name).expanduser()
    if name == bases.SEEDLING or folder.is_dir():
        return ok(f"{name}, to be copied under the home at the first start")
    if "/" in name and not folder.is_absolute() and not name.startswith((".", "~")):
        return skipped(f"{name} comes from the hub: it is fetched at the first start")
    hint = (
        f"set model.name to {bases.SEEDLING}, a folder that exists, or a Hugging Face id such as owner/model"
    )
    return fail(f"there is no model {name!r}", hint)


def lineage(case: Case) -> Finding:
    """Every manifest is sound, every adapter there, every line unbroken; --deep hashes all adapters."""
    home, serves = case.home, _active(case.home)
    names = _generations(home)
    broken: dict[str, str] = {}
    tips = set(names)  # generations that nobody was grown on: their lines are all lines
    for name in names:
        try:
            if case.deep or name == serves:
                generations.read(home, name)
            body = manifests.manifest(home, name)
            tips.discard(str(body["parent"]))
            if not (home.generations / name / "adapter" / "adapter_model.safetensors").is_file():
                broken[name] = f"the adapter of {name} is gone"
        except (AdaError, OSError) as error:
            broken[name] = error.message if isinstance(error, AdaError) else f"{name}: {error}"
    for name in sorted(tips | ({serves} & set(names)) - broken.keys()):
        try:
            manifests.verify_chain(home, name)
        except AdaError as error:
            broken.setdefault(name, error.message)
    mended = (_broken(case, name, said) for name, said in broken.items())
    return worst(mended, f"{len(names)} whole, with unbroken lines" if names else "none yet")


def _broken(case: Case, name: str, said: str) -> Finding:
    """A generation that serves is worse than one of old; a rollback goes to the nearest whole one."""
    restore = f"restore {quote(str(case.home.generations / name))} from a backup"
    if name == _active(case.home):
        return fail(said, f"{restore}, or go back: `ada rollback {_whole(case.home, name)}`")
    return warn(said, f"{restore}; it cannot be rolled back to until then")


def _whole(home: Home, name: str) -> str:
    """The nearest ancestor that can serve."""
    for number in range(manifests.number(name) - 1, 0, -1):
        try:
            generations.read(home, parent := manifests.generation_name(number))
            manifests.verify_chain(home, parent)
        except (AdaError, OSError):
            continue
        return parent
    return ROOT


def _generations(home: Home) -> list[str]:
    folders = home.generations.glob("gen-*") if home.generations.is_dir() else []
    return sorted(path.name for path in folders)


def _active(home: Home) -> str:
    try:
        return manifests.active(home)
    except AdaError:
        return ""


def pointer(case: Case) -> Finding:
    """It names a generation that is there, and that is the one that answers."""
    file = case.home.mind / "active"
    try:
        name = manifests.active(case.home)
        generations.read(case.home, name)
    except NotFound as error:
        name = _active(case.home)
        return fail(f"{file} names {name}: {error.message}", f"$ ada rollback {_whole(case.home, name)}")
    grown_on = manifests.base_of(case.home, name) if name != ROOT else {}
    meant = case.settings.model.name
    if grown_on and not _names(meant, grown_on["hash"], [grown_on.get("name", meant)]):
        said = f"{name} was grown on {grown_on['name']}, but model.name is {meant}: it cannot serve"
        return fail(
            said, f"set model.name to {grown_on['hash'][:12]}, or `ada reset` to start from the new one"
        )
    serves = str((case.status or {}).get("generation") or name)
    if serves != name:
        said = f"{file} names {name}, but {serves} answers"
        return fail(
            said, f"`ada rollback {name}`, or start the daemon again: its log says why {name} could not serve"
        )
    return ok(f"{name}{' answers' if case.status else ''}")


def merged(case: Case) -> Finding:
    """The cache of merged weights: whole for the generation that serves, and nobody else's."""
    name = _active(case.home)
    there = sorted(path.name for path in case.home.merged.glob("gen-*")) if case.home.merged.is_dir() else []
    folder = case.home.merged / name
    if name in there and not ((folder / "config.json").is_file() and any(folder.glob("*.safetensors"))):
        mend = f"$ rm -r {quote(str(folder))}   # base and adapter serve without it"
        return warn(f"{folder} is not whole", mend)
    strangers = [other for other in there if other != name]
    if strangers:
        mends = [f"$ rm -r {quote(str(case.home.merged / other))}" for other in strangers]
        return warn(f"merged weights of {', '.join(strangers)}, which nobody needs", "\n".join(mends))
    if name in there:
        return ok(f"{name}, {size(folder_size(folder))}")
    return ok("none: base and adapter serve" if name != ROOT else "none: the base serves")


def keys(case: Case) -> Finding:
    """The keys of the commitments are their owner's alone."""
    open_ = [
        path
        for name in _generations(case.home)
        if (path := case.home.generations / name / "key").is_file() and path.stat().st_mode & 0o077
    ]
    if open_:
        mend = " ".join(["$ chmod 600", *(quote(str(path)) for path in open_)])
        said = f"{many(len(open_), 'key')} of generations with a mode that lets others read"
        return warn(said, mend)
    return ok("each commitment's key is its owner's alone")
