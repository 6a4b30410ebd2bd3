# Installs what the lab needs from Debian, and unpacks a kernel. Sourced by lab/run; idempotent.

lab_packages=(
    xen-hypervisor-4.17-amd64 xen-utils-4.17 xenstore-utils busybox-static
    cpio iperf3 iproute2 ethtool xz-utils
)

qemu_is_new_enough() {
    local version
    version=$(qemu-system-x86_64 --version 2>/dev/null | sed -n 's/.*version \([0-9]*\)\..*/\1/p')
    [[ ${version:-0} -ge 8 ]]
}

# The backports of this release, from wherever this machine gets its packages: a mirror in use
# stays in use. Nothing is added where a source for them exists; a doubled one gives warnings.
add_backports() {
    local release file line
    release=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
    grep -rqs -- "$release-backports" /etc/apt/sources.list /etc/apt/sources.list.d && return
    for file in /etc/apt/sources.list.d/*.sources; do
        # The first paragraph that names the release itself (not its security updates).
        [[ -e $file ]] || continue
        awk -v RS= -v release="$release" '
            $0 ~ "(^|\n)Suites:[^\n]*[ \t]" release "([ \t\n]|$)" {
                sub(/Suites:[^\n]*/, "Suites: " release "-backports")
                print
                found = 1
                exit
            }
            END { exit !found }' "$file" >/etc/apt/sources.list.d/xenvelope-backports.sources && return
    done
    rm -f /etc/apt/sources.list.d/xenvelope-backports.sources
    line=$(grep -hsE "^deb .* $release( |$)" /etc/apt/sources.list /etc/apt/sources.list.d/*.list | head -1)
    [[ $line ]] || { echo "lab: no source for $release in /etc/apt to derive its backports from" >&2; return 1; }
    printf '%s\n' "${line/ $release / $release-backports }" >/etc/apt/sources.list.d/xenvelope-backports.list
}

install_packages() {
    local missing=() package
    for package in "${lab_packages[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing+=("$package")
    done
    if qemu_is_new_enough && [[ ${#missing[@]} -eq 0 ]]; then
        return
    fi
    say "installing from Debian: ${missing[*]} $(qemu_is_new_enough || echo qemu-system-x86)"
    export DEBIAN_FRONTEND=noninteractive
    if ! qemu_is_new_enough; then
        # The emulated 82576 came with QEMU 8.0; Debian 12 itself has 7.2.
        add_backports
        apt-get update -q >>"$work/apt.log" 2>&1
        apt-get install -y -q --no-install-recommends -t "$(. /etc/os-release && echo "$VERSION_CODENAME")-backports" \
            qemu-system-x86 >>"$work/apt.log" 2>&1
    else
        apt-get update -q >>"$work/apt.log" 2>&1
    fi
    if [[ ${#missing[@]} -gt 0 ]]; then
        apt-get install -y -q --no-install-recommends "${missing[@]}" >>"$work/apt.log" 2>&1
    fi
    qemu_is_new_enough || { echo "lab: QEMU 8 or newer is needed; see $work/apt.log" >&2; return 1; }
}

# The distribution's kernel, unpacked and not installed: this machine's own boot is none of ours.
unpack_kernel() {
    local package version
    if [[ -e $work/kernel/complete ]]; then
        return
    fi
    package=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p' | head -1)
    if [[ ! $package ]]; then
        apt-get update -q >>"$work/apt.log" 2>&1
        package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p' | head -1)
    fi
    version=${package#linux-image-}
    say "unpacking the kernel $version"
    rm -rf "$work/kernel" && mkdir -p "$work/kernel/download"
    # As root apt would fetch as its own user, who may not write here.
    (cd "$work/kernel/download" && apt-get -o APT::Sandbox::User=root download -q "$package" >>"$work/apt.log" 2>&1)
    dpkg-deb -x "$work"/kernel/download/*.deb "$work/kernel"
    rm -r "$work/kernel/download"
    busybox depmod -b "$work/kernel" "$version"
    extract_vmlinux "$work/kernel/boot/vmlinuz-$version" >"$work/kernel/vmlinux"
    printf '%s' "$version" >"$work/kernel/complete"
}

# A PV kernel is loaded as the ELF file in the bzImage. Taking it out here, once, spares each
# domain's boot the slow decompression under emulation.
extract_vmlinux() {
    local setup_sectors payload_offset payload_length start
    setup_sectors=$(od -An -tu1 -j 497 -N 1 "$1" | tr -d ' ')
    payload_offset=$(od -An -tu4 -j 584 -N 4 "$1" | tr -d ' ')
    payload_length=$(od -An -tu4 -j 588 -N 4 "$1" | tr -d ' ')
    start=$(((setup_sectors + 1) * 512 + payload_offset))
    # Four bytes at the payload's end are its unpacked size and no part of the stream.
    head -c $((start + payload_length - 4)) "$1" | tail -c +$((start + 1)) | xz -dc
}
