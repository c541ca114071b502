#!/usr/bin/env bash
# Makes DIR/text/SOURCE/ from Debian packages, one file a document: the Anarchist FAQ by section, the King James Bible by book,
# the Jargon File in parts, Perl's manual by page. Downloads and unpacks without installing anything.
#   launch/quickstart_text.sh DIR
set -euo pipefail
mkdir -p "$1"
cd "$1"
[ -d text ] && { echo "text: $(find text -type f | wc -l) documents are there"; exit 0; }

rm -rf debs unpacked text.tmp
mkdir -p debs unpacked text.tmp/{anarchism,bible,jargon,perl}
packages=(anarchism jargon-text bible-kjv bible-kjv-text perl-doc)
for package in "${packages[@]}"; do
  # A package list that was never fetched knows no candidate.
  apt-cache policy "$package" | grep -q 'Candidate: [0-9]' || {
    if [ "$(id -u)" -eq 0 ]; then apt-get update -qq; else sudo apt-get update -qq; fi
    break
  }
done
# The bible program is run where it lies, so what it is linked with must lie there too.
packages+=("$(apt-cache depends bible-kjv | sed -n 's/.*Depends: \(libreadline[^ ]*\)/\1/p' | head -n 1)")
# The sandbox user of apt-get cannot write here; as root it says so and goes on.
(cd debs && apt-get download -qq "${packages[@]}" 2>&1 | grep -v '^W: Download is performed unsandboxed' || true)
for deb in debs/*.deb; do dpkg-deb -x "$deb" unpacked; done

for file in unpacked/usr/share/doc/anarchism/markdown/*.md.gz; do
  zcat "$file" > "text.tmp/anarchism/$(basename "$file" .md.gz).txt"
done
library=$(find "$PWD/unpacked" -name 'libreadline.so.*' -print -quit)
LD_LIBRARY_PATH=$(dirname "$library") unpacked/usr/bin/bible -d unpacked/usr/lib/bible.data gen1:1-rev22:21 > bible.txt
# A chapter begins with a line of its own, "1 Chronicles 16": a new book where the name changes.
awk '/^([1-3] )?[A-Z][A-Za-z ]* [0-9]+$/ { book = $0; sub(/ [0-9]+$/, "", book); gsub(/ /, "", book) }
     book != "" { print > ("text.tmp/bible/" book ".txt") }' bible.txt
jargon=$(find unpacked -name 'jargon*' -type f -size +100k | head -n 1)
case "$jargon" in
  *.gz) zcat "$jargon" > jargon.txt ;;
  *) cat "$jargon" > jargon.txt ;;
esac
split -C 40000 -d -a 3 jargon.txt text.tmp/jargon/
find unpacked -name '*.pod' | while read -r pod; do
  cp "$pod" "text.tmp/perl/$(basename "$pod" .pod).txt"
done
find text.tmp -type f -size 0 -delete
rm -rf debs unpacked bible.txt jargon.txt
mv text.tmp text
echo "text: $(find text -type f | wc -l) documents, $(du -sh text | cut -f1)"
