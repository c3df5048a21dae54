#!/usr/bin/env bash
# Sets up, builds what is stale, boots Quire in QEMU, runs its tests and benches. `--help` lists the options.
# Only the guest's output goes to standard output; everything this script has to say goes to standard error.
set -uo pipefail

readonly ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly E_FAILED=1 E_USAGE=2 E_PANIC=3 E_SETUP=4 E_TIMEOUT=124
readonly MIN_MEM=32M MIN_UEFI_MEM=48M MAX_MEM=64G MIN_DISK=1M MAX_DISK=64G MAX_CPUS=16

usage() {
    cat <<'END'
Usage: ./run-qemu.sh [OPTIONS] [-- QEMU-ARGS]

What to do (default: an interactive console; Ctrl-] x ends QEMU, Ctrl-] h lists more escapes. Commands from a file or a pipe on
standard input are run line by line, and their end is the machine's):
  --exec 'CMD; CMD'  boot, run console commands, print what they print, power off
  --test [PATTERN]   all tests: host tests, then the kernel's self-tests in QEMU (PATTERN: those only);
                     KTAP on standard output, then one line "N passed, N failed"
  --bench [NAME]     optimised build without the lab, deterministic instruction counting, one CPU
  --host             with --exec, --test or --bench: on the host simulator, without QEMU
  --setup            install what is missing, also for .ci/run, or name it; build and run nothing
  --help             this text

The machine:
  --cpus N           1 to 16 (default 4)
  --mem SIZE         32M to 64G (default 512M); a SIZE is a number followed by K, M or G
  --swap SIZE        a fresh sparse swap disk, 1M to 64G (default 256M); 0: no swap disk
  --disk FILE        use this raw image as the swap disk, and write to it
  --disk-errors LIST the swap disk fails these 512-byte sectors (1024 at most): read@SECTOR[+COUNT],write@SECTOR[+COUNT],...
                     each may end in :enospc (no space left, instead of an I/O error) and :once (each sector one time);
                     flushes@N: after N flushes the disk is whole again
  --data SIZE        a fresh sparse data disk for files, 1M to 64G (default 64M, none with --bench); 0: no data disk
  --data-image FILE  use this raw image as the data disk, and write to it
  --data-errors LIST as --disk-errors, for the data disk
  --data-slow N      the data disk writes at most N times a second, and keeps the rest waiting
  --uefi             boot by UEFI (OVMF) instead of BIOS; needs 48M
  --release          optimised build, no debug assertions
  --no-lab           build without the lab: no broken twins, no races, and the rules that `fix` switches are compiled in
  --small-tables     with --host: page tables of the two lowest levels have 8 entries, and a huge page 8 pages
  --icount           count instructions: TSC ticks become guest instructions; slower, one thread
  --pid-file FILE    keep QEMU's process id in this file while it runs
  --gdb              wait for a debugger on port 1234
  --display          show the VGA screen
  --timeout SECS     give up after SECS (default: 600 with --exec and --bench, 3600 for each machine of --test; 0: never)
  -- QEMU-ARGS       everything after -- goes to QEMU

Exit status: 0 all passed; 1 a test, command or oracle failed; 2 wrong usage; 3 kernel panic, or the machine
ended without a verdict; 4 QEMU or a tool is missing and could not be installed, or QEMU refused to start;
124 time-out; 130, 141, 143 ended by Ctrl-C, because nobody reads the output any more, or by a signal.
END
}

say() { printf 'run-qemu.sh: %s\n' "$*" >&2; }
die() { # STATUS MESSAGE
    local status=$1
    shift
    say "$*"
    exit "$status"
}
wrong() { die $E_USAGE "$* (--help lists the options)"; }

# shellcheck source=boot/setup.sh
source "$ROOT/boot/setup.sh"

# --- Options ----------------------------------------------------------------------------------------------

# Prints SIZE in bytes; fails when it is none.
bytes() {
    [[ $1 =~ ^([0-9]{1,12})([KMGkmg])$ ]] || { [[ $1 == 0 ]] && echo 0; return; }
    local n=$((10#${BASH_REMATCH[1]}))
    case ${BASH_REMATCH[2]} in
        [Kk]) echo $((n << 10)) ;;
        [Mm]) echo $((n << 20)) ;;
        [Gg]) echo $((n << 30)) ;;
    esac
}

