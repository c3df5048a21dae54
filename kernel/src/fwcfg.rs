//! The kernel's command line, from QEMU's fw_cfg file `opt/quire/cmdline`: one `key=value` per
//! line.
//!
//! | key | value |
//! |---|---|
//! | `exec` | a line of console commands; several are run in their order, then the machine powers off |
//! | `lab` | `yes` or `no`: whether a kernel with the lab was asked for; any other powers off with a message |
//! | `machine` | what makes this machine, as a command of the host: for those who replay a failure |
//! | `input` | `pipe`: nobody is at the serial port, commands come from a file or a pipe until Ctrl-D; else a terminal is there |
//!
//! Read once at boot through the port interface: a selector picks a file, its bytes come one by
//! one. Format: QEMU's docs/specs/fw_cfg. Locks: none, the boot CPU reads it. Never sleeps.

use alloc::string::String;
use alloc::vec::Vec;

use spin::Once;
use x86_64::instructions::port::Port;

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
/// The item that says who implements the interface.
const SIGNATURE: u16 = 0;
/// The list of files: a count, then entries of 64 bytes; numbers are big endian.
const DIRECTORY: u16 = 0x19;
const NAME: &[u8] = b"opt/quire/cmdline";
/// There are not more: a file has a selector of 16 bits.
const MAX_FILES: u32 = 1 << 16;
/// Longest command line that is read.
const MAX_BYTES: u32 = 64 * 1024;
/// Its size, where it is longer.
static TOO_LONG: Once<u32> = Once::new();

static COMMAND_LINE: Once<String> = Once::new();

/// Reads `N` bytes of the selected item.
fn read<const N: usize>() -> [u8; N] {
    let mut data = Port::<u8>::new(DATA);
    // SAFETY: reading fw_cfg's data port only advances its cursor; without the device it reads as
    // ones.
    core::array::from_fn(|_| unsafe { data.read() })
}

fn select(item: u16) {
    // SAFETY: writing fw_cfg's selector only picks what the data port shows.
    unsafe { Port::<u16>::new(SELECTOR).write(item) };
}

/// Selector and size of the command line's file.
fn find() -> Option<(u16, u32)> {
    select(SIGNATURE);
    if &read::<4>() != b"QEMU" {
        return None;
    }
    select(DIRECTORY);
    let files = u32::from_be_bytes(read()).min(MAX_FILES);
    (0..files).find_map(|_| {
        let size = u32::from_be_bytes(read());
        let item = u16::from_be_bytes(read());
        read::<2>();
        let name: [u8; 56] = read();
        let name = name.split(|&b| b == 0).next();
        (name == Some(NAME)).then_some((item, size))
    })
}

/// Reads the command line. Needs the heap. Without fw_cfg the command line is empty.
pub(crate) fn init() {
    COMMAND_LINE.call_once(|| {
        let Some((item, size)) = find() else {
            return String::new();
        };
        if size > MAX_BYTES {
            // A part of it would end within a command.
            TOO_LONG.call_once(|| size);
            return String::new();
        }
        select(item);
        let bytes: Vec<u8> = (0..size).map(|_| read::<1>()[0]).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    });
}

/// What is wrong with the command line, for the user.
pub(crate) fn complaint() -> Option<String> {
    let size = TOO_LONG.get()?;
    Some(alloc::format!(
        "the command line has {size} bytes: {MAX_BYTES} at most are accepted"
    ))
}

/// The values of `key` on the command line, in their order.
pub(crate) fn options(key: &str) -> impl Iterator<Item = &'static str> {
    let lines = COMMAND_LINE.get().map_or("", String::as_str).lines();
    lines
        .filter_map(|line| line.split_once('='))
        .filter_map(move |(k, value)| (k == key).then_some(value))
}
