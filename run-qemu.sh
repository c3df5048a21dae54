#!/usr/bin/env bash
# Builds the kernel and its BIOS image, boots it on the terminal.
set -euo pipefail
cd "$(dirname "$0")"
cargo build -q -p boot
cargo build -q -p kernel --target x86_64-unknown-none
tools=$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/bin
"$tools/llvm-strip" -o target/quire.stripped target/x86_64-unknown-none/debug/kernel
target/debug/boot target/quire.stripped target/quire.img
qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 512M -smp 4 -display none -no-reboot \
    -chardev stdio,id=c0,mux=on,signal=off -serial chardev:c0 -mon chardev=c0 \
    -device isa-debug-exit,iobase=0xf4,iosize=0x04 \
    -drive format=raw,file=target/quire.img,snapshot=on "$@" && status=0 || status=$?
[ "$status" -lt 33 ] && exit "$status"
exit $(((status - 33) / 2))
