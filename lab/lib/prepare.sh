# Where things are, and all that a boot needs. Sourced by lab/run and lab/bench, with `lab` set.
top=$(dirname "$lab")
work=$lab/work
share=$work/share
binaries=${LAB_BINARIES:-${CARGO_TARGET_DIR:-$top/target}/release}
mkdir -p "$work"

say() { printf '%s\n' "lab: $*" >&2; }

. "$lab/lib/install.sh"
. "$lab/lib/image.sh"
. "$lab/lib/boot.sh"
. "$lab/lib/scenarios.sh"

build_programs() {
    [[ -z ${LAB_BINARIES:-} ]] || return 0
    say "building the programs"
    (
        cd "$top"
        cargo build --quiet --release -p xenvelope-lab
        if grep -qs xenvelope-backend backend/Cargo.toml && [[ -e backend/src/bin || -e backend/src/main.rs ]]; then
            cargo build --quiet --release -p xenvelope-backend --features daemon --bin xenvelope-backend
            cargo build --quiet --release -p xenvelope-frontend --features agent --bin xenvelope-guest
        fi
    )
}

prepare() {
    [[ $(id -u) = 0 ]] || { say "must be root"; exit 1; }
    if [[ -e $work/qemu.pid ]] && kill -0 "$(<"$work/qemu.pid")" 2>/dev/null; then
        say "a lab is up in this tree: lab/run down"
        exit 1
    fi
    install_packages
    unpack_kernel
    build_programs
    build_images
}
