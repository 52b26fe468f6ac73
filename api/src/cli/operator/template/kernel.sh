#!/usr/bin/env bash
# Fetches a kernel from the Debian packages that this host's apt knows, and unpacks it.
#
#   kernel.sh PACKAGE FOLDER
#
# PACKAGE has a kernel, or depends on the package that does, as linux-image-cloud-amd64 does. FOLDER is empty;
# afterwards it has boot/vmlinuz-RELEASE, and lib/modules/RELEASE or usr/lib/modules/RELEASE. Nothing is installed, and root
# is not needed.
set -euo pipefail
package=$1
cd "$2"

for needed in apt-get:apt dpkg-deb:dpkg; do
  if ! command -v "${needed%:*}" >/dev/null; then
    echo "kernel.sh: there is no ${needed%:*}; name a kernel and its modules by --kernel and --modules" >&2
    exit 1
  fi
done

# What comes first depends on what has it.
for _ in 1 2 3; do
  if ! apt-get --quiet download "$package" >&2; then
    echo "kernel.sh: apt has no package $package, or cannot fetch it; try again after \`apt-get update\`" >&2
    exit 1
  fi
  deb=$(echo ./*.deb)
  dpkg-deb --extract "$deb" .
  if compgen -G 'boot/vmlinuz-*' >/dev/null; then
    rm "$deb"
    exit 0
  fi
  package=$(dpkg-deb --field "$deb" Depends | tr ',' '\n' | sed -n 's/^ *\(linux-image-[^ (|]*\).*/\1/p' | head -n 1)
  rm "$deb"
  if [ -z "$package" ]; then break; fi
done
echo "kernel.sh: there is no kernel in package $1" >&2
exit 1
