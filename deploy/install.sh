#!/usr/bin/env bash
# Install etcdpy on this host, and make a member of it, without Ansible. The steps are those of the guides: install, make
# the user and the directories, copy certificates, render the unit, enable, start, `member list`. Where something lies is as
# ansible/site.yml has it, so that either can go on with a host of the other. Run again it changes what has changed since.
set -euo pipefail
umask 022

usage() {
    cat <<'TEXT'
Usage: deploy/install.sh [--wheels DIR] [--python PROGRAM] [--prefix DIR]
       deploy/install.sh [...] (--address ADDRESS | --topology FILE) [--node NAME] [--certificates DIR] [--restart] [--wait SECONDS]

The first form installs the program alone, the second a member that systemd runs.

  --wheels DIR        install from these wheels, without a network  [default: build from the sources around this script]
  --python PROGRAM    the Python to build the environment with, 3.11 or newer  [default: python3]
  --prefix DIR        put the program under DIR, for a trial; needs no root
  --address ADDRESS   a cluster of this host alone: where clients reach it
  --topology FILE     a cluster of several hosts, TOML or YAML (docs/systemd.md); run this on each of them
  --node NAME         which member this is  [default: the name of this host]
  --certificates DIR  copy certificates and keys from there  [default: they are where the topology says]
  --restart           restart a running member whose program or unit has changed  [default: say so]
  --wait SECONDS      how long until the cluster must answer; 0: do not ask  [default: 120]

It makes /opt/etcdpy (environment, topology), links in /usr/local/bin, and for a member what `etcdpy systemd` makes: units,
user, /etc/etcdpy, /var/lib/etcdpy. The certificates that NAME needs: ca.pem, NAME.pem, NAME-peer.pem, client.pem, with keys.

Example, one host:
  deploy/install.sh                                           # the program, to make certificates with (or on another host)
  etcdpy pki init --dir pki
  etcdpy pki issue --dir pki --profile server m1 --ip 10.0.0.1 --ip 127.0.0.1 --dns m1 --dns localhost
  etcdpy pki issue --dir pki --profile peer m1-peer --ip 10.0.0.1 --dns m1
  etcdpy pki issue --dir pki --profile client client
  deploy/install.sh --address 10.0.0.1 --node m1 --certificates pki
TEXT
}

wheels="" python="python3" prefix="" address="" topology="" node="" certificates="" restart=0 wait=120
say() { printf 'install.sh: %s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
wrong() { printf 'install.sh: %s\n' "$*" >&2; usage >&2; exit 2; }

while [ $# -gt 0 ]; do
    case "$1" in --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;; esac
    case "$1" in
        -h | --help) usage; exit 0 ;;
        --restart) restart=1 ;;
        --wheels | --python | --prefix | --address | --topology | --node | --certificates | --wait)
            [ -n "${2-}" ] || wrong "$1 needs a value"
            printf -v "${1#--}" %s "$2"
            shift ;;
        *) wrong "unknown argument $1" ;;
    esac
    shift
done
member="$address$topology"
if [ -n "$prefix" ]; then prefix="$(realpath -m "$prefix")"; fi
prefix="${prefix%/}"
opt="$prefix/opt/etcdpy"
venv="$opt/venv"
sources="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
parts=(setup.py pyproject.toml constraints.txt README.md LICENSE etcdpy pki systemd)
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# ---------------------------------------------------------------- faults, before anything is changed

look_for_faults() {
    [ -z "$address" ] || [ -z "$topology" ] || wrong "--address and --topology: one or the other"
    [ -n "$member" ] || [ -z "$node$certificates" ] || wrong "--node and --certificates go with --address or --topology"
    [ -z "$member" ] || [ -z "$prefix" ] || wrong "--prefix is for the program alone; a member belongs to its host"
    [[ $wait =~ ^[0-9]+$ ]] || wrong "--wait needs a number of seconds, not $wait"
    [ "$(id -u)" -eq 0 ] || [ -n "$prefix" ] || fail "only root may install; or put the program elsewhere with --prefix"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        fail "$python is not there, or older than 3.11; choose one with --python"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python has no venv module; on Debian: apt-get install python3-venv"
    if [ -n "$wheels" ]; then
        compgen -G "$wheels/etcdpy-*.whl" >/dev/null || fail "$wheels holds no wheel of etcdpy; make one: pip wheel -w $wheels ."
    else
        [ -f "$sources/pyproject.toml" ] || fail "there are no sources around this script; say where wheels are with --wheels"
    fi
    [ -z "$member" ] || [ -d /run/systemd/system ] || fail "systemd does not run this host; without it: the program alone"
    [ -z "$topology" ] || [ -r "$topology" ] || fail "$topology cannot be read"
    [ -z "$certificates" ] || [ -d "$certificates" ] || fail "$certificates is no directory"
}

