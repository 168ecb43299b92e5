#!/usr/bin/env bash
# Install etcdpy on a bare machine: a virtual environment under a prefix, a system user, a data directory, settings.
# Its hot road is compiled where a C compiler and Python's headers are there (Debian: gcc, python3-dev). That takes a minute;
# it runs without, too, at about twice the loop's time a put. ETCDPY_COMPILE=0 leaves it out.
# Running it again brings everything up to date and changes nothing else: settings and data are kept.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: deploy/install.sh [--prefix DIR] [--user NAME] [--no-user] [--python PROGRAM]

  --prefix DIR       put everything under DIR, for a trial   [default: the file system itself]
  --user NAME        the system user that members run as                  [default: etcdpy]
  --no-user          make no user and change no owner; needs no root
  --python PROGRAM   the Python to build the environment with, 3.11 or newer  [default: python3]

It makes, below the prefix:
  /opt/etcdpy           the environment, with etcdpy, etcdpyctl and etcdpyutl in bin/
  /usr/local/bin        links to the three
  /etc/etcdpy           etcdpy.env (settings, made once) and pki/ (certificates, yours to fill)
  /var/lib/etcdpy       data, for the user alone
TEXT
}

prefix="" user="etcdpy" make_user=1 python="python3"
while [ $# -gt 0 ]; do
    case "$1" in
        --prefix) prefix="${2:?--prefix needs a directory}"; shift ;;
        --user) user="${2:?--user needs a name}"; shift ;;
        --no-user) make_user=0 ;;
        --python) python="${2:?--python needs a program}"; shift ;;
        -h | --help) usage; exit 0 ;;
        *) echo "install.sh: unknown argument $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done
prefix="${prefix%/}"

source_directory="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
opt="$prefix/opt/etcdpy" etc="$prefix/etc/etcdpy" data="$prefix/var/lib/etcdpy" bin="$prefix/usr/local/bin"

say() { printf 'install.sh: %s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is older than 3.11; choose one with --python"
"$python" -c 'import ensurepip' 2>/dev/null || fail "$python has no venv module; on Debian: apt-get install python3-venv"
if [ "$make_user" -eq 1 ] && [ "$(id -u)" -ne 0 ]; then
    fail "only root can make the user $user; or use --no-user"
fi

if [ "$make_user" -eq 1 ] && ! getent passwd "$user" >/dev/null; then
    say "making the system user $user"
    useradd --system --user-group --home-dir /var/lib/etcdpy --no-create-home --shell /usr/sbin/nologin "$user"
fi

if [ ! -x "$opt/bin/python" ]; then
    say "making the environment in $opt"
    mkdir -p "$opt"
    "$python" -m venv "$opt"
fi
say "installing etcdpy into it"
# Built from a copy: a build leaves files beside the source, and an old one's would find their way into the next.
copy="$(mktemp -d)"
trap 'rm -rf "$copy"' EXIT
cp -r "$source_directory"/{setup.py,pyproject.toml,README.md,LICENSE,etcdpy,pki,systemd} "$copy"
pip=("$opt/bin/python" -m pip --quiet --disable-pip-version-check)
"${pip[@]}" wheel --no-deps --wheel-dir "$copy/wheel" "$copy"
"${pip[@]}" install --constraint "$source_directory/constraints.txt" "$copy"/wheel/etcdpy-*.whl
# The version number may stand still while the source moves on, so this package is always put in anew.
"${pip[@]}" install --force-reinstall --no-deps "$copy"/wheel/etcdpy-*.whl

mkdir -p "$bin" "$etc"
for command in etcdpy etcdpyctl etcdpyutl; do
    ln -sfn "$opt/bin/$command" "$bin/$command"
done

install -d -m 0750 "$etc/pki"
install -d -m 0700 "$data"
if [ ! -e "$etc/etcdpy.env" ]; then
    say "putting settings to start from into $etc/etcdpy.env"
    install -m 0640 "$source_directory/deploy/etcdpy.env.example" "$etc/etcdpy.env"
fi
if [ "$make_user" -eq 1 ]; then
    chown "root:$user" "$etc/pki" "$etc/etcdpy.env"
    chown "$user:$user" "$data"
fi

version="$("$opt/bin/etcdpy" --version)"
case "$version" in
    *"compiled with mypyc"*) kind="compiled" ;;
    *) kind="not compiled" ;;
esac
say "installed, $kind: ${version%%$'\n'*}"
