# Set-up for run-qemu.sh, which sources this: what is missing is installed, or named with the command to type.
# Uses its `say`, `die`, `ROOT`, `E_SETUP`, `host` and `uefi`; sets `tools` (the toolchain's LLVM programs) and, for UEFI,
# `ovmf_code` and `ovmf_vars`.

# Installs packages by their name in whichever package manager there is, or dies with the command to type.
install_packages() { # WHAT-FOR APT-NAMES DNF-NAMES PACMAN-NAMES
    local sudo='' command='' refresh=true
    if command -v apt-get >/dev/null; then
        refresh='apt-get -q update'
        command="apt-get -q install -y --no-install-recommends $2"
    elif command -v dnf >/dev/null; then
        command="dnf install -y $3"
    elif command -v pacman >/dev/null; then
        command="pacman -Sy --noconfirm --needed $4"
    else
        die $E_SETUP "$1 is missing, and there is no apt-get, dnf or pacman to install it with"
    fi
    if [[ $(id -u) != 0 ]]; then
        sudo -n true 2>/dev/null || die $E_SETUP "$1 is missing; install it with: sudo $command"
        sudo='sudo -n'
    fi
    say "$1 is missing; running: $sudo $command"
    $sudo env DEBIAN_FRONTEND=noninteractive $refresh >&2 </dev/null || say "the package lists could not be refreshed"
    $sudo env DEBIAN_FRONTEND=noninteractive $command >&2 </dev/null ||
        die $E_SETUP "$1 could not be installed; the command was: $sudo $command"
}

need_program() { # PROGRAM APT-NAMES DNF-NAMES PACMAN-NAMES
    command -v "$1" >/dev/null && return
    install_packages "$@"
    command -v "$1" >/dev/null || die $E_SETUP "$1 is still not on the PATH after its installation"
}

# The pinned toolchain with every component and target. Asked for by hand: rustup may have been told not to
# install on its own (RUSTUP_AUTO_INSTALL=0).
need_toolchain() {
    command -v rustup >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    command -v rustup >/dev/null || die $E_SETUP "rustup is missing; install it from https://rustup.rs"
    cd "$ROOT" || exit $E_SETUP
    local sysroot
    sysroot=$(RUSTUP_AUTO_INSTALL=0 rustc --print sysroot 2>/dev/null) || sysroot=
    host_triple=$(RUSTUP_AUTO_INSTALL=0 rustc -vV 2>/dev/null | sed -n 's/^host: //p')
    tools=$sysroot/lib/rustlib/$host_triple/bin
    [[ -n $sysroot && -x $tools/llvm-strip && -d $sysroot/lib/rustlib/x86_64-unknown-none &&
        -d $sysroot/lib/rustlib/src && -x $sysroot/bin/cargo-clippy && -x $sysroot/bin/cargo-miri && -x $sysroot/bin/rustfmt ]] && return
    say "installing the Rust toolchain of rust-toolchain.toml"
    rustup toolchain install >&2 || die $E_SETUP "the toolchain could not be installed; the command was:" \
        "rustup toolchain install (in $ROOT)"
    sysroot=$(rustc --print sysroot)
    host_triple=$(rustc -vV | sed -n 's/^host: //p')
    tools=$sysroot/lib/rustlib/$host_triple/bin
    [[ -x $tools/llvm-strip ]] || die $E_SETUP "the toolchain has no llvm-strip: component llvm-tools is missing"
}

need_tools() {
    need_toolchain
    # rustc links host programs through the C compiler driver.
    need_program cc "gcc libc6-dev" "gcc glibc-devel" "gcc"
    [[ $host == yes ]] && return
    need_program qemu-system-x86_64 "qemu-system-x86" "qemu-system-x86-core" "qemu-system-x86"
    [[ $uefi == no ]] && return
    find_ovmf && return
    install_packages "OVMF (UEFI firmware)" ovmf edk2-ovmf edk2-ovmf
    find_ovmf || die $E_SETUP "no OVMF firmware found under /usr/share after its installation"
}

# What makes and checks the volumes of .ci/fat.
need_fat_tools() {
    PATH=$PATH:/usr/sbin:/sbin
    need_program mkfs.fat dosfstools dosfstools dosfstools
    need_program mcopy mtools mtools mtools
}

# Sets ovmf_code and ovmf_vars to the first pair of firmware and variable store that exists.
find_ovmf() {
    local pair
    for pair in OVMF/OVMF_{CODE,VARS}_4M.fd OVMF/OVMF_{CODE,VARS}.fd \
        edk2/ovmf/OVMF_{CODE,VARS}.fd edk2/x64/OVMF_{CODE,VARS}.4m.fd edk2-ovmf/x64/OVMF_{CODE,VARS}.fd; do
        case $pair in
            *CODE*) ovmf_code=/usr/share/$pair ;;
            *) ovmf_vars=/usr/share/$pair && [[ -r $ovmf_code && -r $ovmf_vars ]] && return ;;
        esac
    done
    return 1
}
