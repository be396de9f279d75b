# Sourced by the scripts beside it. Works from the repository's root and keeps everything it makes in .venv and dist.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The first Python that is new enough: $PYTHON if given, else the usual names.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.10 or later is needed; none was found. Say which to use with PYTHON=/path/to/python $0" >&2
    return 1
}

# Make .venv, or keep the one that works. Some systems ship Python without `ensurepip`: there the system's own pip
# puts pip into the environment.
make_venv() {
    if .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        return
    fi
    local python
    python="$(find_python)"
    rm -rf .venv
    if ! "$python" -m venv .venv >/dev/null 2>&1; then
        rm -rf .venv
        "$python" -m venv --without-pip .venv
        "$python" -m pip --python .venv/bin/python install --quiet --disable-pip-version-check pip
    fi
}

# pip of .venv, saying only what goes wrong.
pip_install() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"
}

# Build the wheel from the source tree and print its path.
build_wheel() {
    rm -rf dist
    .venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist . >&2
    echo dist/*.whl
}

# Install the wheel, with the extras named (such as "[test]"): the dependencies where they are missing, and this very
# build of the package even where its version is there already.
install_wheel() {
    local wheel="$1" extras="${2:-}"
    pip_install "$wheel$extras"
    pip_install --no-deps --force-reinstall "$wheel"
}

# Name the step that begins.
step() {
    printf '\n== %s\n' "$*"
}