# ---------------------------------------------------------------- the program

# What is installed, or is to be: a few letters that change with it.
program_sum() {
    if [ -n "$wheels" ]; then
        (cd "$wheels" && sha256sum -- *.whl)  # as ansible/roles/etcdpy/tasks/install.yml does
    else
        (cd "$sources" && find "${parts[@]}" -type f ! -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum)
        echo "${ETCDPY_COMPILE-} ${ETCDPY_OPTIMIZE-} $(command -v cc || true)"
    fi | sha256sum | cut -c1-16
}

install_program() {
    local installed wheel command
    installed="$opt/installed-$(program_sum)"
    if [ -e "$installed" ] && [ -x "$venv/bin/etcdpy" ]; then return; fi
    changed=program
    if [ ! -x "$venv/bin/python" ]; then
        say "making the environment in $venv"
        mkdir -p "$opt"
        "$python" -m venv --clear "$venv"
    fi
    say "installing etcdpy into it"
    local pip=("$venv/bin/python" -m pip --quiet --disable-pip-version-check)
    if [ -n "$wheels" ]; then
        wheel=etcdpy
        pip_install=("${pip[@]}" install --no-index --find-links "$wheels")
    else
        # Built from a copy: a build leaves files beside the source, and an old one's would find their way into the next.
        mkdir "$work/sources"
        (cd "$sources" && cp -r "${parts[@]}" "$work/sources")
        "${pip[@]}" wheel --no-deps --wheel-dir "$work/wheel" "$work/sources"
        wheel="$(compgen -G "$work/wheel/etcdpy-*.whl")"
        pip_install=("${pip[@]}" install --constraint "$sources/constraints.txt")
    fi
    # The version number may stand still while the program moves on: it is always put in anew, and then what it needs.
    "${pip_install[@]}" --force-reinstall --no-deps "$wheel"
    "${pip_install[@]}" "$wheel"
    mkdir -p "$prefix/usr/local/bin"
    for command in etcdpy etcdpyctl etcdpyutl; do
        ln -sfn "$venv/bin/$command" "$prefix/usr/local/bin/$command"
    done
    rm -f "$opt"/installed-*
    : > "$installed"
    say "installed, $(kind_of_build): $("$venv/bin/etcdpy" --version | head -n 1)"
}

kind_of_build() {
    case "$("$venv/bin/etcdpy" --version)" in
        *"compiled with mypyc"*) echo compiled ;;
        *) echo "not compiled" ;;
    esac
}

# ---------------------------------------------------------------- the member

setting() { sed -n "s/^ETCD_$1=//p" "$settings"; }
unit_setting() { sed -n "s/^$1=//p" "$rendered/etc/systemd/system/etcdpy.service"; }

# Where a file that belongs to TARGET is taken from.
source_of() { if [ -n "$certificates" ]; then echo "$certificates/${1##*/}"; else echo "$1"; fi; }

