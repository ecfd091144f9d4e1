# best.sh FOLDER: the smallest loss of all tasks whose folders are in FOLDER.
set -eu
mkdir -p "$SKERRY_OUTPUT"
sort -g "$1"/*/loss | head -n 1 | tee "$SKERRY_OUTPUT/best"
