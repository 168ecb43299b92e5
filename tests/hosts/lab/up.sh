#!/bin/bash
# Boots a lab of real systemd hosts (systemd-nspawn containers) on a private
# bridge, and writes what a test needs to reach them. Needs root and, on Debian:
#   apt-get install -y --no-install-recommends systemd-container mmdebstrap iproute2 openssh-client
#
#   up.sh            build the root filesystem if it is not cached, boot, wait until ready
#   up.sh --rootfs   only that root filesystem; prints where it is
#   down.sh          stop the same lab (same LAB_DIR)
#
# Settings (environment):
#   LAB_DIR    state of this lab; a short path, since sockets lie in it   /var/tmp/hostlab
#   CACHE_DIR  root filesystems, shared between labs                      /var/cache/hostlab
#   HOSTS      name=address ...                       controller-0..2 = 10.240.0.10..12
#   GATEWAY    the bridge's address and prefix, where ansible and curl run  10.240.0.1/24
#   SUITE, MIRROR, PACKAGES   what is installed in the hosts
#   BEFORE_BOOT  shell text run once the hosts' files are laid out, before they boot; it may
#              write to $LAB_DIR/HOST/upper/...
#   NSPAWN_EXTRA  more options for systemd-nspawn, such as --bind-ro=/some/dir
#   TIMEOUT    seconds to wait for the hosts          60
#   WATCH_PID  when set, the lab stops by itself once that process is gone
#   SYSCTL_RW  network (default): only /proc/sys/net is writable in a host; 1: all of /proc/sys
#              and /sys is, and those reach the whole machine
#
# What it leaves in LAB_DIR:
#   inventory.ini ssh_config known_hosts id_ed25519   for ssh and ansible
#   run CMD...          runs CMD on this machine's files, in the lab's network (ansible, ssh, curl)
#   on HOST CMD...      runs CMD inside HOST as root, without ssh
#   power HOST on|off|cut|reboot
#   HOST/upper          what HOST changed over the shared root filesystem
#   HOST/log            nspawn's own messages and the host's console
#
# Outside LAB_DIR and CACHE_DIR it makes one cgroup, which down.sh removes, and the directory
# /run/systemd/nspawn. The bridge, the virtual cables and the mounts live in namespaces that
# belong to the lab's process, and vanish with it. Two labs with different LAB_DIRs can run
# side by side with the same names and addresses.
set -euo pipefail

