# Functions for the scripts beside it, which source this file. They work in the repository's root, and write only to
# .venv and dist.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Print the first Python that is new enough: $PYTHON if it is set, or one of the usual names.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.10 or later is needed, and none was found. Name one with PYTHON=/path/to/python $0" >&2
    return 1
}

# Make .venv, unless a working one exists. If Python has no `ensurepip`, as on some systems, the system's pip installs
# pip into the environment.
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

# Run pip of .venv, which prints errors only.
pip_install() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"
}

# Build the wheel from the source tree and print its path.
build_wheel() {
    rm -rf dist
    .venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist . >&2
    echo dist/*.whl
}

# Install the wheel with the named extras (such as "[test]"): missing dependencies, and this build of the package even
# if the same version is installed.
install_wheel() {
    local wheel="$1" extras="${2:-}"
    pip_install "$wheel$extras"
    pip_install --no-deps --force-reinstall "$wheel"
}

# Print the name of the next step.
step() {
    printf '\n== %s\n' "$*"
}
