#!/usr/bin/env bash
# Makes .venv: the pinned CPU set, or the gpu extra where nvidia-smi finds a GPU. Called by `make .venv`.
# .venv/.complete is written last; a .venv without it is the rest of an install that stopped, and is made anew.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3.11}
TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

stop() {
    printf 'llmrl: install failed: %s\n' "$@" >&2
    exit 1
}

# -qq keeps errors and drops warnings, such as the one for each configured location that does not exist.
pip() { .venv/bin/python -m pip "$@" -qq; }

command -v "$PYTHON" >/dev/null ||
    stop "no $PYTHON on this machine; install Python 3.11 or later, or name yours: make .venv PYTHON=/path/to/python3"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    stop "$PYTHON is $("$PYTHON" --version); expected Python 3.11 or later: make .venv PYTHON=/path/to/python3"

[ -e .venv/.complete ] || rm -rf .venv
if [ ! -d .venv ]; then
    "$PYTHON" -m venv .venv ||
        stop "$PYTHON cannot make a virtual environment; on Debian and Ubuntu: apt-get install $(basename "$PYTHON")-venv"
fi
rm -f .venv/.complete
next="see the message above; \`make .venv\` starts again from nothing. Behind a proxy or mirror set PIP_INDEX_URL or HTTPS_PROXY"

if nvidia-smi >/dev/null 2>&1; then
    echo "llmrl: installing into .venv for this machine's GPU; some minutes and about 10 GB"
    pip install -e '.[gpu,dev]' || stop "$next"
else
    echo "llmrl: installing $(grep -vc '^#' requirements/cpu.txt) pinned packages into .venv; some minutes and about 4 GB"
    torch=$(grep '^torch==' requirements/cpu.txt)
    pip install --no-deps "$torch" 2>/dev/null ||
        pip install --no-deps --extra-index-url "$TORCH_CPU_INDEX" "$torch" ||
        stop "neither the configured package indexes nor $TORCH_CPU_INDEX gave $torch; $next"
    pip install --no-deps -r requirements/cpu.txt || stop "$next"
    pip install --no-deps --no-build-isolation -e . || stop "$next"
    .venv/bin/python -m llmrl.train.extensions || # the first start of several processes would have to wait for it
        echo "llmrl: see the line above; everything but DeepSpeed works" >&2
fi
touch .venv/.complete
echo "llmrl: installed; .venv/bin/llmrl --help"
