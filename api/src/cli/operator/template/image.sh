#!/usr/bin/env bash
# Builds the image of a template from Debian packages: a read-only EROFS file system that machines have
# their own disk over. `crownest template build` runs it; by itself it is
#
#   image.sh TEMPLATE FILE SUITE [MIRROR...]
#
# TEMPLATE is base, python, node or python-node, FILE what to write, SUITE a release such as bookworm. MIRROR is
# what mmdebstrap takes for one: a URL, a line of sources.list, or a file of them; without any, Debian's
# own with security updates. In the environment, for whoever wants it:
#
#   CROWNEST_IMAGE_PACKAGES   more packages, separated by commas
#   CROWNEST_IMAGE_CACHE      a folder that keeps packages for the next build
#   TMPDIR                    where there is room for the tree, up to 1 GiB; faster in memory
#
# Root, or user namespaces with a range in /etc/subuid, do for it. The same packages make the same bytes:
# nothing in it tells when or where it was built.
set -euo pipefail

if [ $# -lt 3 ]; then
  echo "image.sh: TEMPLATE, FILE and SUITE are needed" >&2
  exit 2
fi
template=$1 file=$(realpath "$2") suite=$3
shift 3

# What people expect of a system they get to themselves, without what they would have to be root for.
packages=ca-certificates,curl,file,git,jq,less,make,nano,netbase,openssh-client,patch,procps,unzip,xz-utils,zip
# `python` is python3, and pip installs where the user may write.
python=python3,python3-pip,python3-venv,python-is-python3
node=nodejs,npm
case $template in
  base) ;;
  python) packages+=,$python ;;
  node) packages+=,$node ;;
  python-node) packages+=,$python,$node ;;
  *)
    echo "image.sh: there is no recipe for template $template; there are: base python node python-node" >&2
    exit 2
    ;;
esac
packages+=${CROWNEST_IMAGE_PACKAGES:+,$CROWNEST_IMAGE_PACKAGES}

for needed in mmdebstrap:mmdebstrap mkfs.erofs:erofs-utils; do
  if ! PATH=$PATH:/usr/sbin:/sbin command -v "${needed%:*}" >/dev/null; then
    echo "image.sh: there is no ${needed%:*}; install the package ${needed#*:}" >&2
    exit 1
  fi
done
PATH=$PATH:/usr/sbin:/sbin

# Programs that run while packages are installed read it, such as Python's compiler: what it compiles
# then holds for its source's content, not for the time that the file system shows.
export SOURCE_DATE_EPOCH=1735689600

# Runs a program as whoever the tree belongs to: root, or the root of a user namespace.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else mmdebstrap --unshare-helper "$@"; fi
}

work=$(mktemp --directory --tmpdir crownest-image-XXXXXX)
# The root of a user namespace is somebody else here, who has to get in, and to leave things.
if [ "$(id -u)" -ne 0 ]; then chmod 1777 "$work"; fi
tree=$work/tree image=$work/image
trap 'as_root rm -rf "$tree" "$image"; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

options=(--variant=minbase --components=main --include="$packages" --dpkgopt=force-unsafe-io
  # What nobody reads in a sandbox; licenses stay.
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright'
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*'
  --dpkgopt='path-exclude=/usr/share/locale/*'
  --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"')
if [ -n "${CROWNEST_IMAGE_CACHE:-}" ]; then
  mkdir -p "$CROWNEST_IMAGE_CACHE"
  cache=$(printf '%q' "$(realpath "$CROWNEST_IMAGE_CACHE")")
  # shellcheck disable=SC2016 # the hook's own $1
  options+=(--skip=essential/unlink --aptopt='APT::Keep-Downloaded-Packages "true"'
    --setup-hook='mkdir -p "$1/var/cache/apt/archives"'
    --setup-hook="sync-in $cache /var/cache/apt/archives"
    --customize-hook="sync-out /var/cache/apt/archives $cache")
fi

# shellcheck disable=SC2016 # the hooks' own $1
options+=(
  --customize-hook='chroot "$1" groupadd --gid 1000 user'
  --customize-hook='chroot "$1" useradd --uid 1000 --gid user --create-home --shell /bin/bash user'
  --customize-hook='mkdir "$1/workspace" && chown 1000:1000 "$1/workspace"'
  # The network is the host's to set up, and so is the name.
  --customize-hook='cd "$1/etc" && echo sandbox >hostname && : >resolv.conf && chmod 644 hostname resolv.conf'
  --customize-hook='printf "127.0.0.1 localhost sandbox\n::1 localhost ip6-localhost\n" >"$1/etc/hosts"'
  # A sandbox is an environment of its own already: pip need not be kept from it.
  --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED'
)

mmdebstrap --mode=auto --format=directory "${options[@]}" "$suite" "$tree" "$@"

# What is left of building goes: devices, which the kernel makes, logs, locks, and whatever else would tell
# one build from another. A machine's root is mounted nosuid, so nothing has a use for those bits.
# shellcheck disable=SC2016 # the inner shell's own $1
as_root bash -euc '
  cd "$1"
  find dev run tmp var/tmp var/log var/cache var/lib/apt -mindepth 1 ! -type d -delete
  find dev run tmp var/tmp -mindepth 1 -delete
  # apt makes them anew, as whoever it downloads as.
  rmdir var/lib/apt/lists/partial var/cache/apt/archives/partial
  rm -f etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/.pwd.lock etc/subuid- etc/subgid-
  rm -f var/lib/dpkg/*-old var/lib/dpkg/lock* etc/apt/apt.conf.d/99mmdebstrap.bak
  : >etc/machine-id
  find . -xdev -type f -perm /6000 -exec chmod ug-s {} +
' tidy "$tree"

# In blocks of 64 KiB, with no time that tells when it was built, no attributes, and a UUID made of the name.
as_root mkfs.erofs --quiet -zlz4hc -C65536 -x-1 -T"$SOURCE_DATE_EPOCH" \
  -U"$(printf '%s' "crownest $template" | md5sum | sed -E 's/^(.{8})(.{4})(.{4})(.{4})(.{12}).*/\1-\2-\3-\4-\5/')" \
  "$image" "$tree" >&2
cp "$image" "$file"
