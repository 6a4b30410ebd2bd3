# Builds the initramfs of dom0 and of the guests. Sourced by lab/run.
#
# Archives are not compressed: unpacking under emulation costs more than reading them does.

# What dom0 loads, and what a guest may load; dependencies are added.
dom0_modules=(xen-privcmd xenfs xen-evtchn xen-gntdev xen-gntalloc bridge veth tun xen-netback xen-pciback igb
    virtio_pci 9pnet_virtio 9p)
guest_modules=(xen-privcmd xenfs xen-evtchn xen-gntdev xen-gntalloc tun xen-netfront xen-pcifront igbvf)

# install_program ROOT FILE [TARGET]: a program with the shared libraries that it needs.
install_program() {
    local root=$1 file=$2 target=${3:-$2} library
    install -D "$file" "$root$target"
    for library in $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*'); do
        [[ -e $root$library ]] || install -D "$library" "$root$library"
    done
}

# install_modules ROOT NAME...: kernel modules and what they depend on, for busybox's modprobe.
install_modules() {
    local root=$1 version tree line file name
    shift
    version=$(<"$work/kernel/complete")
    tree=lib/modules/$version
    mkdir -p "$root/$tree"
    for name in "$@"; do
        line=$(grep -E "/${name//[-_]/[-_]}\.ko:" "$work/kernel/$tree/modules.dep" || true)
        [[ $line ]] || { echo "lab: this kernel has no module $name" >&2; return 1; }
        for file in ${line/:/ }; do
            install -D -m 644 "$work/kernel/$tree/$file" "$root/$tree/$file"
        done
    done
    cp "$work/kernel/$tree"/modules.{order,builtin} "$root/$tree/"
    busybox depmod -b "$root" "$version"
}

# skeleton ROOT: busybox, and the folders that everything expects.
skeleton() {
    mkdir -p "$1"/{bin,sbin,dev,proc,sys,run,tmp,etc,root,usr/bin,usr/sbin,usr/local/bin,var/log}
    install /bin/busybox "$1/bin/busybox"
    /bin/busybox --list | grep -vxE 'busybox|ip|sh|ash' | while read -r name; do ln -s busybox "$1/bin/$name"; done
    # Not busybox's shell, which would run its own `ip` whatever stands in PATH.
    install_program "$1" "$(readlink -f "$(command -v dash)")" /bin/sh
    # busybox's own knows no VFs, no bridges and no namespaces.
    install_program "$1" "$(readlink -f "$(command -v ip)")" /sbin/ip
    install_program "$1" "$(readlink -f "$(command -v bridge)")" /sbin/bridge
    install_program "$1" "$(readlink -f "$(command -v iperf3)")" /usr/bin/iperf3
    install_program "$1" "$(readlink -f "$(command -v ethtool)")" /sbin/ethtool
    # xl, and threads that are cancelled, open it by name at run time.
    install -D /lib/x86_64-linux-gnu/libgcc_s.so.1 "$1/lib/x86_64-linux-gnu/libgcc_s.so.1"
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$1/etc/passwd"
    printf 'root:x:0:\n' >"$1/etc/group"
    printf '127.0.0.1 localhost\n' >"$1/etc/hosts"
}

# pack ROOT OUT
pack() {
    (cd "$1" && find . | LC_ALL=C sort | cpio --quiet -o -H newc) >"$2.new"
    mv "$2.new" "$2"
}

build_guest_image() {
    local root=$work/image/guest
    rm -rf "$root" && mkdir -p "$root"
    skeleton "$root"
    install_modules "$root" "${guest_modules[@]}"
    install "$lab/image/guest-init" "$root/init"
    pack "$root" "$work/image/guest.cpio"
}

build_dom0_image() {
    local root=$work/image/dom0 program xen_bin=/usr/lib/xen-4.17/bin
    rm -rf "$root" && mkdir -p "$root"
    skeleton "$root"
    install_modules "$root" "${dom0_modules[@]}"
    mkdir -p "$root"/{etc/xen/scripts,var/lib/xen,var/lib/xenstored,var/log/xen/console,root/guest}
    for program in xl xenstored xenconsoled xenconsole xen-init-dom0 libxl-save-helper; do
        install_program "$root" $xen_bin/$program
    done
    for program in read write list ls rm exists chmod watch; do
        install_program "$root" "$(readlink -f /usr/bin/xenstore-$program)" /usr/bin/xenstore-$program
    done
    printf 'autoballoon="off"\n' >"$root/etc/xen/xl.conf"
    install "$lab/image/vif-bridge" "$root/etc/xen/scripts/vif-bridge"
    install "$lab/image/dom0-init" "$root/init"
    cp "$work/kernel/vmlinux" "$root/root/guest/vmlinux"
    cp "$work/image/guest.cpio" "$root/root/guest/guest.cpio"
    pack "$root" "$work/image/dom0.cpio"
}

build_images() {
    local stamp
    stamp=$(cat "$lab/lib/image.sh" "$lab"/image/* "$work/kernel/complete" | sha256sum)
    mkdir -p "$work/image"
    if [[ -e $work/image/complete && $(<"$work/image/complete") = "$stamp" ]]; then
        return
    fi
    say "building images"
    rm -f "$work/image/complete"
    build_guest_image
    build_dom0_image
    # QEMU boots Xen as a multiboot kernel: unpacked, with Linux and its initramfs as modules.
    zcat /boot/xen-4.17-amd64.gz >"$work/image/xen"
    printf '%s' "$stamp" >"$work/image/complete"
}
