set -eu
cd -- "$PARTS"
for part in part-*; do
  cat -- "$part" >>whole
  rm -- "$part"
done
printf '%s  whole\n' "$SUM" | sha256sum --check --status
