#!/bin/sh
# Installs for `make`:
#   sh install.sh python                         prints the path of a suitable Python
#   sh install.sh venv FOLDER REQUIREMENT...     creates or updates a virtual environment
# PYTHON=path sets the interpreter; VERSIONS="3.12" restricts the search; TORCH=cuda|cpu selects the build of torch;
# RESOLUTION=lowest-direct installs the oldest releases that pyproject.toml allows, instead of those of constraints.txt.
set -eu
cd "$(dirname "$0")"
UV_VERSION=0.13.8
CPU_INDEX=https://download.pytorch.org/whl/cpu/torch/
VERSIONS=${VERSIONS:-3.11 3.12 3.13}

say() { printf 'medloop: %s\n' "$*" >&2; }

fail() { # problem, hint
    printf 'medloop: %s\n         %s\n' "$1" "$2" >&2
    exit 2
}

is_suitable() { # the interpreter has one of VERSIONS and can create virtual environments
    "$1" -c 'import sys, venv, ensurepip; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1].split())' \
        "$VERSIONS" 2>/dev/null
}

candidates() {
    for version in $VERSIONS; do
        echo "python$version"
        # pyenv hides a Python until it is selected for the folder
        if folder=$(pyenv prefix "$version" 2>/dev/null); then echo "$folder/bin/python"; fi
    done
    echo python3
    echo python
}

find_python() {
    for candidate in ${PYTHON:-$(candidates)}; do
        if is_suitable "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    seen=${PYTHON:-python3}
    fail "No Python $(echo "$VERSIONS" | sed 's/ /, /g') with a venv module; found $("$seen" --version 2>&1 | head -n 1)." \
        "Install one (Debian, Ubuntu: apt-get install python3 python3-venv), or run make setup PYTHON=/path/to/python3.11."
}

make_venv() { # folder
    if ! "$1/bin/python" -c '' 2>/dev/null; then
        python=$(find_python)
        say "creating $1 with $("$python" --version)"
        "$python" -m venv --clear "$1"
    fi
    echo '*' >"$1/.gitignore"
    if [ "$("$1/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$UV_VERSION" ]; then
        "$1/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
    fi
}

local_wheels() { # folder; uv does not read pip's settings
    for place in ${PIP_FIND_LINKS:-$("$1/bin/python" -m pip config get global.find-links 2>/dev/null || true)}; do
        echo "--find-links $place"
    done
}

is_reachable() { # folder, address; the alarm also ends a name lookup that hangs
    "$1/bin/python" -c 'import signal, sys, urllib.request
signal.alarm(3)
urllib.request.urlopen(sys.argv[1], timeout=3)' "$2" 2>/dev/null
}

torch_options() { # folder
    if [ -n "${TORCH:-}" ]; then echo "--reinstall-package torch --reinstall-package torchvision"; fi
    case ${TORCH:-cpu} in
        cuda) return ;;
        cpu) ;;
        *) fail "TORCH is '$TORCH'." "Use TORCH=cpu or TORCH=cuda." ;;
    esac
    wheels=$(local_wheels "$1")
    # shellcheck disable=SC2086  # several options in one word
    if [ -n "$wheels" ] && "$1/bin/uv" pip install --python "$1" --quiet --dry-run --no-deps --no-index $wheels \
        --reinstall-package torch -c constraints.txt torch 2>/dev/null; then
        say "torch: local wheel"
        echo "$wheels"
    elif is_reachable "$1" "$CPU_INDEX"; then
        say "torch: PyTorch's CPU build"
        echo "--torch-backend cpu"
    else
        say "torch: no CPU build is reachable, so the default one is used (on Linux with gigabytes of CUDA)"
    fi
}

install_into() { # folder, requirements...
    folder=$1
    shift
    rm -f "$folder/.installed"
    options=""
    if [ -n "${RESOLUTION:-}" ]; then
        options="--resolution $RESOLUTION"
    else
        case "$*" in *train*) options=$(torch_options "$folder") ;; esac
        options="--constraints constraints.txt $options"
    fi
    say "installing into $folder (a minute or two the first time)"
    # shellcheck disable=SC2086
    set -- --python "$folder" --build-constraints constraints.txt \
        --reinstall-package medloop $options "$@"
    if [ -t 2 ]; then
        "$folder/bin/uv" pip install "$@"
        touch "$folder/.installed"
    else # without a terminal there is no progress bar, and the list of packages would drown the rest
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
    *) fail "install.sh knows 'python' and 'venv', not '${1:-nothing}'." "Use make: make help." ;;
esac