check_size() { # OPTION SIZE MIN MAX
    local n
    n=$(bytes "$2") || wrong "bad size for $1: '$2'; a number followed by K, M or G is accepted"
    [[ $1 == @(--swap|--data) && $n == 0 ]] && return
    ((n >= $(bytes "$3") && n <= $(bytes "$4"))) || wrong "$1 $2 is out of range: $3 to $4 is accepted"
}

check_number() { # OPTION VALUE MIN MAX
    [[ $2 =~ ^[0-9]{1,9}$ ]] && ((10#$2 >= $3 && 10#$2 <= $4)) ||
        wrong "bad value for $1: '$2'; a number from $3 to $4 is accepted"
}

check_errors() { # OPTION LIST
    local rule='(read|write)@[0-9]{1,15}(\+[0-9]{1,4})?(:enospc)?(:once)?'
    [[ $2 =~ ^$rule(,$rule)*(,flushes@[1-9][0-9]?)?$ ]] ||
        wrong "bad value for $1: '$2'; read@SECTOR[+COUNT],write@SECTOR[+COUNT],... is accepted, each with :enospc or :once," \
            "and flushes@N (1 to 99) at the end"
    # Each sector is a rule on QEMU's command line, which has its limit.
    local sectors=0 one
    for one in ${2//,/ }; do
        one=${one%%:*}
        [[ $one == *+* ]] && ((sectors += 10#${one#*+})) || ((sectors += 1))
    done
    ((sectors <= 1024)) || wrong "$1 names $sectors sectors; at most 1024 are accepted"
}

mode=console exec='' pattern='' bench='' host=no
cpus='' mem=512M swap='' disk='' disk_errors='' data='' data_image='' data_errors='' data_slow=''
uefi=no profile=dev lab=yes small=no icount=no gdb=no display=no timeout='' pid_file='' qemu_args=()

set_mode() {
    [[ $mode == console ]] || wrong "--$mode and --$1 exclude each other"
    mode=$1
}

parse() {
    while (($#)); do
        local option=$1 value=${2-}
        case $option in
            --exec | --cpus | --mem | --swap | --disk | --disk-errors | --data | --data-image | --data-errors | --data-slow | --timeout | --pid-file)
                (($# >= 2)) || wrong "$option needs a value"
                shift
                ;;
        esac
        case $option in
            --help | -h) usage; exit 0 ;;
            --exec) set_mode exec; exec=$value ;;
            --setup) set_mode setup ;;
            --test | --bench)
                set_mode "${option#--}"
                if [[ -n $value && $value != -* ]]; then
                    [[ $option == --test ]] && pattern=$value || bench=$value
                    shift
                fi
                ;;
            --host) host=yes ;;
            --cpus) check_number $option "$value" 1 $MAX_CPUS; cpus=$((10#$value)) ;;
            --mem) check_size $option "$value" $MIN_MEM $MAX_MEM; mem=$value ;;
            --swap) check_size $option "$value" $MIN_DISK $MAX_DISK; swap=$value ;;
            --disk) disk=$value ;;
            --disk-errors) check_errors $option "$value"; disk_errors=$value ;;
            --data) check_size $option "$value" $MIN_DISK $MAX_DISK; data=$value ;;
            --data-image) data_image=$value ;;
            --data-errors) check_errors $option "$value"; data_errors=$value ;;
            --data-slow) check_number $option "$value" 1 1000000; data_slow=$((10#$value)) ;;
            --uefi) uefi=yes ;;
            --release) profile=fast ;;
            --no-lab) lab=no ;;
            --small-tables) small=yes ;;
            --icount) icount=yes ;;
            --pid-file) pid_file=$value ;;
            --gdb) gdb=yes ;;
            --display) display=yes ;;
            --timeout) check_number $option "$value" 0 999999; timeout=$((10#$value)) ;;
            --) shift; qemu_args=("$@"); break ;;
            -*) wrong "unknown option $option" ;;
            *) wrong "unexpected argument '$option'" ;;
        esac
        shift
    done
}

