#!/bin/sh
# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Becomes a host of the lab. Runs as the first process of new mount, PID and UTS namespaces; ends as an SSH daemon.
set -eu
tree=$1 own=$2 name=$3 address=$4 port=$5 host_key=$6 client_key=$7 ca=$8 shared=$9
root=$own/root

hostname "$name"
mount -t overlay lab -o "lowerdir=$tree,upperdir=$own/upper,workdir=$own/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 run "$root/run"
mount -t tmpfs -o mode=755 dev "$root/dev"
mkdir -p "$root/shared"
mount --bind "$shared" "$root/shared"

node() { # name mode kind major minor
    mknod -m "$2" "$root/dev/$1" "$3" "$4" "$5"
}
node null 666 c 1 3
node zero 666 c 1 5
node full 666 c 1 7
node random 666 c 1 8
node urandom 666 c 1 9
node tty 666 c 5 0
node fuse 666 c 10 229
node loop-control 660 c 10 237
for number in 0 1 2 3 4 5 6 7; do
    node "loop$number" 660 b 7 "$number"
done
mkdir "$root/dev/pts" "$root/dev/shm" "$root/run/sshd" "$root/run/lock"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"

echo "$name" > "$root/etc/hostname"
# Where the machine itself lacks a capability, Apptainer cannot give root all of them, and refuses to start as root.
held=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
if [ "$held" != "$(printf %016x $(((1 << ($(cat /proc/sys/kernel/cap_last_cap) + 1)) - 1)))" ]; then
    sed -i 's/^root default capabilities =.*/root default capabilities = file/' "$root/etc/apptainer/apptainer.conf"
fi
# Root lacks it then too for the scripts of a definition. With a range of subordinate identifiers, fakeroot gives it all.
for file in subuid subgid; do
    grep -q '^root:' "$root/etc/$file" || echo root:200000:65536 >> "$root/etc/$file"
done
printf '127.0.0.1 localhost\n%s %s\n' "$address" "$name" > "$root/etc/hosts"
cat /etc/resolv.conf > "$root/etc/resolv.conf" 2> /dev/null || true
install -m 644 "$ca" "$root/etc/ssl/lab-ca.pem"
install -m 600 "$host_key" "$root/etc/ssh/ssh_host_ed25519_key"
install -d -m 700 "$root/root/.ssh"
install -m 600 "$client_key" "$root/root/.ssh/authorized_keys"
install -d -m 700 -o 1000 -g 1000 "$root/home/hpc/.ssh"
install -m 600 -o 1000 -g 1000 "$client_key" "$root/home/hpc/.ssh/authorized_keys"

cd "$root"
mkdir -p .before
pivot_root . .before
# shellcheck disable=SC2016 # it is the inner shell that expands them
exec chroot . /bin/sh -c '
    umount -l /.before && rmdir /.before
    exec /usr/sbin/sshd -D -e -p "$2" -o "ListenAddress=$1" -o UsePAM=no -o MaxStartups=200 -o MaxSessions=200 \
        -o PermitRootLogin=yes -o PasswordAuthentication=no -o UseDNS=no -o HostKey=/etc/ssh/ssh_host_ed25519_key \
        -o PrintMotd=no
' sshd "$address" "$port"
