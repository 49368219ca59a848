#!/usr/bin/env bash
# Writes the lock files beside it: every package of every extra by its version and the SHA-256 of its files.
#
# Usage: TORCH_WHEELS=PLACE requirements/lock.sh [--upgrade | --upgrade-package NAME]
#
# Versions that are locked stay, unless pyproject.toml or an option asks for others. All extras are resolved at once, in
# dev.txt, and every other file is a part of it: what is published is what was tested. torch is a file of its own, for
# CPUs or for CUDA, since PyPI has the latter only. TORCH_WHEELS is a folder or a page with the wheel for CPUs.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-.venv/bin}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
torch=$(grep -om1 'torch==[0-9.]*' pyproject.toml)
echo "$torch+cpu" > "$scratch/override"

python=3.11

compile() {  # compile OUTPUT SOURCE [OPTION…]
    local output=$1
    shift
    "$BIN/uv" pip compile --quiet --generate-hashes --python-version "$python" --python-platform x86_64-manylinux_2_36 \
        --annotation-style line --no-emit-index-url --custom-compile-command "make lock" \
        --output-file "requirements/$output" "$@"
    echo "requirements/$output: $(grep -c '==' "requirements/$output") packages"
}

for_cpu=(--override "$scratch/override" --find-links "${TORCH_WHEELS:?a folder or a page with the wheel of $torch+cpu}")
compile dev.txt pyproject.toml --extra dev "${for_cpu[@]}" --no-emit-package torch "$@"
for extra in client gateway mcp otel local export training ray; do
    compile "$extra.txt" pyproject.toml --extra "$extra" "${for_cpu[@]}" --no-emit-package torch \
        --constraint requirements/dev.txt
done
"$BIN/pip" download --quiet --no-deps --find-links "$TORCH_WHEELS" --dest "$scratch" "$torch+cpu"
{
    printf '# The wheel of PyTorch'"'"'s index for CPUs; PyPI has none. Written by: make lock\n%s \\\n' "$torch+cpu"
    "$BIN/pip" hash "$scratch"/torch-*.whl | sed -n 's/^--hash/    --hash/p'
} > requirements/torch-cpu.txt
echo "$torch" | compile torch-cuda.txt - --constraint requirements/dev.txt "$@"
# What model.py of the compact pair hosts, by the Python of Triton's image.
grep -om1 'openvino==[0-9.]*' pyproject.toml | python=3.12 compile triton.txt - --constraint requirements/dev.txt
# What builds the wheel of duovec itself.
grep -o 'setuptools==[0-9.]*' pyproject.toml | sort -u | compile build.txt -
