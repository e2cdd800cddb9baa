#!/bin/busybox sh
# The guest's first process: brings the host's root file system up read-only under a tmpfs, runs one command, powers off.
# Stage 1 runs in the initramfs, stage 2 in the real root. vm_dir and modules come from the kernel command line.
say() { echo "vm: $*" >/dev/console; }

stage1() {
    /bin/busybox --install -s /bin
    mount -t proc proc /proc; mount -t devtmpfs dev /dev
    for opt in $(cat /proc/cmdline); do case $opt in skepvm.*) eval "${opt#skepvm.}";; esac; done
    for m in $(cat /modules.load); do insmod "$m" || say "insmod $m failed"; done
    p9=trans=virtio,version=9p2000.L,msize=512000
    mkdir -p /lower /rw /new
    mount -t 9p -o ro,$p9,cache=loose rootfs /lower || { say "no root"; poweroff -f; }
    mount -t tmpfs -o mode=755,size=75% rw /rw && mkdir /rw/upper /rw/work
    mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /new
    mount -t tmpfs -o mode=755 run /new/run
    mkdir -p /new/run/skepvm /new"$vm_dir"/out /new/lib/modules
    mount -t 9p -o rw,$p9,cache=none out /new"$vm_dir"/out
    mount -t 9p -o rw,$p9,cache=none job /new/run/skepvm
    mount --bind /new"$modules" /new/lib/modules
    cp /init /bin/busybox /kmod /new/run/
    [ -e /new/sbin/modprobe ] || ln -sf /run/kmod /new/sbin/modprobe
    umount /proc; mount --move /dev /new/dev
    exec switch_root /new /run/busybox sh /run/init stage2
}

stage2() {
    b=/run/busybox
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    $b mount -t proc proc /proc
    $b mount -t sysfs sys /sys
    for fs in "tracefs /sys/kernel/tracing" "debugfs /sys/kernel/debug" "securityfs /sys/kernel/security" \
              "bpf /sys/fs/bpf" "cgroup2 /sys/fs/cgroup" "tmpfs /dev/shm" "devpts /dev/pts" "tmpfs /tmp"; do
        set -- $fs
        $b mkdir -p "$2" 2>/dev/null
        $b mount -t "$1" "$1" "$2" || say "mount $fs failed"
    done
    $b chmod 1777 /tmp /dev/shm
    $b ip link set lo up
    $b hostname vm
    ulimit -l unlimited
    ulimit -n 65536
    $b stty -F /dev/ttyS1 raw -echo
    # In a session of its own, so that a command which signals its group spares the first process.
    $b setsid /run/busybox sh /run/skepvm/command </dev/null >/dev/ttyS1 2>&1
    echo $? >/run/skepvm/rc
    # stty waits until the output has drained.
    $b sync
    $b stty -F /dev/ttyS1 raw
    $b poweroff -f
}
case ${1:-} in stage2) stage2;; *) stage1;; esac