prepare() {
    local text target
    node="${node:-$(uname -n)}"
    node="${node%%.*}"
    if [ -n "$address" ]; then
        topology="$work/topology.yml"
        printf 'nodes:\n  "%s": {address: "%s"}\n' "$node" "$address" > "$topology"
    fi
    "$venv/bin/etcdpy" systemd render "$topology" --node "$node" --out "$work/rendered" >/dev/null
    rendered="$work/rendered/$node"
    "$venv/bin/etcdpy" systemd certificates "$topology" --node "$node" > "$work/certificates"
    # The faults of the files where they are now, against the URLs of the member, before any is copied.
    settings="$(find "$rendered" -name "$node.env")"
    text="$(cat "$settings")"$'\n'
    while read -r _ target; do
        text="${text//=$target$'\n'/=$(source_of "$target")$'\n'}"
    done < "$work/certificates"
    printf %s "$text" > "$work/here.env"
    "$venv/bin/etcdpy" pki verify --config-file "$work/here.env" --within 1 >&2 || fail "the certificates will not do"
    "$venv/bin/etcdpy" pki verify --cert "$(source_of "$(path_of client_cert)")" --key "$(source_of "$(path_of client_key)")" \
        --ca "$(source_of "$(path_of ca)")" --usage clientAuth --within 1 >&2 || fail "the client's certificate will not do"
}

path_of() { sed -n "s/^$1 //p" "$work/certificates"; }

# put SOURCE TARGET MODE OWNER: a copy in one step, if it is not there already.
put() {
    if cmp -s "$1" "$2" && [ "$(stat -c '%a %U:%G' "$2")" = "$3 $4" ]; then return; fi
    say "putting $2 in place"
    install -D -m "$3" -o "${4%:*}" -g "${4#*:}" "$1" "$2.new"
    mv -f "$2.new" "$2"
}

place_files() {
    local user group role target lines
    systemd-sysusers "$rendered/etc/sysusers.d/etcdpy.conf"
    systemd-tmpfiles --create "$rendered/etc/tmpfiles.d/etcdpy.conf"
    user="$(unit_setting User)" group="$(unit_setting Group)"
    while read -r role target; do
        case "$role" in
            *key) put "$(source_of "$target")" "$target" 600 "$user:$group" ;;
            *) put "$(source_of "$target")" "$target" 644 "root:$group" ;;
        esac
    done < "$work/certificates"
    put "$topology" "$opt/topology.${topology##*.}" 644 root:root
    lines="$("$venv/bin/etcdpy" systemd install "$topology" --node "$node")"
    if [ -n "$lines" ]; then
        say "put these in place:"
        printf '%s\n' "$lines"
    fi
    if grep -q ' restart$' <<< "$lines"; then changed="${changed:+$changed and }unit"; fi
}

start_member() {
    local units=(etcdpy.service etcdpy.target) timer
    for timer in etcdpy-renew.timer etcdpy-backup.timer; do
        if [ -e "$rendered/etc/systemd/system/$timer" ]; then units+=("$timer"); fi
    done
    systemctl enable --quiet "${units[@]}"
    if systemctl is-active --quiet etcdpy.service && [ -n "$changed" ]; then
        if [ "$restart" -eq 1 ]; then
            say "restarting the member"
            systemctl restart --no-block etcdpy.service
        else
            say "$changed changed; while the other members are healthy: systemctl restart etcdpy"
        fi
    fi
    # Not waited for: a first member is ready when enough of the others have come.
    systemctl start --no-block "${units[@]}"
}

list_members() {
    local deadline=$((SECONDS + wait)) state said
    local ctl=("$venv/bin/etcdpyctl" "--endpoints=$(setting ADVERTISE_CLIENT_URLS)" "--cacert=$(path_of ca)"
        "--cert=$(path_of client_cert)" "--key=$(path_of client_key)" --command-timeout=2s)
    [ "$wait" -gt 0 ] || return 0
    until said="$("${ctl[@]}" member list 2>&1)"; do
        state="$(systemctl is-active etcdpy.service || true)"
        if [ "$state" = failed ]; then
            journalctl --unit=etcdpy --lines=5 --output=cat --no-pager >&2
            fail "the member ended; above is the end of its log"
        fi
        [ "$SECONDS" -lt "$deadline" ] ||
            fail "no answer within $wait s (etcdpy.service is $state): ${said##*$'\n'}; have all of $(setting INITIAL_CLUSTER) been started?"
        sleep 0.5
    done
    printf '%s\n' "$said"
}

changed=""
look_for_faults
if [ -n "$certificates" ]; then certificates="$(realpath "$certificates")"; fi
install_program
[ -n "$member" ] || exit 0
prepare
place_files
start_member
list_members