check_disk() { # IMAGE-OPTION IMAGE SIZE-OPTION SIZE
    [[ -n $2 ]] || return 0
    [[ -z $4 ]] || wrong "$1 and $3 exclude each other"
    [[ -e $2 ]] || wrong "disk image '$2' does not exist"
    [[ -f $2 || -b $2 ]] || wrong "disk image '$2' is neither a file nor a block device"
    [[ -r $2 && -w $2 ]] || wrong "disk image '$2' is not readable and writable"
}

# The kernel reads so many bytes of its command line: the lines of --exec, each after `exec=`, and one before them.
check_length() {
    local length
    length=$(sed 's/^/exec=/' <<<"$exec" | wc -c)
    ((length <= 65000)) || wrong "--exec has $length bytes: 65000 at most are accepted"
}

check_combination() {
    [[ $mode != exec || $host == yes ]] || check_length
    if [[ $mode == bench ]]; then
        profile=fast lab=no icount=yes
        [[ -n $cpus ]] || cpus=1
    fi
    [[ -n $cpus ]] || cpus=4
    [[ $small == no || $host == yes ]] || wrong "--small-tables needs --host: the MMU of a real machine has tables of 512 entries"
    if [[ $host == yes ]]; then
        [[ $mode != @(console|setup) ]] || wrong "--host needs --exec, --test or --bench"
        [[ $uefi$icount$gdb$display == *yes* && $mode != bench ]] &&
            wrong "--uefi, --icount, --gdb and --display do not go with --host"
        [[ -z $disk$disk_errors$data_errors$pid_file && ${#qemu_args[@]} == 0 ]] ||
            wrong "--disk, --disk-errors, --data-errors, --pid-file and QEMU-ARGS do not go with --host"
    fi
    # OVMF and the bootloader tread on each other in less.
    [[ $uefi == no ]] || (($(bytes "$mem") >= $(bytes $MIN_UEFI_MEM))) ||
        wrong "--mem $mem is too small for --uefi: the firmware needs at least $MIN_UEFI_MEM"
    check_disk --disk "$disk" --swap "$swap"
    check_disk --data-image "$data_image" --data "$data"
    [[ -z $disk ]] || disk=$(realpath "$disk")
    [[ -z $data_image ]] || data_image=$(realpath "$data_image")
    [[ -z $disk || $disk != "$data_image" ]] || wrong "--disk and --data-image name the same image"
    [[ -n $swap ]] || swap=256M
    [[ -n $data ]] || { [[ $mode == bench ]] && data=0 || data=64M; }
    [[ -z $disk_errors || -n $disk || $(bytes "$swap") != 0 ]] || wrong "--disk-errors needs a swap disk"
    [[ -z $data_errors || -n $data_image || $(bytes "$data") != 0 ]] || wrong "--data-errors needs a data disk"
    [[ -z $data_slow || -n $data_image || $(bytes "$data") != 0 ]] || wrong "--data-slow needs a data disk"
    if [[ -z $timeout ]]; then
        timeout=600
        [[ $mode == test ]] && timeout=3600
        [[ $mode == console || $gdb == yes ]] && timeout=0
    fi
}

# --- Build ------------------------------------------------------------------------------------------------

# One build at a time: what is built stays what it is until this run has taken it into its own
# folder. A build without the lab has a target folder of its own, so that neither kind replaces the
# other's programs.
locked() { # COMMAND...
    exec {lock}>target/lock
    flock -n "$lock" || { say "waiting for another build in this checkout"; flock "$lock"; }
    "$@" {lock}>&-
    local status=$?
    exec {lock}>&-
    return $status
}

build() { # cargo arguments; a warm build says nothing
    local quiet=-q
    [[ -x target/debug/boot || ! -t 2 ]] || quiet=
    # Standard output belongs to the guest.
    cargo build $quiet "$@" >&2 || die $E_FAILED "the build failed: cargo build $*"
}

# Makes elf (with symbols) and image in this run's folder. The image is made from a stripped copy:
# BIOS loads it sector by sector, and the debug information would take several seconds. It is
# replaced by a rename, so that a machine that still runs from the old one keeps it.
build_kernel() {
    [[ -x target/debug/boot ]] || say "first build: the bootloader takes a few minutes"
    build -p boot
    local variant=$profile built=$target/x86_64-unknown-none/${profile/dev/debug}/kernel firmware=()
    [[ $lab == yes ]] || variant+=-nolab
    build -p kernel --target x86_64-unknown-none --target-dir "$target" --profile "$profile" "${features[@]}"
    [[ $uefi == no ]] || firmware=(--uefi) variant+=-uefi
    cp "$built" "$run/kernel.elf"
    local made=target/quire-$variant.img
    if [[ ! -e $made || $built -nt $made || target/debug/boot -nt $made ]] || ! cmp -s "$built" "$made.elf"; then
        "$tools/llvm-strip" -o "$run/stripped" "$built" &&
            target/debug/boot "$run/stripped" "$run/new" "${firmware[@]}" >&2 ||
            die $E_FAILED "no disk image could be made from $built"
        mv "$run/new" "$made"
        cp "$built" "$made.elf"
    fi
    ln "$made" "$image"
}

# Makes host_program in this run's folder: the simulator.
build_host() {
    build -p lab --bin quire-host --target-dir "$target" --profile "$profile" "${features[@]}"
    cp "$target/${profile/dev/debug}/quire-host" "$host_program"
}

# --- The machine ------------------------------------------------------------------------------------------

# KVM is used only where a guest really runs: /dev/kvm may exist and fail at the first instruction. Without
# VMX or SVM it is KVM for paravirtual guests (kvm-pvm): it passes the probe, and fails in long mode. The
# probe is a boot sector of three instructions that writes 0x10 to isa-debug-exit: status 2 * 0x10 + 1.
kvm_works() {
    [[ -r /dev/kvm && -w /dev/kvm && $(uname -m) == x86_64 ]] || return
    grep -qwE 'vmx|svm' /proc/cpuinfo || return
    { printf '\xb0\x10\xe6\xf4\xf4'; head -c 505 /dev/zero; printf '\x55\xaa'; } >"$run/probe"
    # The group swallows the shell's report of an abort.
    {
        ulimit -c 0
        timeout 10 qemu-system-x86_64 -accel kvm -cpu host -m 32M -nodefaults -vga std -display none -no-reboot \
            -device isa-debug-exit,iobase=0xf4,iosize=0x04 \
            -drive "format=raw,snapshot=on,file=$run/probe" </dev/null >/dev/null
    } 2>/dev/null
    (($? == 33))
}

# A path as a value in QEMU's options, where a comma ends the value.
value() { printf '%s' "${1//,/,,}"; }

# Fills the array `machine`.
#
# q35: PCI Express with MSI-X, as the machines of the last decade have it; with -nodefaults (no network card,
#   no CD drive) it boots as fast as the older pc.
# -cpu max: every MMU feature the emulator has (NX, SMEP, SMAP, 1 GiB pages, PKU). la57=off: newer firmware
#   would enter the kernel with five page-table levels, ours has four. erms=off: REP MOVSB must not look
#   cheaper than it is when instructions are counted.
# tcg,thread=multi: one host thread per CPU, so that CPUs really race and TLBs really go stale. Hosts with a
#   weaker memory model than x86 run them on one thread.
# -vga std: the BIOS boot stage sets a VESA mode and hangs without a VGA card. -no-reboot: a triple fault
#   ends QEMU instead of starting over.
# isa-debug-exit at 0xf4: the kernel's way to say how it went; the process status is 2 * value + 1.
# fw_cfg opt/quire/cmdline: the command line, as a file: no quoting. The kernel reads 64 KiB.
# virtio-blk-pci: disable-legacy=on, the modern interface only. num-queues=1,queue-size=512: the kernel drives one
#   queue per disk, with room for 15 requests of 32 scattered pages. serial: what the disk is for; the kernel knows the data disk
#   by it. romfile= keeps option ROMs, and bootindex these disks, out of the boot. werror, rerror: every error is the guest's
#   business, also that the host has no space left, where QEMU would stop the machine.
describe_machine() {
    local accel cpu
    local tuning=la57=off,erms=off
    if [[ $icount == yes ]]; then
        accel=(-accel tcg,thread=single -icount shift=0) cpu=max,$tuning
    elif kvm_works; then
        accel=(-accel kvm) cpu=host,la57=off
    elif [[ $(uname -m) == x86_64 ]]; then
        accel=(-accel tcg,thread=multi) cpu=max,$tuning
    else
        accel=(-accel tcg,thread=single) cpu=max,$tuning
    fi
    machine=(qemu-system-x86_64 -name quire -no-user-config -nodefaults -machine q35 "${accel[@]}" -cpu "$cpu"
        -smp "$cpus" -m "$(($(bytes "$mem") >> 20))M" -no-reboot -vga std
        -device isa-debug-exit,iobase=0xf4,iosize=0x04
        -fw_cfg "name=opt/quire/cmdline,file=$(value "$run/cmdline")"
        -drive "if=none,id=boot,format=raw,snapshot=on,file=$(value "$image")" -device ide-hd,drive=boot,bootindex=0
        -pidfile "$pid_file")
    # More than the host may promise, as long as it is not used.
    (($(bytes "$mem") <= 8 << 30)) ||
        machine+=(-object "memory-backend-ram,id=ram,size=$(bytes "$mem"),reserve=off" -machine memory-backend=ram)
    [[ $display == yes ]] || machine+=(-display none)
    [[ $gdb == no ]] || machine+=(-gdb tcp::1234 -S)
    [[ $uefi == no ]] || machine+=(-drive "if=pflash,format=raw,readonly=on,file=$(value "$ovmf_code")"
        -drive "if=pflash,format=raw,snapshot=on,file=$(value "$ovmf_vars")")
    add_disk swap "$disk" "$swap" "$disk_errors" ''
    add_disk data "$data_image" "$data" "$data_errors" "$data_slow"
    machine+=("${qemu_args[@]}")
}

# A fresh disk dies with this run: its flushes need not reach the host's disk.
add_disk() { # swap|data IMAGE SIZE ERRORS WRITES-A-SECOND
    local name=$1 file=$2 errors=$4 slow=$5 flush=off driver=file
    if [[ -z $file ]]; then
        [[ $(bytes "$3") != 0 ]] || return 0
        file=$run/$name flush=on
        if [[ $name == swap ]]; then
            target/debug/mkswap "$file" "$(bytes "$3")"
        else
            truncate -s "$(bytes "$3")" "$file"
        fi || die $E_FAILED "no $name disk could be made"
    fi
    [[ ! -b $file ]] || driver=host_device
    machine+=(-blockdev "driver=$driver,node-name=${name}file,filename=$(value "$file"),cache.no-flush=$flush")
    local below=${name}file merging=on
    if [[ -n $errors ]]; then
        machine+=(-blockdev "{\"driver\":\"blkdebug\",\"node-name\":\"${name}err\",\"image\":\"$below\",\"inject-error\":[$(
            error_rules "$errors"
        )]$(state_rules "$errors")}")
        # Merged, neighbours of a bad request would fail with it.
        below=${name}err merging=off
    fi
    machine+=(-blockdev "driver=raw,node-name=$name,file=$below")
    local top=$name
    if [[ -n $slow ]]; then
        top=${name}slow
        machine+=(-object "throttle-group,id=${name}group,x-iops-write=$slow"
            -blockdev "driver=throttle,node-name=$top,throttle-group=${name}group,file=$name")
    fi
    machine+=(-device "virtio-blk-pci,drive=$top,serial=$name,disable-legacy=on,num-queues=1,queue-size=512,romfile=,request-merging=$merging,werror=report,rerror=report")
}

# blkdebug's rules: one for each sector. They belong to no event, so they stand from the beginning until one that belongs to
# an event takes their place: by such rules, which spoil no request, the disk recovers at the first request after the last flush.
error_rules() { # LIST
    local rule comma='' sector
    for rule in ${1//,/ }; do
        local count=1 errno=5 once=false kind=${rule%%@*} first=${rule#*@}
        [[ $first != *:once ]] || once=true first=${first%:once}
        [[ $first != *:enospc ]] || errno=28 first=${first%:enospc}
        if [[ $kind == flushes ]]; then
            for kind in read write; do
                printf ',{"event":"%s_aio","state":%d,"iotype":"discard","errno":5}' $kind $((first + 1))
            done
            continue
        fi
        [[ $first != *+* ]] || count=${first#*+} first=${first%+*}
        for ((sector = 10#$first; sector < 10#$first + 10#$count; sector++)); do
            printf '%s{"event":"none","iotype":"%s","errno":%d,"sector":%d,"once":%s}' "$comma" "$kind" "$errno" "$sector" $once
            comma=,
        done
    done
}

# blkdebug's states: each flush leads to the next one, as long as the list wants them counted.
state_rules() { # LIST
    local n next=',"set-state":['
    [[ $1 == *flushes@* ]] || return 0
    for ((n = 1; n <= ${1##*@}; n++)); do
        printf '%s{"event":"flush_to_os","state":%d,"new_state":%d}' "$next" "$n" $((n + 1))
        next=,
    done
    printf ']'
}

# --- Running ----------------------------------------------------------------------------------------------

# Ends our QEMU, and only that one.
stop_guest() {
    local pid
    pid=$(cat "$pid_file" 2>/dev/null) && kill "$pid" 2>/dev/null
}

# This run's folder. It is locked as long as anything of the run lives; what killed runs have left,
# goes.
make_run_folder() {
    local old held all
    # Nobody takes the folder for a leftover before it is locked.
    { mkdir -p target && exec {all}>target/runs && flock "$all" && run=$(mktemp -d "$ROOT/target/run.XXXXXX"); } 2>/dev/null ||
        die $E_SETUP "nothing can be written to $ROOT/target: run-qemu.sh needs a checkout that it can write to"
    exec {held}>"$run/held"
    flock "$held"
    for old in target/run.*; do
        [[ $old -ef $run ]] || { [[ -e $old/held ]] && ! flock -n "$old/held" true; } || rm -rf "$old"
    done
    exec {all}>&-
}

cleanup() {
    stop_guest
    [[ -z $terminal ]] || stty "$terminal" <&3 2>/dev/null
    rm -rf "$run"
}

# What makes this machine, as a command.
machine_words() {
    local words=(./run-qemu.sh --cpus "$cpus" --mem "$mem")
    [[ -n $disk ]] && words+=(--disk "$disk") || words+=(--swap "$swap")
    [[ -n $data_image ]] && words+=(--data-image "$data_image") || words+=(--data "$data")
    [[ -z $disk_errors ]] || words+=(--disk-errors "$disk_errors")
    [[ -z $data_errors ]] || words+=(--data-errors "$data_errors")
    [[ -z $data_slow ]] || words+=(--data-slow "$data_slow")
    [[ $profile == dev ]] || words+=(--release)
    [[ $lab == yes ]] || words+=(--no-lab)
    [[ $small == no ]] || words+=(--small-tables)
    [[ $uefi == no ]] || words+=(--uefi)
    [[ $icount == no ]] || words+=(--icount)
    ((${#qemu_args[@]} == 0)) || words+=(-- "${qemu_args[@]}")
    printf '%q ' "${words[@]}"
}

# Boots with COMMANDS on the command line, or with those of our standard input: of a terminal, a
# file or a pipe. The guest's filtered output goes to standard output. Returns our exit status.
boot_guest() { # [COMMANDS]
    local input=$null how=() line
    printf 'lab=%s\nmachine=%s\n' "$lab" "$(machine_words)" >"$run/cmdline"
    describe_machine
    if (($# == 0)) && [[ -t 3 ]]; then
        # signal=off: Ctrl-C is a key for the guest. mux: Ctrl-] x, and the monitor behind Ctrl-] c (QEMU's own
        # Ctrl-A is a key of the line editor).
        input=3 how=(--raw)
        machine+=(-chardev stdio,id=tty,mux=on,signal=off -serial chardev:tty -mon chardev=tty -echr 0x1d)
        say "Ctrl-] x ends QEMU, Ctrl-] h lists the other escapes"
    else
        machine+=(-chardev stdio,id=tty -serial chardev:tty -monitor none)
        if (($#)); then
            while IFS= read -r line; do
                printf 'exec=%s\n' "$line"
            done <<<"$1" >>"$run/cmdline"
        else
            input=3 how=(--pipe)
            echo 'input=pipe' >>"$run/cmdline"
        fi
    fi
    [[ $gdb == no ]] || say "waiting for a debugger: gdb -ex 'target remote :1234' $elf"
    target/debug/console "$elf" "${how[@]}" timeout --foreground -k 5 "$timeout" "${machine[@]}" <&"$input" &
    wait $!
    verdict $?
}

# Our exit status for QEMU's. The kernel writes 16 + its status to isa-debug-exit: 33 + 2 * status.
verdict() {
    local status=$1
    if ((status >= 33 && status <= 63 && status % 2 == 1)); then
        return $(((status - 33) / 2))
    fi
    case $status in
        0)
            # Ctrl-] x, or a power-off that is not ours.
            [[ $mode == console ]] && return 0
            say "the machine reset or powered off before it gave a verdict"
            return $E_PANIC
            ;;
        124 | 137)
            say "no verdict after $timeout seconds: QEMU was ended"
            return $E_TIMEOUT
            ;;
        141) return 141 ;;
        1 | 126 | 127) say "QEMU could not start the machine"; return $E_SETUP ;;
        *) say "QEMU ended with status $status"; return $E_PANIC ;;
    esac
}

# One phase of the tests as one test of the overall report, with its own tests below it. COMMAND
# prints KTAP, or is `cargo test`.
phase() { # NAME ktap|cargo COMMAND...
    local name=$1 tests=() statuses status failed result='not ok'
    # The plan comes first, so they are counted first.
    [[ $2 == ktap ]] || tests=(--cargo "$("${@:3}" --list 2>/dev/null | grep -c ': test$')")
    shift 2
    phases=$((phases + 1))
    "$@" | target/debug/report "$run/totals" "$name" "${tests[@]}"
    statuses=("${PIPESTATUS[@]}")
    status=${statuses[0]}
    if ((statuses[1] == 0)); then
        failed=$(tail -n 1 "$run/totals" | cut -d ' ' -f 2)
    else
        # The last totals are another phase's.
        failed=0 status=${statuses[1]}
    fi
    ((status == 0 && failed == 0)) && result=ok
    # A phase that died without naming a test is a failure of its own.
    ((status == 0 || failed > 0)) || echo "0 1 0" >>"$run/totals"
    printf '%s %d - %s\n' "$result" "$phases" "$name"
    if [[ $result != ok ]]; then
        case $status in
            $E_PANIC | $E_SETUP | $E_TIMEOUT) ;;
            *) status=$E_FAILED ;;
        esac
        ((worst != 0)) || worst=$status
    fi
}

host_command() { # quire-host's arguments; without --exec and --test it reads commands
    local files=(--data "$data") input=$null
    [[ $* == *--* ]] || input=3
    [[ -z $data_image ]] || files=(--data-image "$data_image")
    locked build_host || return
    timeout --foreground -k 5 "$timeout" "$host_program" \
        --cpus "$cpus" --mem "$mem" --swap "$swap" "${files[@]}" "$@" <&"$input"
}

failing_disk_test() { # ERRORS
    data_errors=$1
    # This disk fails: a test that is skipped, because it met no error, is no good.
    boot_guest "selftest run the_machines_own_errors" | sed -u 's/^\( *\)ok \(.*\) # SKIP/\1not ok \2 -/'
}

crash_test() { # its options; it runs this script for each machine that it kills
    locked build_host || return
    timeout --foreground -k 5 "$timeout" "$host_program" crash --script "$ROOT/run-qemu.sh" "$@" <&"$null"
}

# The README's first session, as it stands: each line is a test. It ends well; or with status 1,
# where its comment says that it fails, and only there. The console names each line that does not
# end well.
session_test() { # COMMAND..., which runs the commands on descriptor 3 and prints what they print
    local lines line status want=0 n=0 failed
    mapfile -t lines < <(sed -n '/^## A first session/,/^## /{/^```/,/^```/{/^```/!p}}' README.md)
    printf '%s\n' "${lines[@]}" >"$run/session"
    printf 'KTAP version 1\n1..%d\n' "${#lines[@]}"
    [[ ${lines[*]} != *"# fails"* ]] || want=$E_FAILED
    "$@" 3<"$run/session" | tee "$run/said" | sed -u 's/^/# /'
    status=${PIPESTATUS[0]}
    for line in "${lines[@]}"; do
        n=$((n + 1)) failed=$(sed -n "s/^# line $n: status //p" "$run/said")
        # Of a session that ended in another way nobody knows how far it came.
        if ((status == want)) && [[ $line == *"# fails"* && $failed == "$E_FAILED" || $line != *"# fails"* && -z $failed ]]; then
            printf 'ok %d - %s\n' $n "${line%%  *}"
        else
            printf 'not ok %d - %s\n' $n "${line%%  *}"
        fi
    done
    ((status == want))
}

run_tests() {
    local members=(--workspace --exclude kernel) worst=0 phases=0 total=3 sums crash=no failing=no session=no
    if [[ $host == yes ]]; then
        members=()
        # Without the disk images, which need the bootloader.
        build -p boot --bin report --no-default-features
    else
        locked build_kernel
        total=$((total + 1))
        [[ crash != *"$pattern"* ]] || crash=yes total=$((total + 2))
        [[ the_machines_own_errors != *"$pattern"* ]] || failing=yes total=$((total + 2))
    fi
    [[ a_first_session != *"$pattern"* ]] || session=yes total=$((total + 1))
    [[ $host$session != noyes ]] || total=$((total + 1))
    members+=(--features algo/explore)
    [[ $small == no ]] || members+=(--features lab/small-tables)
    local model=(-p sync --features loom --test loom)
    cargo test -q "${members[@]}" --no-run >&2 && cargo test -q "${model[@]}" --no-run >&2 ||
        die $E_FAILED "the host tests do not build"
    printf 'KTAP version 1\n1..%d\n' "$total"
    phase "unit and property tests" cargo timeout --foreground -k 5 "$timeout" \
        cargo test "${members[@]}" --no-fail-fast -- ${pattern:+"$pattern"}
    phase "locks and queues under loom" cargo timeout --foreground -k 5 "$timeout" \
        cargo test "${model[@]}" -- ${pattern:+"$pattern"}
    phase "self-tests on the simulator" ktap host_command --test ${pattern:+"$pattern"}
    [[ $host == yes ]] || phase "self-tests in QEMU" ktap boot_guest "selftest run${pattern:+ $pattern}"
    if [[ $session == yes ]]; then
        phase "the README's first session, on the simulator" ktap session_test host_command
        [[ $host == yes ]] || phase "the README's first session, in QEMU" ktap session_test boot_guest
    fi
    if [[ $failing == yes ]]; then
        phase "a data disk that fails for a while, in QEMU" ktap failing_disk_test write@88+8,write@120+8:enospc,flushes@6
        phase "a data disk that fails once, in QEMU" ktap failing_disk_test write@120:enospc:once
    fi
    if [[ $crash == yes ]]; then
        phase "promises kept when QEMU is killed" ktap crash_test --runs 4
        phase "synced files there when QEMU is killed" ktap crash_test --fat --runs 4
    fi
    sums=$(awk '{ p += $1; f += $2; s += $3 } END { printf "%d %d %d", p, f, s }' "$run/totals")
    read -r passed failed skipped <<<"$sums"
    ((skipped == 0)) || printf '# %d skipped\n' "$skipped"
    printf '%d passed, %d failed\n' "$passed" "$failed"
    return "$worst"
}

run_host() {
    if [[ $mode == bench ]]; then
        exec="bench${bench:+ $bench}"
    fi
    host_command --exec "$exec"
}

main() {
    parse "$@"
    check_combination
    need_tools
    [[ $mode != setup ]] || { need_fat_tools; exit 0; }
    { exec 3<&0; } 2>/dev/null || exec 3</dev/null
    exec {null}</dev/null
    terminal=$(stty -g <&3 2>/dev/null)
    make_run_folder
    trap cleanup EXIT
    elf=$run/kernel.elf image=$run/image host_program=$run/quire-host
    [[ -n $pid_file ]] || pid_file=$run/qemu.pid
    target=target features=()
    [[ $lab == yes ]] || target=target/nolab features=(--no-default-features)
    [[ $small == no ]] || features+=(--features small-tables)
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    case $mode/$host in
        test/*) run_tests ;;
        */yes) run_host ;;
        console/no) locked build_kernel && boot_guest ;;
        exec/no) locked build_kernel && boot_guest "$exec" ;;
        bench/no) locked build_kernel && boot_guest "bench${bench:+ $bench}" ;;
    esac
}

main "$@"; exit $?
