#!/usr/bin/env bash
# What xz -9e reaches on each document by itself: bits per byte, weighted by bytes.
#   launch/quickstart_xz.sh LIST     a file of document names, one a line
set -euo pipefail
total=0 packed=0 documents=0
while IFS= read -r document; do
  total=$((total + $(stat -c %s "$document")))
  packed=$((packed + $(xz -9e -c "$document" | wc -c)))
  documents=$((documents + 1))
done < "$1"
awk -v t="$total" -v p="$packed" -v d="$documents" \
  'BEGIN { printf "xz -9e:\nmean bits per byte %.6f over %d documents, %d bytes\n", 8 * p / t, d, t }'
