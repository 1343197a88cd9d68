#!/bin/sh
# What `make` installs with:
#   sh install.sh python                         prints a Python that medloop runs on
#   sh install.sh venv FOLDER REQUIREMENT...     makes a virtual environment, or brings one up to date
# PYTHON=path names the interpreter; VERSIONS="3.12" narrows the search; TORCH=cuda|cpu changes the build of torch.
set -eu
cd "$(dirname "$0")"
UV_VERSION=0.13.8
CPU_INDEX=https://download.pytorch.org/whl/cpu/torch/
VERSIONS=${VERSIONS:-3.11 3.12 3.13}

say() { printf 'medloop: %s\n' "$*" >&2; }

fail() { # must, found, hint
    printf '%s\n  found: %s\n  to do: %s\n' "$1" "$2" "$3" >&2
    exit 2
}

suits() { # the interpreter has one of VERSIONS and can make virtual environments
    "$1" -c 'import sys, venv, ensurepip; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1].split())' \
        "$VERSIONS" 2>/dev/null
}

candidates() {
    for version in $VERSIONS; do
        echo "python$version"
        # pyenv keeps a Python off the path until it is chosen for the folder
        if folder=$(pyenv prefix "$version" 2>/dev/null); then echo "$folder/bin/python"; fi
    done
    echo python3
    echo python
}

find_python() {
    for candidate in ${PYTHON:-$(candidates)}; do
        if suits "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    seen=${PYTHON:-python3}
    fail "medloop needs Python $(echo "$VERSIONS" | sed 's/ /, /g') with its venv module" \
        "$("$seen" --version 2>&1 | head -n 1) ($seen)" \
        "install it (Debian, Ubuntu: apt-get install python3 python3-venv) or name it: make setup PYTHON=/path/to/python3.11"
}

make_venv() { # folder
    if ! "$1/bin/python" -c '' 2>/dev/null; then
        python=$(find_python)
        say "making $1 with $("$python" --version)"
        "$python" -m venv --clear "$1"
    fi
    echo '*' >"$1/.gitignore"
    if [ "$("$1/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$UV_VERSION" ]; then
        "$1/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
    fi
}

local_wheels() { # folder; uv reads none of pip's settings
    for place in ${PIP_FIND_LINKS:-$("$1/bin/python" -m pip config get global.find-links 2>/dev/null || true)}; do
        echo "--find-links $place"
    done
}

answers() { # folder, address; the alarm also ends a name look-up that hangs
    "$1/bin/python" -c 'import signal, sys, urllib.request
signal.alarm(3)
urllib.request.urlopen(sys.argv[1], timeout=3)' "$2" 2>/dev/null
}

torch_options() { # folder
    if [ -n "${TORCH:-}" ]; then echo "--reinstall-package torch --reinstall-package torchvision"; fi
    case ${TORCH:-cpu} in
        cuda) return ;;
        cpu) ;;
        *) fail "TORCH must be cpu or cuda" "'$TORCH'" "make setup TORCH=cuda" ;;
    esac
    wheels=$(local_wheels "$1")
    # shellcheck disable=SC2086  # several options in one word
    if [ -n "$wheels" ] && "$1/bin/uv" pip install --python "$1" --quiet --dry-run --no-deps --no-index $wheels \
        --reinstall-package torch -c constraints.txt torch 2>/dev/null; then
        say "torch: the local wheel"
        echo "$wheels"
    elif answers "$1" "$CPU_INDEX"; then
        say "torch: PyTorch's CPU build"
        echo "--torch-backend cpu"
    else
        say "torch: no CPU build is in reach, so the registry's (on Linux that one brings gigabytes of CUDA)"
    fi
}

install_into() { # folder, requirements...
    folder=$1
    shift
    rm -f "$folder/.installed"
    options=""
    case "$*" in *train*) options=$(torch_options "$folder") ;; esac
    say "installing into $folder (a minute or two the first time)"
    # shellcheck disable=SC2086
    set -- --python "$folder" --constraints constraints.txt --build-constraints constraints.txt \
        --reinstall-package medloop $options "$@"
    if [ -t 2 ]; then
        "$folder/bin/uv" pip install "$@"
        touch "$folder/.installed"
    else # without a terminal there is no progress bar, and the list of packages would hide the rest
        { "$folder/bin/uv" pip install "$@" 2>&1 && touch "$folder/.installed"; } | grep -v '^ [-+~] ' >&2 || true
    fi
    [ -e "$folder/.installed" ] || exit 1
}

case ${1:-} in
    python) find_python ;;
    venv)
        shift
        started=$(date +%s)
        make_venv "$1"
        install_into "$@"
        say "$1 is ready after $(($(date +%s) - started)) s"
        ;;
    *) fail "install.sh takes 'python' or 'venv'" "'${1:-nothing}'" "use make: make help" ;;
esac