LAB_DIR=$(realpath -m "${LAB_DIR:-/var/tmp/hostlab}")
CACHE_DIR=$(realpath -m "${CACHE_DIR:-/var/cache/hostlab}")
HOSTS=${HOSTS:-controller-0=10.240.0.10 controller-1=10.240.0.11 controller-2=10.240.0.12}
GATEWAY=${GATEWAY:-10.240.0.1/24}
SUITE=${SUITE:-bookworm}
# By default, where this machine's own packages come from.
# shellcheck disable=SC2016 # apt fills it in
MIRROR=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)}
PACKAGES=${PACKAGES:-systemd,systemd-sysv,dbus,python3,python3-venv,iproute2,iputils-ping,openssh-server,sudo,procps}
TIMEOUT=${TIMEOUT:-60}
SYSCTL_RW=${SYSCTL_RW:-network}
PREFIX=${GATEWAY#*/}
# A Python venv or pyenv on this machine must not leak into the hosts' shells.
export SUITE MIRROR PACKAGES
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

say() { printf '%s\n' "hostlab: $*" >&2; }
die() { say "$*"; exit 1; }
names() { local h; for h in $HOSTS; do echo "${h%%=*}"; done; }

# Where the version-2 cgroup hierarchy is mounted: /sys/fs/cgroup, or on a machine that
# still has version 1 (as under "hybrid"), /sys/fs/cgroup/unified.
cgroup2_mount() { findmnt -n -t cgroup2 -o TARGET | head -n 1; }

start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
# Whether the process whose number and start time a file holds is still that process.
alive() { local p t; [ -s "$1" ] && read -r p t < "$1" && [ -n "$p" ] && [ "$(start_time "$p")" = "$t" ]; }

# ---------------------------------------------------------------- root filesystem

# Prints the path of a root filesystem for these settings, making it if need be.
rootfs() {
    local key dir
    key=$(printf '%s\n' "$SUITE" "$MIRROR" "$PACKAGES" "$(declare -f make_rootfs)" | sha256sum | cut -c1-12)
    dir=$CACHE_DIR/$SUITE-$key
    mkdir -p "$CACHE_DIR"
    (
        flock 9
        [ -d "$dir" ] && exit 0
        rm -rf "$dir.part"
        say "making $dir"
        # In its own shell, as -e does not hold inside a command that "||" follows.
        bash -euo pipefail -c "$(declare -f make_rootfs); make_rootfs '$dir.part'" > "$dir.log" 2>&1 ||
            die "could not make the root filesystem, see $dir.log"
        mv "$dir.part" "$dir"
    ) 9> "$CACHE_DIR/lock" || return 1
    echo "$dir"
}

make_rootfs() {
    local r=$1
    if command -v mmdebstrap > /dev/null; then
        mmdebstrap --mode=root --variant=minbase --include="$PACKAGES" "$SUITE" "$r" "$MIRROR"
    else
        debootstrap --variant=minbase --include="$PACKAGES" "$SUITE" "$r" "$MIRROR"
        rm -rf "$r"/var/cache/apt/archives/*.deb "$r"/var/lib/apt/lists/*
    fi
    rm -f "$r"/etc/ssh/ssh_host_* "$r/etc/resolv.conf" "$r/etc/hostname"
    : > "$r/etc/machine-id"
    mkdir -p "$r/etc/ssh/sshd_config.d" "$r/etc/systemd/network"
    printf '%s\n' 'HostKey /etc/ssh/ssh_host_ed25519_key' 'PermitRootLogin prohibit-password' \
        'PasswordAuthentication no' 'UseDNS no' > "$r/etc/ssh/sshd_config.d/hostlab.conf"
    # The operator who is not root, as on a cloud image.
    chroot "$r" useradd --create-home --shell /bin/bash ops
    echo 'ops ALL=(ALL) NOPASSWD: ALL' > "$r/etc/sudoers.d/ops"
    chmod 0440 "$r/etc/sudoers.d/ops"
    # systemd-networkd brings up host0, so that network-online.target means what it says.
    chroot "$r" systemctl enable systemd-networkd.service systemd-networkd-wait-online.service
    # Timers and consoles that have no work here.
    chroot "$r" systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
        e2scrub_all.timer fstrim.timer console-getty.service getty@tty1.service
}

# Writes what is HOST's own into its upper layer, before its first boot.
prepare_host() {
    local name=$1 addr=$2 u=$LAB_DIR/$1/upper h
    mkdir -p "$u" "$LAB_DIR/$name/work" "$LAB_DIR/$name/root"
    install -d -m 0755 "$u/etc" "$u/etc/ssh" "$u/etc/systemd" "$u/etc/systemd/network" "$u/etc/systemd/system"
    install -d -m 0700 "$u/root" "$u/root/.ssh"
    install -m 0600 "$LAB_DIR/id_ed25519.pub" "$u/root/.ssh/authorized_keys"
    install -d -m 0755 "$u/home"
    h=$u/home/ops
    install -d -m 0755 -o 1000 -g 1000 "$h"
    install -d -m 0700 -o 1000 -g 1000 "$h/.ssh"
    install -m 0600 -o 1000 -g 1000 "$LAB_DIR/id_ed25519.pub" "$h/.ssh/authorized_keys"
    echo "$name" > "$u/etc/hostname"
    printf '%s' "$LAB_DIR/$name" | md5sum | cut -c1-32 > "$u/etc/machine-id"
    {
        echo '127.0.0.1 localhost'
        for h in $HOSTS; do echo "${h#*=} ${h%%=*}"; done
    } > "$u/etc/hosts"
    printf '%s\n' '[Match]' 'Name=host0' '[Network]' "Address=$addr/$PREFIX" "Gateway=${GATEWAY%/*}" \
        'LinkLocalAddressing=no' 'IPv6AcceptRA=no' > "$u/etc/systemd/network/10-host0.network"
    ssh-keygen -q -t ed25519 -N '' -C "root@$name" -f "$u/etc/ssh/ssh_host_ed25519_key"
    echo "$addr,$name $(cut -d' ' -f1,2 "$u/etc/ssh/ssh_host_ed25519_key.pub")" | sed 's/,/ /' |
        awk '{print $1","$2, $3, $4}' >> "$LAB_DIR/known_hosts"
}

# ---------------------------------------------------------------- the lab's own process

# Process 1 of the lab's namespaces: holds them, and every host under it. When it ends,
# by whatever signal, the kernel ends the hosts and takes the mounts and cables away.
lab_main() {
    local h
    mount -t tmpfs -o mode=755 tmpfs /run/systemd/nspawn
    # nspawn looks here; with version 2 alone it leaves the machine's version 1 trees be.
    [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup
    ip link set lo up
    ip link add br0 type bridge
    ip addr add "$GATEWAY" dev br0
    ip link set br0 up
    for h in $HOSTS; do host_loop "${h%%=*}" & done
    touch "$LAB_DIR/started"
    wait
}

# Keeps one host: starts it, starts it again when it reboots, and waits while it is off.
host_loop() {
    local name=$1 d=$LAB_DIR/$1 cg=/sys/fs/cgroup/$LAB_CGROUP/$1 pid rc
    mount -t overlay overlay -o "lowerdir=$ROOTFS,upperdir=$d/upper,workdir=$d/work" "$d/root"
    while :; do
        while [ -e "$d/off" ]; do sleep 0.1; done
        mkdir -p "$cg"
        (
            echo 0 > "$cg/cgroup.procs"
            export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=$SYSCTL_RW
            # shellcheck disable=SC2086
            exec systemd-nspawn --quiet --boot --register=no --keep-unit \
                --machine="$name" --hostname="$name" --directory="$d/root" \
                --network-bridge=br0 --console=read-only \
                --resolv-conf=off --timezone=off --link-journal=no ${NSPAWN_EXTRA:-}
        ) >> "$d/log" 2>&1 < /dev/null &
        pid=$!
        rc=0; wait "$pid" || rc=$?
        echo "hostlab: nspawn ended with $rc" >> "$d/log"
        # 133: the host asked to reboot.
        [ "$rc" = 133 ] || touch "$d/off"
        # No process of this boot may live into the next (a killed nspawn leaves them all).
        echo 1 > "$cg/cgroup.kill"
        until find "$cg" -depth -type d -exec rmdir {} + 2> /dev/null; do sleep 0.05; done
    done
}

# Stops the lab when the process that asked for it is gone, however it went.
watch_main() {
    local t; t=$(start_time "$WATCH_PID")
    while alive "$LAB_DIR/lab.pid"; do
        if [ -z "$t" ] || [ "$(start_time "$WATCH_PID")" != "$t" ]; then exec "${0%/*}/down.sh" --cut; fi
        sleep 0.5
    done
}

# ---------------------------------------------------------------- what the user calls

write_helpers() {
    local h
    {
        echo '[controllers]'
        for h in $HOSTS; do echo "${h%%=*} ansible_host=${h#*=}"; done
        printf '%s\n' '' '[all:vars]' 'ansible_user=root' 'ansible_python_interpreter=/usr/bin/python3' \
            "ansible_ssh_common_args=-F $LAB_DIR/ssh_config" \
            "ansible_control_path_dir=$LAB_DIR/cp"  # or ansible would speak to another lab at the same address
    } > "$LAB_DIR/inventory.ini"
    {
        for h in $HOSTS; do printf '%s\n' "Host ${h%%=*}" "    HostName ${h#*=}"; done
        printf '%s\n' 'Host *' "    IdentityFile $LAB_DIR/id_ed25519" '    IdentitiesOnly yes' '    User root' \
            "    UserKnownHostsFile $LAB_DIR/known_hosts" '    StrictHostKeyChecking yes' '    ConnectTimeout 5'
    } > "$LAB_DIR/ssh_config"
    cat > "$LAB_DIR/run" <<END
#!/bin/sh
# run CMD...: CMD in the lab's network.
read -r pid _ < '$LAB_DIR/lab.pid' && exec nsenter --net="/proc/\$pid/ns/net" -- "\$@"
END
    cat > "$LAB_DIR/on" <<END
#!/bin/bash
# on HOST CMD...: CMD inside HOST, as root. 75 when the host is not up.
cg='$CGROUP'/\$1/payload; shift
for pid in \$(cat "\$cg/init.scope/cgroup.procs" "\$cg/cgroup.procs" 2> /dev/null); do
    # The host's systemd is the one that is process 1 of its own namespace.
    grep -qsE '^NSpid:.*[[:space:]]1\$' "/proc/\$pid/status" || continue
    # With the capabilities that nspawn leaves a host, so that a slip cannot reach the machine's clock.
    exec nsenter --target "\$pid" --all --root --wd -- \\
        setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-sys_pacct,-ipc_lock,-syslog,-wake_alarm,-block_suspend,-mac_admin,-mac_override,-sys_resource,-perfmon,-bpf,-audit_read,-checkpoint_restore \\
        env -i TERM=dumb LANG=C.UTF-8 HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "\$@"
done
exit 75
END
    cat > "$LAB_DIR/power" <<END
#!/bin/bash
# power HOST on|off|cut|reboot: off shuts down in order, cut takes the power away.
# "on" and "reboot" return once the host has started, and print running or degraded.
on='$LAB_DIR/on' host=\$1 d='$LAB_DIR'/\$1 cg='$CGROUP'/\$1
[ -d "\$d/upper" ] || { echo "no host \$host" >&2; exit 2; }
gone() { for _ in \$(seq 1000); do [ -d "\$cg" ] || return 0; sleep 0.1; done; return 1; }
boot() { "\$on" "\$host" cat /proc/sys/kernel/random/boot_id; }
started() {
    local state id _
    for _ in \$(seq $((TIMEOUT * 10))); do
        id=\$(boot)
        if [ -n "\$id" ] && [ "\$id" != "\$1" ]; then
            state=\$(timeout $TIMEOUT "\$on" "\$host" systemctl is-system-running --wait 2> /dev/null)
            case \$state in running | degraded) echo "\$state"; return ;; esac
        fi
        sleep 0.1
    done
    return 1
}
case \$2 in
    on) rm -f "\$d/off"; started "" ;;
    off)
        touch "\$d/off"
        until [ ! -d "\$cg" ] || "\$on" "\$host" systemctl --no-block poweroff 2> /dev/null; do sleep 0.1; done
        gone ;;
    cut) touch "\$d/off"; [ ! -d "\$cg" ] || echo 1 > "\$cg/cgroup.kill"; gone ;;
    reboot) id=\$(boot); "\$on" "\$host" systemctl --no-block reboot; started "\$id" ;;
    *) echo "usage: power HOST on|off|cut|reboot" >&2; exit 2 ;;
esac
END
    chmod 0755 "$LAB_DIR/run" "$LAB_DIR/on" "$LAB_DIR/power"
}

# Waits until HOST's systemd has finished starting and its sshd answers.
wait_host() {
    local name=$1 addr=$2 end=$((SECONDS + TIMEOUT)) state=
    until [ "$state" = running ] || [ "$state" = degraded ]; do
        [ $SECONDS -lt $end ] || { tail -n 20 "$LAB_DIR/$name/log" >&2; die "$name did not come up in ${TIMEOUT} s (state: ${state:-none})"; }
        state=$(timeout "$TIMEOUT" "$LAB_DIR/on" "$name" systemctl is-system-running --wait 2> /dev/null) || true
        [ -n "$state" ] || sleep 0.1
    done
    if [ "$state" = degraded ]; then
        "$LAB_DIR/on" "$name" systemctl --failed --no-pager --plain --no-legend >&2
        die "$name came up degraded"
    fi
    until "$LAB_DIR/run" bash -c "exec 3<> /dev/tcp/$addr/22" 2> /dev/null; do
        [ $SECONDS -lt $end ] || die "$name: sshd does not answer on $addr"
        sleep 0.1
    done
}

up() {
    local tool h
    [ "$(id -u)" = 0 ] || die 'needs root'
    for tool in systemd-nspawn ip unshare nsenter setpriv ssh-keygen flock findmnt; do
        command -v "$tool" > /dev/null || die "needs $tool"
    done
    command -v mmdebstrap > /dev/null || command -v debootstrap > /dev/null || die 'needs mmdebstrap or debootstrap'
    [ -n "$(cgroup2_mount)" ] || die 'needs a mounted cgroup2 hierarchy'
    alive "$LAB_DIR/lab.pid" && die "a lab is already up in $LAB_DIR"
    if [ -e "$LAB_DIR" ] && [ ! -e "$LAB_DIR/.hostlab" ] && [ -n "$(ls -A "$LAB_DIR")" ]; then
        die "$LAB_DIR exists and is no lab"
    fi
    ROOTFS=$(rootfs) || exit 1
    rm -rf "$LAB_DIR"
    mkdir -p "$LAB_DIR" /run/systemd/nspawn
    chmod 0755 "$LAB_DIR"
    touch "$LAB_DIR/.hostlab"
    LAB_CGROUP=hostlab-$(printf '%s' "$LAB_DIR" | sha256sum | cut -c1-8)
    CGROUP=$(cgroup2_mount)/$LAB_CGROUP
    mkdir -p "$CGROUP"
    echo "$CGROUP" > "$LAB_DIR/cgroup"
    ssh-keygen -q -t ed25519 -N '' -C hostlab -f "$LAB_DIR/id_ed25519"
    for h in $HOSTS; do prepare_host "${h%%=*}" "${h#*=}"; done
    write_helpers
    # What a test suite wants on the hosts before they boot goes here.
    [ -z "${BEFORE_BOOT:-}" ] || LAB_DIR=$LAB_DIR bash -euc "$BEFORE_BOOT" || die 'BEFORE_BOOT failed'
    export LAB_DIR CACHE_DIR HOSTS GATEWAY ROOTFS LAB_CGROUP SYSCTL_RW NSPAWN_EXTRA WATCH_PID CGROUP
    setsid unshare --mount --net --pid --fork --kill-child --mount-proc -- "$0" --lab \
        > "$LAB_DIR/lab.log" 2>&1 < /dev/null &
    echo "$! $(start_time $!)" > "$LAB_DIR/lab.pid.new"
    until [ -e "$LAB_DIR/started" ]; do
        kill -0 $! 2> /dev/null || { cat "$LAB_DIR/lab.log" >&2; die 'the lab did not start'; }
        sleep 0.02
    done
    mv "$LAB_DIR/lab.pid.new" "$LAB_DIR/lab.pid"
    if [ -n "${WATCH_PID:-}" ]; then setsid "$0" --watch > /dev/null 2>&1 < /dev/null & fi
    for h in $HOSTS; do wait_host "${h%%=*}" "${h#*=}"; done
    say "up: $(names | tr '\n' ' ')in $LAB_DIR"
}

case ${1:-} in
    --lab) lab_main ;;
    --watch) watch_main ;;
    --rootfs) rootfs ;;
    '') up ;;
    *) die "usage: up.sh (settings are environment variables, see the top of the file)" ;;
esac
