#!/bin/bash
# Runs a shell script as root on a Linux kernel with WireGuard: in a virtual machine that sees the files of this one, and
# cannot write to them except in /run. Prints what the script prints, and `exit status N` at the end.
#
#   run.sh SCRIPT        77 where the machine cannot be made, with the reason
#
# It needs qemu-system-x86_64, a static busybox, cpio, and a kernel of at least 6.7 in /boot with its modules:
#   apt-get install qemu-system-x86 busybox-static cpio kmod
set -euo pipefail
missing() { echo "skipped: $*" >&2; exit 77; }
for program in qemu-system-x86_64 busybox cpio modprobe xz; do
  command -v "$program" >/dev/null || missing "there is no program $program"
done
version=$(cd /boot && ls -d vmlinuz-* 2>/dev/null | sed 's/^vmlinuz-//' | sort -V | tail -1)
[[ -n $version && -d /lib/modules/$version ]] || missing "there is no kernel in /boot with its modules"
[[ $(printf '%s\n' 6.7 "$version" | sort -V | head -1) == 6.7 ]] || missing "the kernel $version is older than 6.7"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$folder/root
mkdir -p "$root"/{bin,modules,proc,sys,dev,host}
cp "$(command -v busybox)" "$root/bin/busybox"
for wanted in virtio_pci virtio_net 9pnet_virtio 9p wireguard; do
  listed=$(modprobe -S "$version" --show-depends "$wanted" 2>/dev/null) || missing "the kernel $version has no $wanted"
  while read -r kind path _; do
    [[ $kind == insmod ]] || continue
    name=$(basename "$path" .xz)
    grep -qx "$name" "$root/modules/order" 2>/dev/null && continue
    case $path in *.xz) xz -dc "$path" ;; *) cat "$path" ;; esac >"$root/modules/$name"
    echo "$name" >>"$root/modules/order"
  done <<<"$listed"
done
cat >"$root/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc none /proc
$b mount -t sysfs none /sys
$b mount -t devtmpfs none /dev
for module in $($b cat /modules/order); do $b insmod "/modules/$module"; done
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 host /host
$b mount -t proc none /host/proc
$b mount -t sysfs none /host/sys
$b mount -t devtmpfs none /host/dev
$b mount -t tmpfs none /host/run
$b chroot /host /bin/sh -c "$($b sed 's/.*script=//' /proc/cmdline | $b base64 -d)"
echo "exit status $?"
$b poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet) >"$folder/initrd"
script=$(printf %s "$1" | base64 -w0)
timeout 300 qemu-system-x86_64 -accel tcg -cpu max -m 512 -nographic -no-reboot -nodefaults -serial stdio \
  -kernel "/boot/vmlinuz-$version" -initrd "$folder/initrd" \
  -append "console=ttyS0 quiet panic=-1 script=$script" \
  -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap </dev/null
