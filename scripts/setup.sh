#!/bin/sh
# Makes .venv with everything in it: `make setup TORCH=auto|cpu|cuda PYTHON=...`. Quick when nothing changed.
set -eu
cd "$(dirname "$0")/.."

torch_version=2.13.0
cpu_index=https://download.pytorch.org/whl/cpu
choice=${TORCH:-auto}
stamp=.venv/.ready

say() { echo "setup: $*"; }
stop() {
    echo "setup: $1" >&2
    echo "       $2" >&2
    exit 1
}

case $choice in
    auto | cpu | cuda) ;;
    *) stop "TORCH=$choice is not known" "use TORCH=auto, TORCH=cpu or TORCH=cuda" ;;
esac

# --- Nothing to do? The stamp holds which torch, and where the checkout lay (a venv cannot be moved). -------
had=
root=
if [ -f $stamp ]; then read -r had root <$stamp || true; fi
works() { .venv/bin/python -c 'import pip, sys; sys.exit(sys.prefix == sys.base_prefix)' >/dev/null 2>&1; }

if [ "$root" = "$PWD" ] && { [ "$choice" = auto ] || [ "$choice" = "$had" ]; } &&
    [ ! pyproject.toml -nt $stamp ] && [ ! scripts/setup.sh -nt $stamp ] && works; then
    exit 0
fi

# --- Python, its venv module, room on the disk ---------------------------------------------------------------
system=$(uname -s)
fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

python=
for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
    if fits "$candidate"; then python=$candidate && break; fi
done
if [ -z "$python" ]; then
    mend="sudo apt install python3 python3-venv"
    if [ "$system" = Darwin ]; then mend="brew install python@3.13"; fi
    stop "Python 3.11 or newer is needed${PYTHON:+, and $PYTHON is not it}" \
        "$mend, or make setup PYTHON=/path/to/python3.12"
fi
version=$("$python" -c 'import platform; print(platform.python_version())')

if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    stop "Python $version has no venv module" \
        "sudo apt install python3-venv (or python${version%.*}-venv), or make setup PYTHON=/path/to/another"
fi
if [ "$system" = Darwin ] && [ "$(uname -m)" = x86_64 ]; then
    stop "PyTorch $torch_version is not made for Intel Macs" "use a Mac with Apple silicon, or Linux"
fi

has_gpu() { [ "$system" = Linux ] && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }
case $choice in
    auto) if [ -n "$had" ]; then kind=$had; elif has_gpu; then kind=cuda; else kind=cpu; fi ;;
    *) kind=$choice ;;
esac

need=3
if [ "$kind" = cuda ]; then need=10; fi
free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
if [ ! -d .venv ] && [ "$free" -lt $need ]; then
    stop "$need GB of disk are needed here, $free GB are free" "make room, or clone to another disk"
fi

# --- Where torch comes from ----------------------------------------------------------------------------------
# The thread is what keeps a name server that never answers from holding everything up.
answers() {
    "$python" - "$1" <<'EOF'
import os, sys, threading, urllib.request

def probe():
    try:
        urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=5).close()
    except Exception:
        os._exit(1)
    os._exit(0)

threading.Thread(target=probe, daemon=True).start()
threading.Event().wait(8)
os._exit(1)
EOF
}

from=plain
if [ "$kind" = cpu ] && [ "$system" = Linux ] && answers $cpu_index; then from=cpu_index; fi

say "Python $version ($python), PyTorch for $(if [ "$kind" = cuda ]; then echo CUDA; else echo 'the CPU'; fi)"
if [ "$kind" = cuda ]; then
    say "downloads, unless pip has them: about 3 GB of torch $torch_version with CUDA, and about 270 MB of the rest"
else
    say "downloads, unless pip has them: up to 190 MB of torch $torch_version and about 270 MB of the rest (2 GB on disk)"
fi

# --- Install -------------------------------------------------------------------------------------------------
case $root in "" | unfinished | "$PWD") moved=no ;; *) moved=yes ;; esac
if ! works || [ "${had:-$kind}" != "$kind" ] || [ $moved = yes ]; then
    say "1/3 a new environment in .venv"
    "$python" -m venv --clear .venv
fi
echo "$kind unfinished" >$stamp
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

say "2/3 torch"
if [ $from = cpu_index ]; then
    # Without its dependencies: those come with the rest, from the index that pip is set up to use.
    pip install -qq --no-deps --index-url $cpu_index "torch==$torch_version"
else
    if [ "$kind" = cpu ] && [ "$system" = Linux ]; then
        if pip install -qq --dry-run --report - "torch==$torch_version" | grep -q '"name": "nvidia-'; then
            stop "$cpu_index does not answer, and your package index has torch with CUDA only" \
                "try again when it answers, or make setup TORCH=cuda (about 3 GB; it runs on the CPU too)"
        fi
    fi
    pip install -qq "torch==$torch_version"
fi
say "3/3 the rest"
pip install -qq -e '.[dev]'

echo "$kind $PWD" >$stamp
say "done: .venv/bin/ada --help"
